"""Which pod brings aliases to their targets, and that no change of it, nor of the store, loses or repeats anything."""

from __future__ import annotations

import asyncio

import pytest

from mesh.core.ids import PodId
from mesh.core.registry.edits import RemoveCopy
from mesh.core.registry.instances import InstanceRecord
from mesh.pod import transitions
from tests.unit.pod.bench import settled, turns
from tests.unit.pod.moving import NEW, NOW, OLD, World
from tests.unit.pod.pods import becomes


async def test_nothing_happens_without_a_leader_and_nothing_is_lost(world: World) -> None:
    await world.pod("p1", leads=False)
    await world.moving("p1")
    await turns(50)
    assert world.ordered == []
    registry, _ = world.pods[PodId("p1")]
    await registry.stand_for_leader(PodId("p1"))
    await world.comes(NEW, "p1")
    await world.loaded(NEW, "p1")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_one_pod_of_many_does_it_and_the_next_takes_over(world: World) -> None:
    for name in ("p1", "p2", "p3"):
        await world.pod(name)
    await world.moving("p3")
    await world.comes(NEW, "p1")
    assert len(world.ordered) == 1
    await world.ends("p1")
    await world.change(RemoveCopy(NEW, PodId("p1"), NOW, NOW, NOW))
    await settled(lambda: len(world.ordered) == 2, "the next leader asks for it")
    await world.comes(NEW, "p2")
    await world.loaded(NEW, "p2")
    await world.becomes(lambda alias: alias.active == NEW)
    assert len(world.ordered) == 2


async def test_one_pod_stands_in_for_a_leader_of_another_kind(world: World) -> None:
    """A router of ModelMesh that leads loads models only on its like."""
    java = world.store.registry()
    await java.publish(PodId("java"), InstanceRecord())
    await java.stand_for_leader(PodId("java"))
    for name in ("p2", "p1"):
        await world.pod(name)
    await world.moving("p2")
    await settled(lambda: world.ordered, "somebody works on it")
    await turns(50)
    assert len(world.ordered) == 1
    await world.ends("p1")
    await settled(lambda: len(world.ordered) == 2, "the next one does")
    await java.close()
    await world.loaded(NEW, "p2")
    await world.becomes(lambda alias: alias.active == NEW)


async def test_a_store_that_is_away_holds_it_up_and_ends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "STORE", 0.001)
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    registry, _ = world.pods[PodId("p1")]
    registry.away = True
    await world.loaded(NEW, "p1")
    await turns(50)
    assert world.alias.active == OLD
    registry.away = False
    await becomes(lambda: world.alias.active == NEW)


async def test_who_loses_the_lead_while_the_end_is_not_written_leaves_it_to_the_next(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitions, "STORE", 0)
    await world.pod("p1")
    await world.moving("p1")
    await world.comes(NEW, "p1")
    registry, _ = world.pods[PodId("p1")]
    registry.away, registry.slow = True, asyncio.Event()
    await world.loaded(NEW, "p1")
    await turns(20)
    world.store.write({("candidates", "_p1"): None})
    await settled(lambda: not registry.leads, "the lead is lost")
    registry.slow.set()
    await turns(20)
    registry.away = False
    await turns(50)
    assert world.alias.active == OLD


async def test_while_the_registry_is_read_only_nothing_is_begun(world: World) -> None:
    await world.pod("p1", read_only=True)
    await world.moving("p1")
    await turns(50)
    assert world.ordered == []
