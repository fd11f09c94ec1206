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

THRESHOLD = 40
"""Calls a second to one copy at which another one is wanted."""
FOLLOWING = {
    "MM_SCALEUP_RPM_THRESHOLD": str(60 * THRESHOLD),
    "MESH_RATE_INTERVAL_MS": "1000",
    "MESH_JANITOR_INTERVAL_MS": "1000",
    "MESH_SECOND_COPY_MIN_AGE_MS": "4000",
    "MESH_SECOND_COPY_MAX_AGE_MS": "4000",
    "MESH_SCALEDOWN_AGE_MS": "2000",
}


@pytest.fixture(scope="module")
def five(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with a_cluster(tmp_path_factory.mktemp("scaling"), f"etcd:{etcd.address}", 5, service="scaling", environment=FOLLOWING) as mesh:
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


def test_a_hot_model_has_its_copies_within_three_ticks_and_gives_them_back(five: Cluster) -> None:
    five[1].client.loaded("hot")
    bounded(five, "limited", "at-most-one", maxCopies=1)
    before = ticks(five)
    with steady([pod.router.address for pod in five.pods], {"hot": 5 * THRESHOLD // 2, "at-most-one": 3 * THRESHOLD // 2}) as calls:
        until(lambda: ready(five, "hot") >= 3, "two and a half times what one copy takes is shared by three")
        used = max(now - then for now, then in zip(ticks(five), before, strict=True))
        assert used <= 3, f"copies came after {used} ticks"
        until(lambda: min(ticks(five)) >= max(before) + 5, "some ticks later")
        assert ready(five, "hot") < 5, "no more than it needs"
        assert ready(five, "at-most-one") == 1, "never more than users allow"
    assert calls.failures == []
    assert calls.answered > 0
    until(lambda: len(five.held("hot")) == 1, "the copies are given back")
    assert ready(five, "hot") == 1
    assert five[0].client.said("hot") == "classification for hello by model hot"
    assert five.loads("at-most-one") == 1


def test_a_lowered_maximum_has_copies_given_back_at_once(five: Cluster) -> None:
    five[0].client.loaded("many")
    with steady([pod.router.address for pod in five.pods], {"many": 5 * THRESHOLD // 2}) as calls:
        until(lambda: ready(five, "many") >= 3, "it is hot")
        bounded(five, "lowered", "many", maxCopies=2)
        until(lambda: len(five.held("many")) == 2, "surplus copies go although they are used")
        assert ready(five, "many") == 2
    assert calls.failures == []


async def asked_to_take_its_time(channel: aio.Channel, model: str) -> None:
    call = example_grpc.ExamplePredictorStub(channel).predict
    answer = await call(example.PredictRequest(text="test:sleep:30"), timeout=LIMIT, metadata=to(model))
    assert answer.results[0].category.endswith(f"by model {model}")


def test_where_the_runtime_takes_one_call_at_a_time_copies_come_when_it_is_always_busy(etcd: Etcd, tmp_path: Path) -> None:
    one_at_a_time = Behaviour(max_concurrency=1)
    with a_cluster(tmp_path, f"etcd:{etcd.address}", 3, service="latency", behaviour=one_at_a_time, environment=FOLLOWING) as mesh:
        mesh[0].client.loaded("slow")
        before = ticks(mesh)
        with traffic([pod.router.address for pod in mesh.pods], ["slow"], callers=6, ask=asked_to_take_its_time) as calls:
            until(lambda: ready(mesh, "slow") >= 2, "calls wait for their turns: more copies")
            used = max(now - then for now, then in zip(ticks(mesh), before, strict=True))
            assert used <= 3, f"copies came after {used} ticks"
            assert calls.answered["slow"] < used * THRESHOLD, "fewer calls than make a model hot whose calls take no time"
        assert calls.failures == []
