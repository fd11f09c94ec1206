"""Edits of a registry: atomic, repeated on conflict, without effect when refused."""

from __future__ import annotations

import asyncio
import random

import pytest

from mesh.core.errors import Conflict, MeshError, Referenced, Unknown
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import DeleteAlias, SetAlias
from mesh.core.registry.edits import AddCopy, DeleteModel, Edit, RecordFailure
from mesh.core.registry.records import AliasRecord, ModelInfo
from mesh.core.units import Millis
from mesh.store.registry import Registry
from tests.unit.store.edits import INFO, Count, CountIfFewer, Seen, WriteThenRefuse, create

A, B = ModelId("a"), ModelId("b")


async def test_what_is_written_can_be_read(registry: Registry) -> None:
    assert await registry.change(create("a")) is None
    assert registry.models[A].info == INFO
    assert list(registry.aliases) == []


async def test_what_is_deleted_is_gone(registry: Registry) -> None:
    await registry.change(create("a"))
    assert await registry.change(DeleteModel(A)) is None
    assert dict(registry.models) == {}


async def test_deleting_what_is_not_there_succeeds(registry: Registry) -> None:
    assert await registry.change(DeleteModel(A)) is None


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (create("a", ModelInfo("onnx")), Conflict),
        (DeleteModel(A), Referenced),
        (AddCopy(B, PodId("pod"), Millis(1), Millis(1)), Unknown),
        (WriteThenRefuse("b"), Referenced),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_refused_edit_writes_nothing(registry: Registry, edit: Edit, kind: type[MeshError]) -> None:
    await registry.change(create("a"))
    await registry.change(Count("a"))
    before = dict(registry.models), dict(registry.aliases)
    assert isinstance(await registry.change(edit), kind)
    assert (dict(registry.models), dict(registry.aliases)) == before


async def test_an_edit_reads_what_it_wrote(registry: Registry) -> None:
    edit = Seen()
    assert await registry.change(edit) is None
    assert [found is None for found in edit.found] == [True, True, False, False, True, True]
    assert not registry.models
    assert not registry.aliases


async def test_edits_that_meet_are_repeated_until_each_counts(registry: Registry) -> None:
    await registry.change(create("a"))
    edits = [Count("a") for _ in range(20)]
    await asyncio.gather(*map(registry.change, edits))
    assert registry.models[A].refs == 20
    assert sum(edit.attempts for edit in edits) > 20, "nobody met anybody"


async def test_edits_of_different_records_do_not_disturb_each_other(registry: Registry) -> None:
    await asyncio.gather(*(registry.change(create(name)) for name in "abcdefgh"))
    edits = [Count(name) for name in "abcdefgh"]
    await asyncio.gather(*map(registry.change, edits))
    assert [edit.attempts for edit in edits] == [1] * 8


async def test_what_an_edit_only_read_must_hold_too(registry: Registry) -> None:
    await asyncio.gather(registry.change(create("a")), registry.change(create("b")))
    refusals = await asyncio.gather(
        *(registry.change(CountIfFewer(*pair, limit=5)) for _ in range(10) for pair in (("a", "b"), ("b", "a")))
    )
    assert registry.models[A].refs + registry.models[B].refs == 5
    assert sum(refusal is not None for refusal in refusals) == 15


async def test_absence_must_hold_too(registry: Registry) -> None:
    refusals = await asyncio.gather(*(registry.change(create("a", ModelInfo(kind))) for kind in ("sklearn", "onnx", "xgboost")))
    assert sorted(type(refusal).__name__ for refusal in refusals) == ["Conflict", "Conflict", "NoneType"]
    winner = [kind for kind, refusal in zip(("sklearn", "onnx", "xgboost"), refusals, strict=True) if refusal is None]
    assert [registry.models[A].info.type] == winner


@pytest.mark.parametrize("turns", range(4))
async def test_a_record_that_was_made_again_is_another_one(registry: Registry, turns: int) -> None:
    await registry.change(create("a"))

    async def made_again() -> None:
        await registry.change(DeleteModel(A))
        await registry.change(create("a", ModelInfo("onnx")))

    making = asyncio.ensure_future(made_again())
    for _ in range(turns):
        await asyncio.sleep(0)
    # Whenever it reads, what it writes is never the record that was deleted.
    await registry.change(RecordFailure(A, PodId("pod"), Millis(1), Millis(2), "broken", Millis(1)))
    await making
    assert registry.models[A].info.type == "onnx"


async def test_an_alias_and_its_models_change_together(registry: Registry) -> None:
    set_it = SetAlias(AliasId("alias"), A, Millis(1), info=INFO, auto_delete=True)
    assert await registry.change(set_it) is None
    assert registry.aliases[AliasId("alias")] == AliasRecord(A, A)
    assert registry.models[A].refs == 1
    assert await registry.change(DeleteAlias(AliasId("alias"))) is None
    assert not registry.aliases
    assert not registry.models


async def test_a_change_that_is_given_up_is_written_whole_or_not_at_all(registry: Registry) -> None:
    for _ in range(10):
        task = asyncio.ensure_future(registry.change(SetAlias(AliasId("alias"), A, Millis(1), info=INFO, auto_delete=True)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (A in registry.models) == (AliasId("alias") in registry.aliases)


@pytest.mark.parametrize("seed", range(5))
async def test_references_are_right_whatever_contends(registry: Registry, seed: int) -> None:
    draw = random.Random(seed)
    models, aliases = [f"m{number}" for number in range(4)], [f"x{number}" for number in range(4)]

    async def somebody() -> None:
        for _ in range(25):
            alias, model = AliasId(draw.choice(aliases)), ModelId(draw.choice(models))
            edits: list[Edit] = [
                SetAlias(alias, model, Millis(1), info=INFO, auto_delete=True, force=True),
                SetAlias(alias, model, Millis(1), info=INFO),
                DeleteAlias(alias),
                DeleteModel(model),
                RecordFailure(model, PodId("pod"), Millis(1), Millis(2), "broken", Millis(1)),
            ]
            await registry.change(draw.choice(edits))

    await asyncio.gather(*(somebody() for _ in range(6)))
    pointed = [end for record in registry.aliases.values() for end in {record.active, record.target}]
    assert {model: record.refs for model, record in registry.models.items()} == {model: pointed.count(model) for model in registry.models}
    assert set(pointed) <= set(registry.models)
