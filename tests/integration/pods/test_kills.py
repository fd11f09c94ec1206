"""A pod is killed under load, as when its machine is lost: who has another copy notices nothing, who has not waits for one load.

Three pods with room for all. Models of two copies are kept so by their alias's minimum; the others have one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import grpc
import pytest
from grpc import StatusCode, aio

from tests.integration.etcd.server import Etcd
from tests.integration.pods.traffic import LIMIT, traffic
from tests.support.client import Conversation, answer, example, refused, to
from tests.support.cluster import Cluster, a_cluster, chosen_places
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

SERVICE = "kills"
DOOMED, INGRESS, OTHER = range(3)
TWICE = [f"twice-{number}" for number in range(6)]
ONCE = [f"once-{number}" for number in range(9)]
TALKED = "talked"
"""Two copies, neither of them where its streams come in."""
ROOM = Behaviour(health=True, capacity=64 * 1024 * MIB)
LEASE = {"MESH_LEASE_TTL": "5"}
"""Seconds; that a pod is gone for good, and its copies are to be made elsewhere, shows when its lease ends. No call waits for that."""


@pytest.fixture(scope="module")
def mesh(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("kills")
    with a_cluster(folder, f"etcd:{etcd.address}", 3, service=SERVICE, behaviour=ROOM, environment={**chosen_places(3), **LEASE}) as mesh:
        for model in (*TWICE, TALKED):
            mesh[INGRESS].client.register(model, kind=f"off-{INGRESS}" if model == TALKED else "example")
            alias = json.dumps({"amid": model, "tmid": model, "minCopies": 2})
            etcd.ctl("put", f"/tas-runtime/{SERVICE}/vmodels/of-{model}", alias)
        yield mesh


@pytest.fixture
def three(mesh: Cluster) -> Cluster:
    """All pods live, and each model that is to have two copies has them."""
    if mesh[DOOMED].router.process.returncode is not None:
        mesh[DOOMED].runtime.kill()
        mesh.start(DOOMED)
        mesh.await_all()
    until(lambda: all(len(ready(mesh, model)) == 2 for model in (*TWICE, TALKED)), "two copies of each that is to have two")
    return mesh


def ready(mesh: Cluster, model: str) -> list[str]:
    """Pods where a model is ready, as one that stays sees it."""
    return [copy["pod"] for copy in mesh[INGRESS].facts(f"models/{model}")["copies"] if copy["state"] == "ready"]


async def undescribed(channel: aio.Channel, model: str) -> None:
    """Calls by a method that the mesh knows nothing of: as far as it can tell, this is a stream, which fails only before its answer.

    After it, only the end can be missing: whoever is killed in that moment had sent the one and not yet the other.
    """
    multi: aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream("/mmesh.ExamplePredictor/predict")
    call = multi(example.PredictRequest(text="hello").SerializeToString(), timeout=LIMIT, metadata=to(model))
    said = await call.read()
    if not isinstance(said, bytes):
        raise AssertionError(f"no answer: {await call.code()}: {await call.details()}")
    assert example.PredictResponse.FromString(said).results[0].category == answer(model)
    assert await call.code() in (StatusCode.OK, StatusCode.UNAVAILABLE), await call.details()


def test_who_has_another_copy_notices_nothing_and_who_has_not_waits_for_one_load(three: Cluster) -> None:
    for model in ONCE:
        three[DOOMED].client.loaded(model)
    lost = [model for model in ONCE if three.held(model) == {DOOMED}]
    assert lost, "placement goes round, so some are there"
    assert any(DOOMED in three.held(model) for model in TWICE)
    living = [three[INGRESS].router.address, three[OTHER].router.address]
    with traffic(living, TWICE) as known, traffic(living, TWICE, ask=undescribed, seed=50) as unknown:
        known.reaches(200)
        unknown.reaches(200)
        three[DOOMED].kill()
        assert [three[INGRESS].client.said(model) for model in lost] == [answer(model) for model in lost]
        known.reaches(400)
        unknown.reaches(400)
    assert (known.failures, unknown.failures) == ([], [])
    assert [sum(three[pod].runtime.loads(model) for pod in (INGRESS, OTHER)) for model in lost] == [1] * len(lost)
    until(lambda: all(set(ready(three, model)) == {three[INGRESS].id, three[OTHER].id} for model in TWICE), "two copies again")


def test_a_stream_fails_only_if_a_message_of_its_answer_was_delivered(three: Cluster) -> None:
    client = three[INGRESS].client
    talks = [Conversation(client, to(TALKED), timeout=LIMIT) for _ in range(6)]
    for number, talk in enumerate(talks):
        talk.say(str(number))
        assert talk.hear() == answer(TALKED, str(number))
    served = three.calls(TALKED, "predictStream")
    assert min(served[DOOMED], served[OTHER]) > 0, "the streams spread over the two copies"
    with three[DOOMED].runtime.holding(f"call:{TALKED}"):
        silent = [Conversation(client, to(TALKED), timeout=LIMIT) for _ in range(6)]
        for talk in silent:
            talk.say("test:hold")
        until(lambda: sum(three.calls(TALKED, "predictStream")) == 12, "all of them are under way")
        assert three.calls(TALKED, "predictStream")[DOOMED] > served[DOOMED]
        three[DOOMED].router.process.kill()
    assert [talk.hear() for talk in silent] == [answer(TALKED, "test:hold")] * 6
    ends = [end_of(talk, number) for number, talk in enumerate(talks)]
    assert ends.count(StatusCode.UNAVAILABLE) == served[DOOMED], "those that the pod had begun to answer"
    assert ends.count(None) == served[OTHER]
    for talk in (*talks, *silent):
        talk.end()


def end_of(talk: Conversation, number: int) -> StatusCode | None:
    """How a stream ends when it goes on; None if it does not end."""
    talk.say(f"more of {number}")
    try:
        said = talk.hear()
    except grpc.RpcError as error:
        return error.code()
    assert said == answer(TALKED, f"more of {number}")
    return None


def test_calls_on_the_connections_of_the_pod_that_is_killed_end_at_once(three: Cluster) -> None:
    doomed = three[DOOMED]
    mine = doomed.client.loaded("its-own", kind=f"on-{DOOMED}")
    with doomed.runtime.holding(f"call:{mine}"):
        calls = [doomed.client.predicting(mine, "test:hold", timeout=LIMIT) for _ in range(5)]
        until(lambda: sum(three.calls(mine)) == 5, "all five are under way")
        doomed.router.process.kill()
        # Whatever kind of end it were that takes as long as the deadline, nobody would wait for it here.
        assert [call.exception(LIMIT / 2).code() for call in calls] == [StatusCode.UNAVAILABLE] * 5
    with refused(StatusCode.UNAVAILABLE):
        doomed.client.predict(mine, timeout=LIMIT / 2)
