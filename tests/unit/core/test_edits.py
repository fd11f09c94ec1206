"""Changes of records: each says what it writes, refuses what does not fit, and leaves alone what is none of its business."""

from __future__ import annotations

from mesh.core.errors import Conflict, NotHere, Referenced, Unknown
from mesh.core.ids import ModelId, PodId
from mesh.core.policy import HOUR
from mesh.core.registry.edits import (
    AddCopy,
    ClearFailure,
    CreateModel,
    DeleteModel,
    MarkReady,
    RecordFailure,
    RemoveCopy,
)
from mesh.core.registry.records import ModelInfo, ModelRecord
from mesh.core.units import Millis
from tests.unit.core.records import Tables

M, HERE, THERE = ModelId("m"), PodId("here"), PodId("there")
INFO = ModelInfo("sklearn", "path", "{}")


def at(moment: int) -> Millis:
    return Millis(moment)


def with_model(record: ModelRecord | None = None) -> Tables:
    tables = Tables()
    tables.models["m"] = record or ModelRecord(INFO, last_used=at(5))
    return tables


def test_registering_twice_with_the_same_attributes_succeeds() -> None:
    tables = Tables()
    assert tables.apply(CreateModel(M, INFO, at(5))) is None
    assert tables.apply(CreateModel(M, INFO, at(6))) is None
    assert tables.models["m"].last_used == 5


def test_registering_again_much_later_advances_the_last_use() -> None:
    tables = with_model()
    tables.apply(CreateModel(M, INFO, at(HOUR + 6)))
    assert tables.models["m"].last_used == HOUR + 6


def test_registering_with_other_attributes_is_a_conflict_in_the_pinned_words() -> None:
    refusal = with_model().apply(CreateModel(M, ModelInfo("other"), at(5)))
    assert isinstance(refusal, Conflict)
    assert str(refusal) == "Model already exists with different attribute values"


def test_deleting_forgets_the_model_and_an_absent_one_succeeds() -> None:
    tables = with_model()
    assert tables.apply(DeleteModel(M)) is None
    assert tables.models == {}
    assert tables.apply(DeleteModel(M)) is None


def test_deleting_what_aliases_point_at_is_refused() -> None:
    refusal = with_model(ModelRecord(INFO, refs=1)).apply(DeleteModel(M))
    assert isinstance(refusal, Referenced)
    assert str(refusal) == "Model m has referents"


def test_a_copy_is_added_and_the_pods_own_failure_dropped() -> None:
    tables = with_model(ModelRecord(INFO, failed={HERE: at(1), THERE: at(2)}, failures={HERE: "a", THERE: "b"}))
    assert tables.apply(AddCopy(M, HERE, at(7), at(6))) is None
    record = tables.models["m"]
    assert (record.copies, record.failed, record.failures, record.last_used) == ({HERE: 7}, {THERE: 2}, {THERE: "b"}, 6)


def test_a_copy_that_is_added_is_not_ready_whatever_an_earlier_one_was() -> None:
    tables = with_model(ModelRecord(INFO, copies={HERE: at(1), THERE: at(2)}, ready={HERE: at(3), THERE: at(4)}))
    assert tables.apply(AddCopy(M, HERE, at(7), at(6))) is None
    assert (tables.models["m"].copies, tables.models["m"].ready) == ({HERE: 7, THERE: 2}, {THERE: 4})


def test_of_two_pods_that_want_to_load_a_model_the_quicker_one_does() -> None:
    tables = with_model()
    known = frozenset({PodId("known")})
    tables.models["m"] = tables.models["m"].with_(copies={PodId("known"): at(1), HERE: at(2)})
    assert tables.apply(AddCopy(M, HERE, at(7), at(6), known)) is None
    refusal = tables.apply(AddCopy(M, THERE, at(8), at(6), known))
    assert isinstance(refusal, NotHere)
    assert refusal.message == "model m is loaded by here already"
    assert tables.apply(AddCopy(M, THERE, at(8), at(6), known | {HERE})) is None


def test_a_copy_of_a_deleted_model_is_refused() -> None:
    refusal = Tables().apply(AddCopy(M, HERE, at(7), at(6)))
    assert isinstance(refusal, Unknown)
    assert str(refusal) == "model not found"


def test_ready_is_marked_for_the_copy_that_was_meant() -> None:
    tables = with_model(ModelRecord(INFO, copies={HERE: at(7)}))
    tables.apply(MarkReady(M, HERE, at(6), at(9)))
    assert tables.models["m"].ready == {}
    tables.apply(MarkReady(M, HERE, at(7), at(9)))
    assert tables.models["m"].ready == {HERE: 9}
    assert Tables().apply(MarkReady(M, HERE, at(7), at(9))) is None


def test_a_copy_is_removed_if_it_is_the_one_that_was_meant() -> None:
    tables = with_model(ModelRecord(INFO, copies={HERE: at(7), THERE: at(8)}, ready={HERE: at(9)}))
    tables.apply(RemoveCopy(M, HERE, at(6), at(20), at(30)))
    assert set(tables.models["m"].copies) == {HERE, THERE}
    tables.apply(RemoveCopy(M, HERE, at(7), at(20), at(30)))
    record = tables.models["m"]
    assert (record.copies, record.ready, record.last_used, record.last_unload) == ({THERE: 8}, {}, 20, 0)
    assert Tables().apply(RemoveCopy(M, HERE, at(7), at(20), at(30))) is None


def test_the_last_unload_counts_while_more_than_two_copies_remain() -> None:
    pods = {PodId(name): at(1) for name in "abcd"}
    tables = with_model(ModelRecord(INFO, copies=pods))
    tables.apply(RemoveCopy(M, PodId("a"), at(1), at(2), at(30)))
    assert tables.models["m"].last_unload == 30
    tables.apply(RemoveCopy(M, PodId("b"), at(1), at(2), at(40)))
    assert tables.models["m"].last_unload == 0


def test_a_failure_replaces_the_copy_and_clears_by_pod() -> None:
    tables = with_model(ModelRecord(INFO, copies={HERE: at(7)}))
    tables.apply(RecordFailure(M, HERE, at(7), at(9), "broken", at(8)))
    record = tables.models["m"]
    assert (record.copies, record.failed, record.failures, record.last_used) == ({}, {HERE: 9}, {HERE: "broken"}, 8)
    tables.apply(ClearFailure(M, THERE))
    assert tables.models["m"].failed == {HERE: 9}
    tables.apply(ClearFailure(M, HERE))
    assert (tables.models["m"].failed, tables.models["m"].failures) == ({}, {})
    assert Tables().apply(ClearFailure(M, HERE)) is None


def test_a_failure_of_an_earlier_try_leaves_the_present_copy_and_a_deleted_model_alone() -> None:
    tables = with_model(ModelRecord(INFO, copies={HERE: at(7)}))
    tables.apply(RecordFailure(M, HERE, at(6), at(9), "broken", at(8)))
    assert tables.models["m"].copies == {HERE: 7}
    empty = Tables()
    assert empty.apply(RecordFailure(M, HERE, at(7), at(9), "broken", at(8))) is None
    assert empty.models == {}


def test_a_first_copy_has_no_failure_to_drop() -> None:
    tables = with_model()
    tables.apply(AddCopy(M, HERE, at(7), at(6)))
    assert tables.models["m"].copies == {HERE: 7}
