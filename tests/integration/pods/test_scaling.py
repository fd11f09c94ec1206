"""Copies follow the load: a hot model gets what it needs within three rate ticks, no more than users allow, and gives it back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import aio

from mesh.protocols import model_mesh_pb2 as mm
from tests.integration.etcd.server import Etcd
from tests.integration.pods.steady import steady
from tests.integration.pods.traffic import LIMIT, traffic
from tests.support.client import example, example_grpc, to
from tests.support.cluster import Cluster, a_cluster
from tests.support.runtime_state import Behaviour
from tests.support.waiting import until

THRESHOLD = 12
"""Calls a second to one copy at which another one is wanted."""
HOT = 100
"""Calls a second of which four copies get more than that each, also on a machine that makes but half of them."""
FOLLOWING = {
    "MM_SCALEUP_RPM_THRESHOLD": str(60 * THRESHOLD),
    "MESH_RATE_INTERVAL_MS": "1000",
    "MESH_JANITOR_INTERVAL_MS": "1000",
    "MESH_SECOND_COPY_MIN_AGE_MS": "4000",
    "MESH_SECOND_COPY_MAX_AGE_MS": "4000",
    "MESH_SCALEDOWN_AGE_MS": "2000",
}


@pytest.fixture(scope="module")
def four(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with a_cluster(tmp_path_factory.mktemp("scaling"), f"etcd:{etcd.address}", 4, service="scaling", environment=FOLLOWING) as mesh:
        yield mesh


def ticks(mesh: Cluster) -> list[int]:
    """Rate ticks of each pod so far."""
    return [pod.router.process.output().count('"rate tick"') for pod in mesh.pods]


def ready(mesh: Cluster, model: str) -> int:
    """Copies that serve."""
    return sum(copy["state"] == "ready" for copy in mesh[0].facts(f"models/{model}")["copies"])


def bounded(mesh: Cluster, alias: str, model: str, **bounds: int | bool) -> None:
    request = mm.SetVModelRequest(vModelId=alias, targetModelId=model, modelInfo=mm.ModelInfo(type="example"), loadNow=True, sync=True)
    mesh[0].client.mesh.setVModel(request, timeout=30, metadata=(("mesh-bounds", json.dumps(bounds)),))


def test_a_hot_model_has_its_copies_within_three_ticks_and_gives_them_back(four: Cluster) -> None:
    for model in ("hot", "mild"):
        four[1].client.loaded(model)
    bounded(four, "limited", "at-most-two", maxCopies=2)
    with steady([pod.router.address for pod in four.pods], {"hot": HOT, "at-most-two": 30, "mild": 3}) as calls:
        until(lambda: calls.answered > HOT // 4, "it is hot")
        before = ticks(four)
        # What a load takes is a matter of the machine, so its beginning counts.
        until(lambda: four.loads("hot") == 4, "it needs all the copies that there can be")
        used = max(now - then for now, then in zip(ticks(four), before, strict=True))
        assert used <= 3, f"copies came after {used} ticks"
        until(lambda: ready(four, "hot") == 4, "all of them serve")
        until(lambda: ready(four, "at-most-two") == 2, "what users limit gets as many as they allow")
        until(lambda: min(ticks(four)) >= max(before) + 5, "some ticks later")
        assert (ready(four, "hot"), ready(four, "at-most-two"), ready(four, "mild")) == (4, 2, 1)
    assert calls.failures == []
    assert (four.loads("hot"), four.loads("at-most-two"), four.loads("mild")) == (4, 2, 1), "none came and went meanwhile"
    until(lambda: len(four.held("hot")) == len(four.held("at-most-two")) == 1, "the copies are given back")
    assert (ready(four, "hot"), ready(four, "at-most-two")) == (1, 1)
    assert four[0].client.said("hot") == "classification for hello by model hot"


def test_a_lowered_maximum_has_copies_given_back_at_once(four: Cluster) -> None:
    four[0].client.loaded("many")
    with steady([pod.router.address for pod in four.pods], {"many": HOT}) as calls:
        until(lambda: ready(four, "many") >= 3, "it is hot")
        bounded(four, "lowered", "many", maxCopies=2)
        until(lambda: len(four.held("many")) == 2, "surplus copies go although they are used")
        assert ready(four, "many") == 2
    assert calls.failures == []


async def asked_to_take_its_time(channel: aio.Channel, model: str) -> None:
    call = example_grpc.ExamplePredictorStub(channel).predict
    answer = await call(example.PredictRequest(text="test:sleep:30"), timeout=LIMIT, metadata=to(model))
    assert answer.results[0].category.endswith(f"by model {model}")


def test_where_the_runtime_takes_one_call_at_a_time_copies_come_when_it_is_always_busy(etcd: Etcd, tmp_path: Path) -> None:
    one_at_a_time = Behaviour(max_concurrency=1)
    never_by_rate = FOLLOWING | {"MM_SCALEUP_RPM_THRESHOLD": "1000000"}
    with a_cluster(tmp_path, f"etcd:{etcd.address}", 2, service="latency", behaviour=one_at_a_time, environment=never_by_rate) as mesh:
        mesh[0].client.loaded("slow")
        with traffic([pod.router.address for pod in mesh.pods], ["slow"], callers=6, ask=asked_to_take_its_time) as calls:
            until(lambda: calls.total > 6, "it is busy all the time")
            before = ticks(mesh)
            until(lambda: mesh.loads("slow") >= 2, "calls wait for their turns: more copies")
            used = max(now - then for now, then in zip(ticks(mesh), before, strict=True))
            assert used <= 3, f"copies came after {used} ticks"
            until(lambda: ready(mesh, "slow") >= 2, "and serve")
        assert calls.failures == []
