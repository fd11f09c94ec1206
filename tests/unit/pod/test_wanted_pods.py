"""A pod measures its own use, reads that of the others from their records, and tells how many pods each runtime wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from mesh.core.errors import Malformed
from mesh.core.ids import PodId
from mesh.core.policy import HOUR
from mesh.core.registry.instances import InstanceRecord
from mesh.core.scaling.wanted_pods import Use
from mesh.core.units import Millis, Units
from mesh.doors.facts import PREFIX, facts_route
from mesh.doors.http_small import Request
from mesh.pod.census import Census
from mesh.pod.facts import Facts
from mesh.pod.wanted_pods import WantedPods
from mesh.settings import Settings
from mesh.telemetry import catalogue
from mesh.telemetry.metrics import Metrics
from mesh.telemetry.options import read_options
from tests.support.waiting import until_async
from tests.unit.pod.bench import Bench

MINE = ("mt:sklearn", "rt:mlserver-1.x")


class Keeper:
    """What a test watches: one pod's keeper, quick of decision."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.outdated: frozenset[PodId] = frozenset()
        settings = Settings(pods_settle=50, pods_calm=200, pods_calls=2.0)
        self.wanted = WantedPods(self.bench.conductor, self.bench.registry, settings, self.own, lambda _: self.outdated)
        self.task = asyncio.create_task(self.wanted.keep())

    def own(self) -> InstanceRecord:
        calls, idle = self.wanted.use
        return self.bench.pod.figures(InstanceRecord(labels=MINE, calls=calls, idle=idle))

    async def says(self, runtime: str, pods: int) -> dict[str, Any]:
        """Waits for an answer, and gives all of it."""

        async def answer() -> dict[str, Any] | None:
            found = (one for one in self.wanted.told()["runtimes"] if (one["runtime"], one["wanted"]) == (runtime, pods))
            return next(found, None)

        found = await until_async(answer, f"{pods} pods of {runtime}")
        assert found is not None
        return found

    async def measures(self, calls: int, idle: int = 0) -> None:
        async def so() -> bool:
            return self.wanted.use == Use(calls, Units(idle))

        await until_async(so, f"{calls} hundredths of calls, {idle} units out of use")


@pytest.fixture
async def keeper() -> AsyncIterator[Keeper]:
    made = Keeper()
    yield made
    made.task.cancel()
    await made.bench.stop()


async def test_calls_that_run_want_a_pod_more_and_their_end_gives_it_back(keeper: Keeper) -> None:
    pods = keeper.bench.pod.pods
    for _ in range(5):
        pods.began(pods.me)
    answer = await keeper.says("mlserver-1.x", 2)
    assert (answer["pods"], answer["reason"][3:]) == (1, " calls run at a time on a pod, with 2 aimed at")
    await keeper.measures(calls=500)
    for _ in range(5):
        pods.ended(pods.me)
    assert (await keeper.says("mlserver-1.x", 1))["pods"] == 1
    await keeper.measures(calls=0)


async def test_models_nobody_used_lately_are_told_apart(keeper: Keeper) -> None:
    for name, age in (("old", 2 * HOUR), ("new", 0)):
        copy = await keeper.bench.serving(name)
        keeper.bench.pod.leave(copy)
        copy.last_used = Millis(keeper.bench.conductor.now() - age)
    await keeper.measures(calls=0, idle=100)


async def test_each_runtime_has_a_number_from_its_own_pods_whatever_router_they_have(keeper: Keeper) -> None:
    busy = InstanceRecord(capacity=Units(1000), labels=("rt:triton-2.x",), rpm=20_000)
    for name in ("one", "two"):
        await keeper.bench.registry.publish(PodId(name), busy)
    answer = await keeper.says("triton-2.x", 3)
    assert answer["inputs"]["pods"][0]["rpm"] == 20_000
    assert (await keeper.says("mlserver-1.x", 1))["pods"] == 1
    await keeper.bench.registry.publish(PodId("two"), busy.with_(shutting_down=True))
    answer = await keeper.says("triton-2.x", 3)

    async def held() -> bool:
        return "leave" in (await keeper.says("triton-2.x", 3))["reason"]

    await until_async(held, "it stays while a pod leaves")


async def test_a_pod_that_is_replaced_holds_the_number(keeper: Keeper) -> None:
    keeper.outdated = frozenset([keeper.bench.pod.id])

    async def held() -> bool:
        return "replaced" in (await keeper.says("mlserver-1.x", 1))["reason"]

    await until_async(held, "a rollout is seen")


async def test_the_number_is_a_gauge_by_runtime_and_a_view_with_its_reason(keeper: Keeper) -> None:
    await keeper.says("mlserver-1.x", 1)
    metrics = Metrics(read_options("prometheus:scheme=http", "", {}))
    metrics.read(catalogue.PODS_WANTED, keeper.wanted.wanted)
    assert 'mesh_pods_wanted{runtime="mlserver-1.x"} 1.0\n' in "".join(metrics.exposition())
    facts = Facts(keeper.bench.conductor, keeper.bench.registry, keeper.bench.management, Census(keeper.bench.registry))
    assert facts.wanted() == {"runtimes": []}
    facts.wanted = keeper.wanted.told
    code, view = cast(tuple[int, Any], facts_route(lambda: facts)(Request("GET", f"{PREFIX}/wanted")))
    assert (code, [one["runtime"] for one in view["runtimes"]]) == (200, ["mlserver-1.x"])


@pytest.mark.parametrize("name", ["MESH_PODS_AGE", "MESH_PODS_RPM", "MESH_PODS_CALLS", "MESH_PODS_SETTLE", "MESH_PODS_CALM"])
def test_an_aim_of_nothing_is_refused_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "0")
    with pytest.raises(Malformed, match=name):
        Settings.load()
