"""A model that is wanted comes: one load however many want it, those that somebody waits for first."""

from __future__ import annotations

import pytest

from mesh.core.errors import Code, NoRuntime, StoreUnavailable, Unknown
from mesh.core.events import EditDone, EditFailed, EditRefused, ModelDeleted, SizeMeasured
from mesh.core.ids import ModelId
from mesh.core.instructions import Outcome
from mesh.core.placement.constraints import Constraints
from mesh.core.pod import BrokenRuleError
from mesh.core.registry.edits import AddCopy, MarkReady
from mesh.core.units import Millis
from tests.unit.core.stage import HERE, Stage, copy_id


def test_a_model_is_registered_then_loaded_then_serves() -> None:
    stage = Stage()
    assert stage.want("m") == ["load m#1"]
    since = Millis(stage.now - stage.pod.cache.policy.failure_counts)
    assert stage.edits == [AddCopy(ModelId("m"), HERE, stage.now, stage.now, failed_since=since)]
    assert stage.loaded("m#1") == []
    assert stage.released == [("m", Outcome.ENTERED, None)]
    assert stage.edits[1:] == [MarkReady(ModelId("m"), HERE, stage.now, stage.now)]
    assert stage.states() == {"m#1": "ready"}


def test_however_many_wait_there_is_one_load_and_all_enter_in_the_same_decision() -> None:
    stage = Stage()
    orders = [order for _ in range(1000) for order in stage.want("m")]
    assert orders == ["load m#1"]
    stage.loaded("m#1")
    assert stage.copy("m#1").calls == 1000
    assert stage.leave_all("m") == []
    assert stage.copy("m#1").calls == 0


def test_a_wish_for_a_model_that_serves_is_granted_at_once() -> None:
    stage = Stage().holding(["m"])
    assert stage.want("m") == []
    assert stage.released[-1] == ("m", Outcome.ENTERED, None)
    assert stage.copy("m#1").calls == 1


def test_a_wish_without_a_waiter_releases_nobody() -> None:
    stage = Stage()
    stage.want("m", urgent=False, waits=False)
    stage.loaded("m#1")
    assert stage.released == []


def test_no_more_loads_run_than_there_are_slots() -> None:
    stage = Stage(slots=2)
    assert [stage.want(name) for name in "abc"] == [["load a#1"], ["load b#1"], []]
    assert stage.states()["c#1"] == "queued"
    assert stage.loaded("a#1") == ["load c#1"]


def test_a_waiting_call_overtakes_what_was_queued_in_the_background() -> None:
    stage = Stage(slots=1)
    stage.want("running")
    stage.want("background", urgent=False, waits=False)
    stage.want("call")
    assert stage.loaded("running#1") == ["load call#1"]
    assert stage.loaded("call#1") == ["load background#1"]


def test_a_call_for_a_queued_background_load_promotes_it() -> None:
    stage = Stage(slots=1)
    stage.want("running")
    stage.want("first", urgent=False, waits=False)
    stage.want("second", urgent=False, waits=False)
    stage.want("second")
    assert stage.loaded("running#1") == ["load second#1"]


def test_background_loads_come_most_recently_used_first() -> None:
    stage = Stage(slots=1)
    stage.want("running")
    stage.want("old", urgent=False, waits=False, last_used=1)
    stage.want("new", urgent=False, waits=False, last_used=2)
    assert stage.loaded("running#1") == ["load new#1"]


def test_a_load_whose_callers_left_goes_on_behind_those_that_are_waited_for() -> None:
    stage = Stage(slots=1)
    stage.want("running")
    stage.want("left")
    stage.stop_waiting("left")
    stage.want("waited")
    assert stage.loaded("running#1") == ["load waited#1"]
    assert stage.loaded("waited#1") == ["load left#1"]
    stage.loaded("left#1")
    assert stage.copy("left#1").calls == 0


def test_leaving_what_nobody_waits_for_changes_nothing() -> None:
    stage = Stage()
    stage.stop_waiting("unknown")
    stage.holding(["m"])
    stage.stop_waiting("m")
    assert stage.copy("m#1").waiting == 0


def test_a_size_is_predicted_before_the_load_is_queued() -> None:
    stage = Stage(predicts=True)
    assert stage.want("m") == ["predict m#1"]
    assert stage.states() == {"m#1": "registering"}
    assert stage.predicted("m#1", 250) == ["load m#1"]
    assert stage.pod.cache.space.granted == 250


def test_without_a_prediction_the_default_size_counts() -> None:
    stage = Stage(predicts=True, default=100)
    stage.want("m")
    assert stage.predicted("m#1", None) == ["load m#1"]
    assert stage.pod.cache.space.granted == 100


def test_a_prediction_may_come_before_the_registry_answers() -> None:
    stage = Stage(predicts=True, registers=False)
    stage.want("m")
    assert stage.predicted("m#1", 250) == []
    assert stage.tell(EditDone(copy_id("m#1"))) == ["load m#1"]


def test_a_registry_that_is_away_does_not_keep_a_model_from_loading() -> None:
    stage = Stage(registers=False)
    stage.want("m")
    assert stage.tell(EditFailed(copy_id("m#1"), StoreUnavailable("away"))) == ["load m#1"]


def test_a_record_that_refuses_the_copy_ends_it_and_tells_those_who_wait() -> None:
    stage = Stage(registers=False)
    stage.want("m")
    gone = Unknown("model not found")
    assert stage.tell(EditRefused(copy_id("m#1"), gone)) == []
    assert stage.released == [("m", Outcome.FAILED, gone)]
    assert stage.states() == {}


def test_a_runtime_that_tells_no_size_is_asked_while_the_model_serves() -> None:
    stage = Stage()
    stage.want("m")
    assert stage.loaded_unsized("m#1") == ["measure m#1"]
    assert stage.released == [("m", Outcome.ENTERED, None)]
    assert stage.measured("m#1", 40) == []
    assert stage.pod.cache.space.granted == 40


def test_a_size_that_cannot_be_measured_stays_as_predicted() -> None:
    stage = Stage(default=100)
    stage.want("m")
    stage.loaded_unsized("m#1")
    stage.measured("m#1", None)
    assert stage.pod.cache.space.granted == 100


def test_sizing_holds_the_slot() -> None:
    stage = Stage(slots=1)
    stage.want("a")
    stage.want("b")
    stage.loaded_unsized("a#1")
    assert stage.states()["b#1"] == "queued"
    assert stage.measured("a#1", 10) == ["load b#1"]


def test_a_model_larger_than_all_room_fails_at_once() -> None:
    stage = Stage(capacity=1000, default=100, predicts=True)
    stage.want("m")
    assert stage.predicted("m#1", 951) == []
    _, outcome, error = stage.released[0]
    assert outcome is Outcome.FAILED
    assert "Predicted size of m is larger than total effective capacity" in str(error)
    assert stage.states() == {}


def test_a_type_that_no_runtime_here_takes_is_refused_in_the_pinned_words() -> None:
    stage = Stage()
    stage.pod.constraints = Constraints.parse('{"_default": {"required": ["_no_runtime"]}, "ok": {"required": []}}')
    assert stage.want("m") == []
    _, outcome, error = stage.released[0]
    assert outcome is Outcome.FAILED
    assert isinstance(error, NoRuntime)
    assert str(error) == "There are no running instances that meet the label requirements of type test: [_no_runtime]"


@pytest.mark.parametrize("before", ["registering", "queued", "claiming"])
def test_deleting_a_model_that_has_not_begun_to_load_ends_it(before: str) -> None:
    stage = Stage(slots=2, capacity=250, default=100, registers=before != "registering")
    if before == "queued":
        stage.want("a")
        stage.want("b")
    if before == "claiming":
        stage.holding(["a", "b"])
        stage.enter("a")
        stage.enter("b")
    stage.want("m")
    assert stage.states()["m#1"] == before
    assert stage.tell(ModelDeleted(ModelId("m"))) == []
    assert stage.released[-1] == ("m", Outcome.AGAIN, None)
    assert "m#1" not in stage.states()
    stage.check()


def test_deleting_a_model_while_it_loads_abandons_the_load_and_unloads() -> None:
    stage = Stage()
    stage.want("m")
    assert stage.tell(ModelDeleted(ModelId("m"))) == ["abandon m#1", "unload m#1"]
    assert stage.released == [("m", Outcome.AGAIN, None)]
    assert stage.loaded("m#1") == []
    assert stage.failed("m#1") == []
    stage.unloaded("m#1")
    assert stage.states() == {}


def test_deleting_a_model_that_serves_unloads_it_when_its_last_call_ends() -> None:
    stage = Stage().holding(["idle", "busy"])
    call = stage.enter("busy")
    assert stage.tell(ModelDeleted(ModelId("idle"))) == ["unload idle#1"]
    assert stage.tell(ModelDeleted(ModelId("busy"))) == []
    assert stage.leave(call) == ["unload busy#1"]


def test_deleting_a_model_that_is_not_here_does_nothing() -> None:
    stage = Stage().holding(["m"])
    stage.tell(ModelDeleted(ModelId("m")))
    assert stage.tell(ModelDeleted(ModelId("m"))) == []
    assert stage.tell(ModelDeleted(ModelId("other"))) == []


def test_events_about_a_copy_that_is_gone_are_dropped() -> None:
    stage = Stage()
    assert stage.tell(SizeMeasured(copy_id("m#7"), None)) == []


def test_an_event_that_no_rule_foresees_tells_the_story() -> None:
    stage = Stage().holding(["m"])
    with pytest.raises(BrokenRuleError, match=r"LoadFailed of m#1 ready.*\n.*registering: a call wants it"):
        stage.failed("m#1", code=Code.INTERNAL)


def test_the_story_tells_each_step_with_its_reason() -> None:
    stage = Stage()
    stage.want("m")
    stage.loaded("m#1")
    assert [line.text for line in stage.pod.story(ModelId("m"))] == [
        "registering: a call wants it",
        "registering -> queued: stands in the registry",
        "queued -> claiming: a loading slot is free",
        "claiming -> loading: there is room",
        "loading -> ready: loaded, 819200 bytes",
    ]
