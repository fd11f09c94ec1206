"""A record says something else of this pod than is true: deleted and registered again unseen, changed by hand, or written too late."""

from __future__ import annotations

from mesh.core.events import FailureCleared, ModelDeleted, PodLeaves, RecordDiffers
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.edits import SettleCopy
from mesh.core.registry.records import ModelInfo, ModelRecord
from mesh.core.units import Millis
from tests.unit.core.stage import HERE, INFO, Stage

M, THERE = ModelId("m"), PodId("there")
OTHER = ModelInfo("test", "another path", "key")


def seen(stage: Stage, record: ModelRecord | None) -> list[str]:
    """What the runtime is to do when the record comes to be known."""
    return [order for event in stage.pod.record_changed(M, record) for order in stage.tell(event)]


def test_a_record_that_says_what_is_true_means_nothing() -> None:
    stage = Stage()
    assert stage.pod.record_changed(M, ModelRecord(INFO, copies={THERE: Millis(1)})) == []
    stage.holding(["m"])
    created = stage.copy("m#1").created
    assert stage.pod.record_changed(M, ModelRecord(INFO, copies={HERE: created}, ready={HERE: Millis(9)})) == []


def test_a_copy_that_an_old_record_shows_as_loading_is_written_there_as_ready() -> None:
    stage = Stage().holding(["m"])
    copy = stage.copy("m#1")
    assert seen(stage, ModelRecord(INFO, copies={HERE: copy.created})) == []
    assert stage.edits[-1] == SettleCopy(M, HERE, copy.created, copy.loaded_at, failed=False, last_used=copy.last_used)


def test_a_model_that_is_gone_is_unloaded() -> None:
    assert seen(Stage().holding(["m"]), None) == ["unload m#1"]


def test_a_model_that_was_deleted_and_registered_as_another_unseen_is_unloaded() -> None:
    stage = Stage().holding(["m"])
    assert seen(stage, ModelRecord(OTHER)) == ["unload m#1"]
    assert stage.pod.copy(M) is None


def test_what_failed_as_another_model_is_tried_again() -> None:
    stage = Stage()
    stage.want("m")
    stage.failed("m#1")
    assert ModelDeleted(M) in stage.pod.record_changed(M, ModelRecord(OTHER))
    assert FailureCleared(M) not in stage.pod.record_changed(M, ModelRecord(INFO))


def test_a_copy_that_a_record_does_not_show_is_written_there_again() -> None:
    stage = Stage().holding(["m"])
    copy = stage.copy("m#1")
    assert seen(stage, ModelRecord(INFO)) == []
    assert stage.edits[-1] == SettleCopy(M, HERE, copy.created, copy.loaded_at, failed=False, last_used=copy.last_used)


def test_a_copy_that_a_record_shows_and_that_is_not_here_is_taken_out() -> None:
    stage = Stage()
    seen(stage, ModelRecord(INFO, copies={HERE: Millis(1)}))
    assert stage.edits[-1] == SettleCopy(M, HERE, None, None, failed=False, last_used=Millis(0))


def test_a_copy_whose_record_is_being_written_is_left_to_that() -> None:
    stage = Stage(registers=False)
    stage.want("m")
    assert stage.pod.record_changed(M, ModelRecord(INFO)) == []
    assert stage.pod.record_changed(M, ModelRecord(INFO, copies={HERE: Millis(1)})) == []


def test_a_pod_that_leaves_writes_no_copy_again_that_it_took_out() -> None:
    stage = Stage().holding(["m"])
    stage.tell(PodLeaves())
    edits = list(stage.edits)
    assert stage.pod.record_changed(M, ModelRecord(INFO)) == [RecordDiffers(M)]
    seen(stage, ModelRecord(INFO))
    assert stage.edits == edits
