"""While a registry is read-only, pods go on writing about their own copies; nothing else is changed, and who asks for it is told why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from mesh.core.errors import Conflict, Malformed, MeshError, StoreUnavailable, Unknown
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import DeleteAlias, EndTransition, SetAlias
from mesh.core.registry.edits import (
    AddCopy,
    ClearFailure,
    CreateModel,
    DeleteModel,
    Edit,
    MarkReady,
    RecordFailure,
    RemoveCopy,
    Transaction,
)
from mesh.core.registry.records import ModelInfo
from mesh.core.units import Millis
from mesh.settings import Settings
from mesh.store.memory import MemoryRegistry
from mesh.store.read_only import OwnCopiesOnly
from tests.unit.store.edits import INFO

ME, OTHER = PodId("abcdef-00001"), PodId("abcdef-00002")
A, B, NEW = ModelId("a"), ModelId("b"), ModelId("new")
ALIAS = AliasId("alias")
NOW = Millis(10)


def only(edit: Edit) -> OwnCopiesOnly:
    return OwnCopiesOnly(edit, ME)


@dataclass
class Alter:
    """Changes any field of a model's record."""

    changes: dict[str, Any]

    def apply(self, records: Transaction) -> MeshError | None:
        record = records.model(A)
        assert record is not None
        records.put_model(A, replace(record, **self.changes))
        return None


@pytest.fixture
async def registry() -> MemoryRegistry:
    """Model a, loaded by two pods, a target and alias of b, which failed at both."""
    made = MemoryRegistry()
    await made.change(SetAlias(ALIAS, A, NOW, info=INFO))
    for pod in (ME, OTHER):
        await made.change(AddCopy(A, pod, NOW, NOW))
    await made.change(CreateModel(B, INFO, NOW))
    for pod in (ME, OTHER):
        await made.change(RecordFailure(B, pod, NOW, NOW, "broken", NOW))
    return made


async def test_the_life_of_an_own_copy_is_written(registry: MemoryRegistry) -> None:
    assert await registry.change(only(MarkReady(A, ME, NOW, Millis(11)))) is None
    assert registry.models[A].ready == {ME: 11}
    assert await registry.change(only(RemoveCopy(A, ME, NOW, Millis(20), Millis(21)))) is None
    assert (registry.models[A].copies, registry.models[A].last_used) == ({OTHER: NOW}, 20)
    assert await registry.change(only(ClearFailure(B, ME))) is None
    assert await registry.change(only(AddCopy(B, ME, NOW, NOW))) is None
    assert await registry.change(only(RecordFailure(B, ME, NOW, NOW, "again", NOW))) is None
    assert registry.models[B].failures == {OTHER: "broken", ME: "again"}


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (CreateModel(NEW, INFO, NOW), "model new"),
        (DeleteModel(B), "model b"),
        (SetAlias(AliasId("other"), A, NOW), "vmodel other"),
        (SetAlias(ALIAS, NEW, NOW, info=INFO), "vmodel alias"),
        (DeleteAlias(ALIAS), "vmodel alias"),
        (EndTransition(ALIAS, A, A, loaded=False), "vmodel alias"),
        (AddCopy(A, PodId("third"), NOW, NOW), "model a"),
        (RemoveCopy(A, OTHER, NOW, NOW, NOW), "model a"),
        (ClearFailure(B, OTHER), "model b"),
        (Alter({"info": ModelInfo("onnx")}), "model a"),
        (Alter({"refs": 7}), "model a"),
        (Alter({"auto_delete": True}), "model a"),
        (Alter({"ready": {OTHER: NOW}}), "model a"),
        (Alter({"unknown": {"future": 1}}), "model a"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
async def test_whatever_else_would_be_written_is_refused_with_the_reason_and_what_to_do(
    registry: MemoryRegistry, edit: Edit, named: str
) -> None:
    before = dict(registry.models), dict(registry.aliases)
    refusal = await registry.change(only(edit))
    assert isinstance(refusal, StoreUnavailable)
    assert refusal.message.startswith(f"model-mesh is in read-only mode: {named} is not changed; ")
    assert "KV_READ_ONLY" in refusal.message
    assert (registry.models, registry.aliases) == before


@pytest.mark.parametrize(
    "edit",
    [
        CreateModel(A, INFO, NOW),
        DeleteModel(NEW),
        SetAlias(ALIAS, A, NOW, info=INFO),
        DeleteAlias(AliasId("other")),
        ClearFailure(A, OTHER),
    ],
    ids=lambda edit: type(edit).__name__,
)
async def test_who_asks_for_what_already_holds_succeeds(registry: MemoryRegistry, edit: Edit) -> None:
    assert await registry.change(only(edit)) is None


async def test_an_edits_own_refusal_comes_first(registry: MemoryRegistry) -> None:
    assert isinstance(await registry.change(only(CreateModel(A, ModelInfo("onnx"), NOW))), Conflict)
    assert isinstance(await registry.change(only(AddCopy(NEW, ME, NOW, NOW))), Unknown)


def test_a_registry_in_memory_cannot_be_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KV_READ_ONLY", "true")
    monkeypatch.delenv("KV_STORE", raising=False)
    with pytest.raises(Malformed, match="KV_READ_ONLY needs KV_STORE: a registry in memory would stay empty"):
        Settings.load()
