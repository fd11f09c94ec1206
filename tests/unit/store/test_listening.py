"""Who listens to a registry hears every change, in order, after the mirrors show it."""

from __future__ import annotations

import asyncio

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import DeleteAlias, SetAlias
from mesh.core.registry.edits import DeleteModel
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.units import Millis
from mesh.store.registry import Registry
from tests.unit.store.edits import INFO, Count, Witness, WriteThenRefuse, create

A = ModelId("a")


async def test_changes_are_told_in_order_and_a_deletion_is_told_as_nothing(registry: Registry) -> None:
    witness = Witness(registry)
    await registry.change(create("a"))
    await registry.change(DeleteModel(A))
    await registry.change(create("a"))
    assert [record is None for record in witness.of("a")] == [False, True, False]


async def test_the_order_of_what_contends_is_the_order_in_which_it_was_written(registry: Registry) -> None:
    witness = Witness(registry)
    await registry.change(create("a"))
    await asyncio.gather(*(registry.change(Count("a")) for _ in range(20)))
    assert [record.refs for record in witness.of("a") if isinstance(record, ModelRecord)] == list(range(21))


async def test_all_listeners_hear_the_same(registry: Registry) -> None:
    one, other = Witness(registry), Witness(registry)
    await asyncio.gather(*(registry.change(create(name)) for name in "abc"))
    assert one.told == other.told
    assert len(one.told) == 3


async def test_a_refused_edit_is_not_told(registry: Registry) -> None:
    witness = Witness(registry)
    await registry.change(WriteThenRefuse("a"))
    assert witness.told == []


async def test_of_several_records_each_is_told_once_all_are_written(registry: Registry) -> None:
    states: list[tuple[bool, bool]] = []

    def look(*_: object) -> None:
        states.append((A in registry.models, AliasId("alias") in registry.aliases))

    registry.listen(look, look)
    await registry.change(SetAlias(AliasId("alias"), A, Millis(1), info=INFO, auto_delete=True))
    await registry.change(DeleteAlias(AliasId("alias")))
    assert states == [(True, True), (True, True), (False, False), (False, False)]


async def test_models_and_aliases_of_one_name_are_told_apart(registry: Registry) -> None:
    witness = Witness(registry)
    await registry.change(SetAlias(AliasId("a"), A, Millis(1), info=INFO))
    assert {type(record) for record in witness.of("a")} == {ModelRecord, AliasRecord}
