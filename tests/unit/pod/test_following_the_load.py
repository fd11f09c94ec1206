"""The hands of scaling: what is decided is carried out, and what comes of it is told; a copy is kept unless another one answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest

from mesh.core.cache.copies import State
from mesh.core.explaining.decisions import Kind
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.edits import AddCopy, MarkReady
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.scaling.rates import ScalingRules
from mesh.core.scaling.ticks import Scaling
from mesh.core.units import Millis, Units
from mesh.pod.scaling import ScalingKeeper, rules_of
from mesh.settings import Settings
from tests.support.waiting import until_async
from tests.unit.pod.bench import Bench

M, THERE = ModelId("m"), PodId("there")
QUICK = ScalingRules(Millis(20), Millis(40), 90, Millis(1), Millis(1), Millis(1))


@pytest.fixture
async def following(bench: Bench) -> AsyncIterator[Bench]:
    """A pod that follows its load, beside one at whose address nobody answers; it serves a model that gets calls all the time."""
    bench.pod.models = bench.registry.models

    def changed(model: ModelId, record: ModelRecord | None) -> None:
        for event in bench.pod.record_changed(model, record):
            bench.tell(event)

    bench.registry.listen(changed, lambda _, __: None)
    there = InstanceRecord(endpoint="127.0.0.1:1", capacity=Units(1_000), load_threads=1)
    bench.pod.pod_changed(THERE, there)
    bench.pod.pod_changed(PodId("here"), replace(there, count=9))
    copy = await bench.serving(M)
    scaling = Scaling(bench.pod, lambda: bench.pod.figures(there), QUICK, lambda: 10, bench.conductor.now())
    keeping = asyncio.create_task(ScalingKeeper(scaling, bench.conductor, bench.loads_of_models, bench.peers, lambda: None).keep())
    bench.conductor.leave(copy)
    yield bench
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


def noted(bench: Bench, kind: Kind) -> list[str]:
    return [decision.reason for decision in bench.pod.cache.decisions if decision.kind is kind]


async def test_copies_that_no_pod_takes_on_are_told(following: Bench) -> None:
    async def told() -> bool:
        entered = following.pod.enter(M, following.conductor.now())
        assert entered is not None
        following.conductor.leave(entered)
        return any(reason.startswith("0 of 1 copies were taken on") for reason in noted(following, Kind.SCALE_UP))

    await until_async(told, "the other pod does not answer")


async def test_a_copy_is_kept_as_long_as_no_other_one_answers(following: Bench) -> None:
    now = following.conductor.now()
    await following.registry.change(AddCopy(M, THERE, now, now))
    await following.registry.change(MarkReady(M, THERE, now, now))

    async def asked() -> bool:
        return following.pod.pods.aside(THERE)

    await until_async(asked, "the other pod is asked for its copy")
    assert any("the other one suffices" in reason for reason in noted(following, Kind.SCALE_DOWN))
    assert following.state(M) is State.READY
    assert following.registry.models[M].copies.keys() == {"here", THERE}


def test_the_settings_say_what_scaling_goes_by() -> None:
    assert rules_of(Settings()) == ScalingRules()
    named = Settings.load(MESH_RATE_INTERVAL_MS=50, MESH_SCALEDOWN_AGE_MS=7, MM_CONC_SCALEUP_BANDWIDTH_PCT=200)
    rules = rules_of(named)
    assert (rules.interval, rules.calm, rules.bandwidth) == (50, 7, 200)
