"""Which of two versions of a record is newer, when the store was replaced or put back in between."""

from __future__ import annotations

import pytest

from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import EndTransition, SetAlias
from mesh.core.registry.edits import AddCopy, CreateModel
from mesh.core.registry.origins import FIELD, MOST, Epochs, Origin, anew, origin_of, restored
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord, model_from_json, model_to_json
from mesh.core.units import Millis
from tests.unit.core.records import Tables

INFO = ModelInfo("onnx", "path")
RECORD = ModelRecord(INFO, unknown={"theirs": 1})
A, ALIAS = ModelId("a"), AliasId("alias")
BEFORE = Origin("one", 7)


def epochs(*markers: str) -> Epochs:
    made = Epochs()
    for marker in markers:
        made.enter(marker)
    return made


def test_of_one_store_the_greater_revision_is_newer_whether_the_store_is_known_or_not() -> None:
    assert epochs().newer(Origin("x", 2), Origin("x", 1))
    assert not epochs().newer(Origin("x", 1), Origin("x", 1))
    assert not epochs().newer(Origin("x", 1), Origin("x", 2))


def test_of_two_stores_the_one_that_took_the_others_place_is_newer_whatever_the_revisions() -> None:
    known = epochs("one", "two")
    assert known.newer(Origin("two", 1), Origin("one", 9))
    assert not known.newer(Origin("one", 9), Origin("two", 1))


def test_what_is_known_of_the_store_that_there_is_now_is_newer_than_what_any_other_had() -> None:
    known = epochs("one", "two")
    assert known.newer(Origin("two", 1), Origin("strange", 9))
    assert not known.newer(Origin("strange", 9), Origin("two", 1))


@pytest.mark.parametrize(("mine", "other"), [("one", "strange"), ("strange", "one"), ("strange", "stranger")])
def test_what_cannot_be_compared_is_not_newer(mine: str, other: str) -> None:
    assert not epochs("one", "two").newer(Origin(mine, 9), Origin(other, 1))


def test_a_store_that_comes_back_is_the_last_one_again_and_only_so_many_are_remembered() -> None:
    known = epochs("one", "two", "one")
    assert known.markers == ["two", "one"]
    assert "one" in known
    many = epochs(*map(str, range(MOST + 5)))
    assert len(many.markers) == MOST
    assert "4" not in many
    assert Epochs(many.markers).markers == many.markers


def test_an_origin_is_read_as_it_was_written_beside_what_others_wrote() -> None:
    written = model_to_json(restored(RECORD, BEFORE))
    assert written["theirs"] == 1
    assert origin_of(model_from_json(written)) == BEFORE
    assert anew(restored(RECORD, BEFORE)) == RECORD
    assert anew(RECORD) is RECORD


@pytest.mark.parametrize("value", [None, "text", [], ["one"], [1, "one"], ["one", 2, 3]])
def test_a_field_that_says_something_else_is_none(value: object) -> None:
    assert origin_of(RECORD.with_(unknown={FIELD: value})) is None


@pytest.fixture
def tables() -> Tables:
    made = Tables()
    made.models["a"] = restored(ModelRecord(INFO, last_used=Millis(5)), BEFORE)
    made.aliases["alias"] = restored(AliasRecord(A, A), BEFORE)
    return made


def test_what_pods_write_of_it_leaves_the_origin(tables: Tables) -> None:
    assert tables.apply(AddCopy(A, PodId("pod"), Millis(1), Millis(1))) is None
    assert tables.apply(EndTransition(ALIAS, A, A, loaded=True)) is None
    assert origin_of(tables.models["a"]) == origin_of(tables.aliases["alias"]) == BEFORE


def test_who_registers_it_again_makes_it_anew(tables: Tables) -> None:
    assert tables.apply(CreateModel(A, INFO, Millis(1))) is None
    assert origin_of(tables.models["a"]) is None
    assert tables.models["a"].last_used == 5


@pytest.mark.parametrize("target", ["a", "b"])
def test_who_points_an_alias_makes_it_and_its_target_anew(tables: Tables, target: str) -> None:
    tables.models.setdefault("b", restored(ModelRecord(INFO), BEFORE))
    assert tables.apply(SetAlias(ALIAS, ModelId(target), Millis(1))) is None
    assert origin_of(tables.aliases["alias"]) is None
    assert origin_of(tables.models[target]) is None
