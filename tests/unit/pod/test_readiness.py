"""A pod is ready from its start to its stop, but for what others do and how its first loads go."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from mesh.core.ids import ModelId
from mesh.core.registry.edits import AddCopy, CreateModel
from mesh.core.registry.instances import InstanceRecord
from mesh.core.units import Millis
from mesh.pod.readiness import Probation, Readiness
from mesh.settings import Settings
from mesh.store.memory import MemoryRegistry, MemoryStore
from tests.unit.pod.newcomer import INFO, ME, OTHER, Newcomer, true


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def mine(store: MemoryStore) -> AsyncIterator[MemoryRegistry]:
    registry = store.registry()
    yield registry
    await registry.close()


@pytest.fixture
async def others(store: MemoryStore) -> AsyncIterator[MemoryRegistry]:
    registry = store.registry()
    yield registry
    await registry.close()


async def seen(mine: MemoryRegistry, others: MemoryRegistry, record: InstanceRecord) -> None:
    """Another pod publishes itself, and this one sees it."""
    await others.publish(OTHER, record)
    await true(lambda: mine.instances.get(OTHER) == record)


# Other pods


async def test_ready_is_between_open_and_close(mine: MemoryRegistry) -> None:
    readiness = Readiness(ME, mine, None)
    assert readiness.why_not() == "it is starting"
    readiness.open()
    assert readiness.why_not() == ""
    readiness.close()
    assert readiness.why_not() == "it is leaving"


async def test_a_new_pod_waits_until_no_other_is_leaving(mine: MemoryRegistry, others: MemoryRegistry) -> None:
    await seen(mine, others, InstanceRecord(shutting_down=True))
    readiness = Readiness(ME, mine, None)
    readiness.open()
    assert readiness.why_not() == "other pods are leaving: other"
    await seen(mine, others, InstanceRecord())
    assert readiness.why_not() == ""


async def test_having_seen_that_none_leaves_it_waits_for_none(mine: MemoryRegistry, others: MemoryRegistry) -> None:
    await seen(mine, others, InstanceRecord())
    readiness = Readiness(ME, mine, None)
    readiness.open()
    assert readiness.why_not() == ""
    await seen(mine, others, InstanceRecord(shutting_down=True))
    assert readiness.why_not() == ""


async def test_what_was_seen_before_the_start_was_over_does_not_count(mine: MemoryRegistry, others: MemoryRegistry) -> None:
    readiness = Readiness(ME, mine, None)
    assert readiness.why_not()
    await seen(mine, others, InstanceRecord(shutting_down=True))
    readiness.open()
    assert readiness.why_not() == "other pods are leaving: other"


async def test_its_own_record_does_not_hold_it_up(mine: MemoryRegistry) -> None:
    await mine.publish(ME, InstanceRecord(shutting_down=True))
    await true(lambda: ME in mine.instances)
    readiness = Readiness(ME, mine, None)
    readiness.open()
    assert readiness.why_not() == ""


# Probation


class Trial(Newcomer):
    """A pod in its first minutes."""

    def __init__(self, registry: MemoryRegistry) -> None:
        super().__init__()
        self._registry = registry
        self.readiness = Readiness(ME, registry, Probation(self.conductor, registry, Settings(probation=180_000)))
        self.readiness.open()

    async def registered(self, *models: str, held: bool = False) -> None:
        since = Millis(self.clock.time - 30_000)
        for model in models:
            await self._registry.change(CreateModel(ModelId(model), INFO, since))
            if held:
                await self._registry.change(AddCopy(ModelId(model), OTHER, since, since))


@pytest.fixture
async def trial(mine: MemoryRegistry, others: MemoryRegistry) -> AsyncIterator[Trial]:
    await seen(mine, others, InstanceRecord())
    made = Trial(mine)
    yield made
    made.conductor.stop()


async def test_a_pod_that_cannot_load_what_others_hold_is_never_ready_again(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    await trial.registered("a", "b", "c", held=True)
    trial.load("a", "b", fails=True)
    assert trial.readiness.why_not() == ""
    with caplog.at_level(logging.ERROR):
        trial.load("c", fails=True)
    assert trial.readiness.why_not() == "3 models that other pods hold failed to load here"
    assert "MM_FAILFAST_UPGRADE_ENABLED=false" in caplog.text
    await trial.registered("d")
    trial.load("d")
    assert trial.readiness.why_not()


async def test_copies_that_a_crashed_pod_left_in_the_records_prove_nothing(
    trial: Trial, mine: MemoryRegistry, others: MemoryRegistry
) -> None:
    await trial.registered("a", "b", "c", held=True)
    await others.close()
    await true(lambda: OTHER not in mine.instances)
    trial.load("a", "b", "c", fails=True)
    assert trial.readiness.why_not() == ""


async def test_loads_that_succeed_outweigh_some_that_fail(trial: Trial) -> None:
    good, bad = [f"good{number}" for number in range(10)], [f"bad{number}" for number in range(11)]
    await trial.registered(*good, *bad)
    trial.load(*good)
    trial.load(*bad[:10], fails=True)
    assert trial.readiness.why_not() == ""
    trial.load(bad[10], fails=True)
    assert trial.readiness.why_not() == "11 of the first 21 loads failed here"


async def test_after_the_probation_loads_may_fail(trial: Trial) -> None:
    await trial.registered("a", "b", "c", held=True)
    trial.clock.time += 180_000
    trial.load("a", "b", "c", fails=True)
    assert trial.readiness.why_not() == ""
