"""Whether a model was ever called: its guessed age is no use, a call is, and a record of ModelMesh says nothing of it."""

from __future__ import annotations

from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.policy import AGE_ON_LOAD
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.edits import AddCopy, CreateModel, Edit, RecordUse, RemoveCopy
from mesh.core.registry.records import ModelRecord, model_from_json, model_to_json
from mesh.core.units import Millis
from tests.unit.core.records import Tables
from tests.unit.core.stage import INFO

M, A = ModelId("m"), PodId("a")
NOW = Millis(1_700_000_000_000)
GUESSED = Millis(NOW - AGE_ON_LOAD)


def after(*edits: Edit, first: bool = True) -> ModelRecord:
    records = Tables()
    for edit in (CreateModel(M, INFO, GUESSED, uncalled=first), *edits):
        assert edit.apply(records) is None
    record = records.model(M)
    assert record is not None
    return record


def test_a_model_is_uncalled_when_it_is_registered_unless_somebody_says_when_it_was_used() -> None:
    assert after().uncalled
    assert not after(first=False).uncalled


def test_a_load_without_a_call_leaves_it_uncalled_and_so_does_the_end_of_the_copy() -> None:
    assert after(AddCopy(M, A, NOW, GUESSED), RemoveCopy(M, A, NOW, GUESSED, NOW)).uncalled


def test_a_call_that_has_it_loaded_or_uses_its_copy_is_remembered() -> None:
    assert not after(AddCopy(M, A, NOW, NOW)).uncalled
    assert not after(AddCopy(M, A, NOW, Millis(NOW - 5))).uncalled, "clocks of pods differ a little"
    assert not after(AddCopy(M, A, NOW, GUESSED), RemoveCopy(M, A, NOW, Millis(NOW + 9), Millis(NOW + 10))).uncalled
    assert not after(AddCopy(M, A, NOW, GUESSED), RecordUse(M, Millis(NOW + 9), Millis(NOW + 10))).uncalled
    assert not after(AddCopy(M, A, NOW, NOW), RemoveCopy(M, A, NOW, GUESSED, NOW)).uncalled, "it stays so"


def test_a_successor_inherits_the_use_of_what_it_replaces() -> None:
    for before, uncalled in ((ModelRecord(INFO, last_used=NOW), False), (ModelRecord(INFO, last_used=GUESSED, uncalled=True), True)):
        records = Tables()
        records.put_model(ModelId("old"), before)
        assert SetAlias(AliasId("x"), ModelId("old"), NOW).apply(records) is None
        assert SetAlias(AliasId("x"), M, NOW, INFO).apply(records) is None
        record = records.model(M)
        assert record is not None
        assert record.uncalled is uncalled


def test_it_stands_in_the_record_only_while_it_is_so() -> None:
    assert model_to_json(after())["uncalled"] is True
    assert "uncalled" not in model_to_json(after(first=False))
    assert model_from_json(model_to_json(after())) == after()
    assert not model_from_json({"type": "t", "lu": 5}).uncalled, "ModelMesh does not say"
