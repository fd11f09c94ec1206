"""The pod that leads puts wrong numbers of references right, once they have been wrong for a while."""

from __future__ import annotations

import pytest

from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.registry.references import GRACE
from mesh.core.units import Millis
from mesh.pod import references
from mesh.pod.references import ReferenceKeeper
from mesh.store.memory import MemoryRegistry, MemoryStore
from tests.support.records import PutAlias, PutModel

INFO = ModelInfo("test")
A, LEAKED, PENDING, COUNTED = AliasId("a"), ModelId("leaked"), ModelId("pending"), ModelId("counted-twice")


class Clock:
    """Goes on when a test says so."""

    def __init__(self) -> None:
        self.at = Millis(10**12)

    def now(self) -> Millis:
        return self.at

    def pass_(self, millis: int) -> None:
        self.at = Millis(self.at + millis)


async def written_by_modelmesh(registry: MemoryRegistry) -> None:
    """An alias that was set twice by force, and a model that its alias left behind."""
    await registry.change(PutModel(LEAKED, ModelRecord(INFO, refs=1, auto_delete=True)))
    await registry.change(PutModel(COUNTED, ModelRecord(INFO, refs=2, auto_delete=True)))
    await registry.change(PutAlias(A, AliasRecord(COUNTED, COUNTED)))


def refs(registry: MemoryRegistry) -> dict[str, int]:
    return {name: record.refs for name, record in registry.models.items()}


async def test_what_modelmesh_left_behind_is_put_right_by_the_leader_alone() -> None:
    store, clock = MemoryStore(), Clock()
    registry, other = store.registry(), store.registry()
    await written_by_modelmesh(registry)
    before = refs(registry)
    keeper, follower = ReferenceKeeper(registry, clock), ReferenceKeeper(other, clock)
    clock.pass_(GRACE)
    await keeper.correct()
    assert refs(registry) == before, "nobody leads"
    await registry.stand_for_leader(PodId("one"))
    await other.stand_for_leader(PodId("two"))
    await keeper.correct()
    assert refs(registry) == before, "the grace begins when a leader begins to look"
    clock.pass_(GRACE)
    await follower.correct()
    assert refs(registry) == before
    await keeper.correct()
    assert refs(registry) == {COUNTED: 1}


async def test_a_model_whose_alias_is_only_being_written_stays() -> None:
    registry, clock = MemoryRegistry(), Clock()
    await registry.stand_for_leader(PodId("one"))
    keeper = ReferenceKeeper(registry, clock)
    await registry.change(PutModel(PENDING, ModelRecord(INFO, refs=1, auto_delete=True)))
    clock.pass_(GRACE - 1)
    await keeper.correct()
    assert refs(registry) == {PENDING: 1}
    await registry.change(PutAlias(A, AliasRecord(PENDING, PENDING)))
    clock.pass_(GRACE)
    await keeper.correct()
    assert refs(registry) == {PENDING: 1}


async def test_what_a_leader_counts_is_spared_by_the_garbage_collector_little_by_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "SPARED", 2 * references.PART)
    registry, spared = MemoryRegistry(), list[int]()
    await registry.stand_for_leader(PodId("one"))
    for number in range(5 * references.PART):
        await registry.change(PutAlias(AliasId(f"alias-{number}"), AliasRecord(COUNTED, COUNTED)))
    keeper = ReferenceKeeper(registry, Clock(), lambda: spared.append(1))
    await keeper.correct()
    assert len(spared) == 2
    await keeper.correct()
    assert len(spared) == 2, "they are counted once"
