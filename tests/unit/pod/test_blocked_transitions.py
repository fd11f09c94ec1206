"""Targets that fail to load, and active models that do: what stands in the way is told, and is tried again when something speaks for it."""

from __future__ import annotations

import pytest

from mesh.core.errors import Leaving, LoadFailed
from mesh.core.ids import PodId
from mesh.core.registry.aliases import TryAgain
from mesh.core.registry.edits import RecordFailure, RemoveCopy
from mesh.core.registry.instances import InstanceRecord
from mesh.pod import transitions
from tests.unit.pod.bench import turns
from tests.unit.pod.moving import NEW, NOW, OLD, A, World
from tests.unit.pod.pods import becomes


async def test_a_target_that_fails_is_told_of_with_its_cause_and_the_old_model_serves(world: World) -> None:
    for name in ("p1", "p2"):
        await world.pod(name)
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.failed(NEW, "p1", "no such file")
    await world.becomes(lambda alias: alias.failed)
    assert (world.alias.active, world.alias.cause) == (OLD, "no such file")


async def test_a_blocked_transition_goes_on_when_the_failures_are_gone(world: World) -> None:
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.failed(NEW, "p1")
    await world.becomes(lambda alias: alias.failed)
    await world.change(TryAgain(A, NEW))
    await world.comes(NEW, "p1")
    assert not world.alias.failed
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_a_blocked_transition_goes_on_when_a_pod_comes(world: World) -> None:
    await world.pod("p1")
    world.places.clear()
    await world.moving("p1")
    await world.becomes(lambda alias: alias.failed)
    assert world.alias.cause == "Nowhere available to load"
    await world.pod("p2")
    await world.comes(NEW, "p2")
    await world.loaded(NEW, "p2")
    await world.becomes(lambda alias: (alias.active, alias.cause) == (NEW, ""))
    world.places.append(PodId("p1"))


async def test_who_asks_again_is_not_left_to_wait_for_another_reason(world: World) -> None:
    await world.pod("p1")
    world.places.clear()
    await world.moving("p1")
    await world.becomes(lambda alias: alias.failed)
    world.places.append(PodId("p1"))
    await world.change(TryAgain(A, NEW))
    await world.comes(NEW, "p1")
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_what_a_pod_tells_of_itself_in_passing_tries_nothing_again(world: World) -> None:
    await world.pod("p1")
    world.places.clear()
    await world.moving("p1")
    await world.becomes(lambda alias: alias.failed)
    before = len(world.ordered)
    registry, _ = world.pods[PodId("p1")]
    for rpm in range(5):
        await registry.publish(PodId("p1"), InstanceRecord(endpoint="127.0.0.1:1", rpm=rpm))
    await turns(50)
    assert len(world.ordered) == before
    world.places.append(PodId("p1"))


async def test_a_failure_that_no_record_bears_out_is_asked_about_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod whose failure was cleared by hand hears of it a little later."""
    monkeypatch.setattr(transitions, "DOUBT", 0.001)
    await world.pod("p1")
    world.refusals += [LoadFailed("broken before")] * 3
    await world.moving("p1")
    await becomes(lambda: (NEW, PodId("p1")) in world.loading)
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_a_pod_that_ends_blames_no_target(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "LOOK", 0.001)
    await world.pod("p1")
    world.refusals += [Leaving("pod p1 is shutting down and loads nothing more; try again")] * 3
    await world.moving("p1")
    await becomes(lambda: (NEW, PodId("p1")) in world.loading)
    assert not world.alias.failed


async def test_a_model_that_cannot_be_loaded_gives_way_before_its_successor_is_there(world: World) -> None:
    for name in ("p1", "p2"):
        await world.pod(name)
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.change(RecordFailure(OLD, PodId("p1"), NOW, NOW, "broken", NOW))
    await world.becomes(lambda alias: alias.active == NEW)


async def test_a_model_that_is_evicted_meanwhile_does_not_give_way_to_a_broken_one(world: World) -> None:
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    await world.change(RemoveCopy(OLD, PodId("p1"), NOW, NOW, NOW))
    await turns(50)
    assert world.alias.active == OLD
    await world.failed(NEW, "p1")
    await world.becomes(lambda alias: alias.failed)
    assert world.alias.active == OLD
