"""The last that a pod does: its copies go from the records, all of them, and a store that is away does not hold it up."""

from __future__ import annotations

import logging

import pytest

from mesh.core.ids import ModelId
from mesh.pod.admission import Admission
from mesh.pod.drain import AT_A_TIME, Drain
from mesh.pod.lookups import Lookups
from mesh.pod.travel import Travels
from mesh.pod.turns import Turns
from mesh.store.memory import MemoryRegistry
from tests.support.records import PutModel
from tests.unit.pod.bench import OFF, Bench, settled
from tests.unit.pod.moving import Unsteady

NAMES = [f"model-{number:02}" for number in range(2 * AT_A_TIME + 5)]


@pytest.fixture
async def full() -> Bench:
    """A pod, the only one, that serves many models."""
    bench = Bench(capacity=10_000)
    for name in NAMES:
        bench.conductor.leave(await bench.serving(name))
    await settled(lambda: all(bench.registry.models[ModelId(name)].ready for name in NAMES), "all are ready")
    return bench


def drain(bench: Bench, registry: MemoryRegistry) -> Drain:
    travels = Travels(*(bench.conductor, bench.view, Lookups(registry), Admission(100, 100)), Turns(OFF, limited=False, longest=0), OFF)
    return Drain(bench.conductor, registry, bench.loads_of_models, travels)


async def test_no_record_shows_a_pod_that_ended_in_order(full: Bench) -> None:
    await drain(full, full.registry).run(60)
    assert [name for name in NAMES if full.registry.models[ModelId(name)].copies] == []
    await full.stop()


async def test_a_store_that_is_away_is_given_up_after_one_try(full: Bench, caplog: pytest.LogCaptureFixture) -> None:
    registry = Unsteady()
    for model, record in full.registry.models.items():
        await registry.change(PutModel(model, record))
    registry.away = True
    with caplog.at_level(logging.WARNING):
        await drain(full, registry).run(60)
    assert caplog.messages == ["the registry still shows copies of this pod; others know that it is gone"]
    assert len(registry.models[ModelId(NAMES[0])].copies) == 1
    await full.stop()
    await registry.close()
