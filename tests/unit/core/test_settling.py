"""What a record has to say of a pod whose writes did not arrive."""

from __future__ import annotations

from mesh.core.cache.copies import State
from mesh.core.errors import StoreUnavailable
from mesh.core.events import EditFailed, PodLeaves
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.edits import SettleCopy
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis
from tests.unit.core.records import Tables
from tests.unit.core.stage import HERE, INFO, Stage, copy_id

M, THERE = ModelId("m"), PodId("there")


def unregistered() -> Stage:
    """A copy that loads although the store did not answer."""
    stage = Stage(registers=False)
    stage.want("m")
    stage.tell(EditFailed(copy_id("m#1"), StoreUnavailable("away")))
    return stage


def settled(stage: Stage, record: ModelRecord) -> ModelRecord:
    """The record after the pod told what is true of it."""
    tables, edit = Tables(), stage.pod.settled(M)
    tables.models["m"] = record
    assert edit is not None
    assert tables.apply(edit) is None
    return tables.models["m"]


def test_a_copy_that_loads_stands_beside_those_of_others() -> None:
    stage = unregistered()
    before = ModelRecord(INFO, copies={THERE: Millis(3)}, ready={THERE: Millis(4)})
    assert settled(stage, before) == before.with_(copies={THERE: Millis(3), HERE: stage.now}, last_used=stage.now)


def test_a_copy_that_serves_is_ready_and_a_failure_before_it_is_over() -> None:
    stage = unregistered()
    wanted = stage.now
    stage.later(500)
    stage.loaded("m#1")
    before = ModelRecord(INFO, copies={HERE: Millis(3)}, failed={HERE: Millis(4)}, failures={HERE: "broken"}, last_used=Millis(2**50))
    assert settled(stage, before) == ModelRecord(INFO, copies={HERE: wanted}, ready={HERE: stage.now}, last_used=Millis(2**50))


def test_what_is_not_here_does_not_stand_there_and_a_failure_that_lasts_does() -> None:
    stage = unregistered()
    stage.failed("m#1")
    assert stage.copy("m#1").state is State.UNLOADING
    before = ModelRecord(INFO, copies={HERE: stage.now}, failed={HERE: Millis(4)}, failures={HERE: "broken"}, last_used=Millis(9))
    assert settled(stage, before) == before.with_(copies={})


def test_a_record_that_is_right_is_not_written_and_a_deleted_model_stays_deleted() -> None:
    tables, edit = Tables(), SettleCopy(M, HERE, Millis(3), None, False, Millis(3))
    assert tables.apply(edit) is None
    assert tables.models == {}
    tables.models["m"] = right = ModelRecord(INFO, copies={HERE: Millis(3)}, last_used=Millis(5))
    tables.apply(edit)
    assert tables.models["m"] is right


def test_nothing_is_said_of_a_copy_that_is_being_registered_nor_by_a_pod_that_leaves() -> None:
    stage = Stage(registers=False)
    stage.want("m")
    assert stage.pod.settled(M) is None
    stage = unregistered()
    stage.loaded("m#1")
    stage.tell(PodLeaves())
    assert stage.pod.settled(M) is None
