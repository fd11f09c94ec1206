"""A name that is new to this pod is found at once; one that nobody knows costs the store one read a second."""

from __future__ import annotations

import asyncio

import pytest

from mesh.core.errors import MeshError, StoreUnavailable, Unknown
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.edits import Edit
from mesh.core.routing.dataplane import Dataplane
from mesh.core.units import Millis
from mesh.pod.lookups import AGAIN, Lookups
from mesh.pod.targets import Named, Targets
from mesh.pod.traffic import Traffic
from mesh.store.memory import MemoryRegistry, MemoryStore
from mesh.store.registry import Trouble
from mesh.wire.call import Call, Target
from tests.unit.store.edits import INFO, create

A, NICK = ModelId("a"), AliasId("nick")


class Counted(MemoryRegistry):
    """A pod's registry that counts what is asked of its store, which may be away."""

    asked = 0
    away = False
    trouble: Trouble | None = None

    async def change(self, edit: Edit) -> MeshError | None:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise StoreUnavailable("the store is away")
        return await super().change(edit)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def registry(store: MemoryStore) -> Counted:
    return Counted(store)


async def test_what_another_pod_registered_a_moment_ago_is_found(store: MemoryStore, registry: Counted) -> None:
    await MemoryRegistry(store).change(create("a"))
    assert A not in registry.models, "the mirror is behind"
    assert await Lookups(registry).model(A)
    assert registry.asked == 1


async def test_what_is_known_is_not_asked_for(registry: Counted) -> None:
    await registry.change(create("a"))
    assert await Lookups(registry).model(A)
    assert registry.asked == 1, "that was the registration"


async def test_many_who_ask_for_one_unknown_name_cause_one_read_and_those_who_come_soon_after_none(registry: Counted) -> None:
    lookups = Lookups(registry)
    assert await asyncio.gather(*(lookups.model(A) for _ in range(50))) == [False] * 50
    assert not await lookups.model(A)
    assert registry.asked == 1
    assert not await lookups.alias(NICK), "another name"
    assert registry.asked == 2
    await asyncio.sleep(AGAIN)
    assert not await lookups.model(A)
    assert registry.asked == 3


async def test_who_leaves_does_not_end_the_read_of_others(registry: Counted) -> None:
    lookups = Lookups(registry)
    first, second = (asyncio.ensure_future(lookups.model(A)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert not await second


async def test_a_store_that_is_away_is_said_to_be_and_not_asked_for_every_name(registry: Counted) -> None:
    lookups = Lookups(registry)
    registry.away = True
    for name in "abc":
        with pytest.raises(StoreUnavailable, match="the store is away"):
            await lookups.model(ModelId(name))
    assert registry.asked == 1


async def test_a_store_that_is_known_to_be_away_is_not_asked_at_all(registry: Counted) -> None:
    lookups = Lookups(registry)
    registry.trouble = Trouble(Millis(1), "the store is away since then")
    told = "{} is not known to this pod, and whether it exists cannot be asked: the store is away since then"
    with pytest.raises(StoreUnavailable, match=told.format("model a")):
        await lookups.model(A)
    with pytest.raises(StoreUnavailable, match=told.format("vmodel nick")):
        await lookups.alias(NICK)
    assert registry.asked == 0
    registry.trouble = None
    assert not await lookups.model(A)


async def test_names_beyond_those_remembered_are_asked_for_again(registry: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.pod.lookups.MOST", 2)
    lookups = Lookups(registry)
    for name in "abca":
        await lookups.model(ModelId(name))
    assert registry.asked == 4


async def test_names_that_may_be_asked_for_again_are_not_remembered(registry: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.pod.lookups.AGAIN", 1e-6)
    lookups = Lookups(registry)
    for number in range(100):
        await lookups.model(ModelId(str(number)))
    assert len(lookups._unknown) == 1


async def test_aliases_and_names_that_may_be_either_are_found_too(store: MemoryStore, registry: Counted) -> None:
    other, targets = MemoryRegistry(store), Targets(registry, Dataplane.DEFAULT, Traffic(registry, lambda: 0.0))
    await other.change(SetAlias(NICK, A, Millis(1), info=INFO))
    assert await targets.find(Target(aliases=(NICK,)), Call("any/Method"), b"") == [Named(A, NICK)]
    await other.change(create("b"))
    assert await targets.find(Target(either="b"), Call("any/Method"), b"") == [Named(ModelId("b"), "b")]
    with pytest.raises(Unknown):
        await targets.find(Target(either="nobody"), Call("any/Method"), b"")
    with pytest.raises(Unknown, match="vmodel not found"):
        await targets.find(Target(aliases=(AliasId("nobody"),)), Call("any/Method"), b"")
