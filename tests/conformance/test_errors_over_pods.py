"""A call that another pod answers is, for its caller and for the runtime, the call that it would have been there."""

from __future__ import annotations

import httpx
import pytest
from grpc import StatusCode

from mesh.protocols import peer_pb2
from tests.support.client import Client, answer, example, refused, to
from tests.support.cluster import Cluster, PodProcesses
from tests.support.waiting import until

HOLDER, OTHER = 1, 2


@pytest.fixture
def client(three: Cluster) -> Client:
    """Of a pod without the model."""
    return three[OTHER].client


@pytest.fixture
def held(three: Cluster, model: str) -> str:
    """A model that one pod holds, and that no other can; all know that it serves."""
    three[HOLDER].client.loaded(model, kind=f"on-{HOLDER}")

    def ready(pod: PodProcesses) -> bool:
        try:
            known = pod.facts(f"models/{model}")
        except httpx.HTTPStatusError as error:
            # Of the registration a pod learns a moment later.
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return False
        return [copy["state"] for copy in known["copies"]] == ["ready"]

    until(lambda: all(map(ready, three.pods)), "every pod knows it")
    return model


# What the caller hears


@pytest.mark.parametrize("through", range(3))
def test_a_runtime_that_does_not_answer_is_named_alike_by_every_pod(three: Cluster, held: str, through: int) -> None:
    text = "ModelRuntime UNAVAILABLE: mmesh.ExamplePredictor/predict: UNAVAILABLE: out of order"
    with refused(StatusCode.INTERNAL, exactly=text):
        three[through].client.predict(held, "test:error:code=UNAVAILABLE:message=out of order")
    assert three.held(held) == {HOLDER}
    assert three.loads(held) == 1
    assert sum(three.calls(held)) == 1


def test_a_status_of_the_runtime_passes_with_all_that_belongs_to_it(three: Cluster, held: str) -> None:
    said = []
    for pod in three.pods:
        with refused(StatusCode.DATA_LOSS, exactly="half of it") as refusal:
            pod.client.predict(held, "test:error:code=DATA_LOSS:message=half of it")
        said.append(refusal.trailers)
    assert said[0] == said[1] == said[2]
    assert said[0]["x-runtime-trailer"] == "of an error"
    assert said[0]["grpc-status-details-bin"]


@pytest.mark.parametrize("where", ["one", "two"])
def test_a_busy_copy_sends_its_caller_to_another_one_and_no_further(three: Cluster, model: str, where: str) -> None:
    client, kind = three[0].client, {"one": "on-1", "two": "example"}[where]
    client.register(model, kind=kind)
    with refused(StatusCode.RESOURCE_EXHAUSTED, exactly="too much") as refusal:
        client.predict(model, "test:error:code=RESOURCE_EXHAUSTED:message=too much")
    assert refusal.trailers["x-runtime-trailer"] == "of an error", "the runtime's own answer"
    assert sum(three.calls(model)) == {"one": 1, "two": 2}[where]
    assert max(three.calls(model)) == 1


def test_a_type_that_no_pod_may_hold_is_named(three: Cluster, client: Client, model: str) -> None:
    with refused(StatusCode.INTERNAL) as at_holder:
        three[0].client.register(model, kind="nowhere")
        three[0].client.predict(model)
    with refused(StatusCode.INTERNAL, exactly=at_holder.details):
        client.predict(model)


def test_a_model_that_the_runtime_lost_is_loaded_again_for_callers_of_other_pods(three: Cluster, client: Client, held: str) -> None:
    for loads in (2, 3):
        three[HOLDER].runtime.do("purge")
        assert client.said(held) == answer(held)
        assert three.loads(held) == loads
    assert three.held(held) == {HOLDER}


def test_many_callers_of_all_pods_who_meet_a_lost_model_cause_one_load(three: Cluster, held: str) -> None:
    runtime = three[HOLDER].runtime
    runtime.do("purge")
    with runtime.holding(f"load:{held}"):
        calls = [three[number % 3].client.predicting(held) for number in range(30)]
        runtime.awaited("loadModel", held, times=2)
    assert [call.result().results[0].category for call in calls] == [answer(held)] * 30
    assert three.loads(held) == 2


# Deadline and cancellation


def test_the_runtime_knows_how_long_the_caller_waits(client: Client, held: str) -> None:
    # On the wire gRPC rounds a time-out up, by at most one in a hundred.
    assert 50 < client.predict(held, timeout=100).deadline < 104


def test_a_deadline_ends_the_call_on_the_runtime_too(three: Cluster, client: Client, held: str) -> None:
    runtime = three[HOLDER].runtime
    with runtime.holding(f"call:{held}"):
        with refused(StatusCode.DEADLINE_EXCEEDED):
            client.predict(held, "test:hold", timeout=3)
        runtime.awaited("predict", held, at="end")
    assert runtime.seen("predict", held, "end")[-1]["code"] == "CANCELLED"
    assert client.said(held) == answer(held), "the pod is not put aside for it"


def test_a_caller_who_leaves_ends_the_call_on_the_runtime_too(three: Cluster, client: Client, held: str) -> None:
    runtime = three[HOLDER].runtime
    with runtime.holding(f"call:{held}"):
        call = client.predicting(held, "test:hold")
        runtime.awaited("hold", held)
        call.cancel()
        runtime.awaited("predict", held, at="end")
    assert runtime.seen("predict", held, "end")[-1]["code"] == "CANCELLED"
    until(lambda: three[HOLDER].facts(f"models/{held}")["copies"][0]["calls"] == 0, "no call is left on the copy")


def test_a_caller_who_leaves_while_the_model_loads_elsewhere_does_not_stop_the_load(three: Cluster, client: Client, model: str) -> None:
    runtime = three[HOLDER].runtime
    client.register(model, kind=f"on-{HOLDER}")
    with runtime.holding(f"load:{model}"):
        call = client.predicting(model)
        runtime.awaited("loadModel", model)
        call.cancel()
        with refused(StatusCode.DEADLINE_EXCEEDED):
            client.predict(model, timeout=1)
    assert client.said(model) == answer(model)
    assert runtime.loads(model) == 1
    assert sum(three.calls(model)) == 1


# What the runtime sees


def seen(client: Client, model: str, *metadata: tuple[str, str | bytes]) -> list[tuple[str, bytes]]:
    """The metadata that reached the runtime, without what names the connection."""
    headers = client.predict(model, "test:metadata", metadata=metadata).headers
    return sorted((item.name, item.value) for item in headers if item.name != "user-agent")


SENT: tuple[tuple[str, str | bytes], ...] = (
    ("authorization", "Bearer abc"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("x-many", "one"),
    ("x-many", "two"),
    ("x-data-bin", b"\x00\x01\xff"),
    ("mm-balanced", "false"),
    ("mm-anything", "1"),
)


def test_headers_reach_the_runtime_as_they_would_without_another_pod_between(three: Cluster, client: Client, held: str) -> None:
    there = seen(three[HOLDER].client, held, *SENT)
    assert seen(client, held, *SENT) == there
    assert ("x-data-bin", b"\x00\x01\xff") in there
    assert not [name for name, _ in there if name.startswith("mesh-")]


def test_the_runtime_s_headers_and_trailers_come_back_as_they_would(three: Cluster, client: Client, held: str) -> None:
    came = []
    for asked in (three[HOLDER].client, client):
        _, call = asked.predictor.predict.with_call(example.PredictRequest(text="x"), metadata=to(held), timeout=30)
        came.append((sorted(call.initial_metadata()), sorted(call.trailing_metadata())))
    assert came[0] == came[1]
    assert ("x-runtime", "example") in came[0][0]


def test_a_hop_that_a_client_makes_up_is_without_effect(three: Cluster, client: Client, held: str, model: str) -> None:
    hop = peer_pb2.Hop(kind=peer_pb2.Hop.HIT, model="another", sender="nobody", dest=three[OTHER].id, avoid=[three[HOLDER].id])
    forged = (("mesh-hop-bin", hop.SerializeToString()), ("mesh-pod-bin", b"x"), ("mesh-load", "1 1"), ("mesh-error", "NotHere"))
    plain = seen(client, held)
    for pod in three.pods:
        assert seen(pod.client, held, *forged) == plain
    assert three.held(held) == {HOLDER}


def test_the_port_for_pods_is_not_for_clients(three: Cluster, held: str) -> None:
    with Client.insecure(f"127.0.0.1:{three[HOLDER].router.ports['peer']}") as stranger:
        with refused(StatusCode.INVALID_ARGUMENT, "MESH_PEER_PORT", "MM_SVC_GRPC_PORT"):
            stranger.predict(held)
        astray = peer_pb2.Hop(kind=peer_pb2.Hop.HIT, model=held, sender="nobody", dest="another-pod")
        with refused(StatusCode.INTERNAL, "another-pod", three[HOLDER].id):
            stranger.predict(held, metadata=(("mesh-hop-bin", astray.SerializeToString()),))
