"""A load that fails is remembered, told to those who wait, and tried again later and later."""

from __future__ import annotations

import pytest

from mesh.core.errors import Code, Leaving, LoadFailed, LoadTimedOut, NotHere, RuntimeDown
from mesh.core.events import FailureCleared, ModelDeleted, PodLeaves, RuntimeLost, RuntimeReturned, TimePassed
from mesh.core.ids import ModelId, PodId
from mesh.core.instructions import LoadElsewhere, Outcome
from mesh.core.registry.edits import ClearFailure, RecordFailure, RemoveCopy
from mesh.core.registry.instances import InstanceRecord
from tests.unit.core.stage import HERE, Stage

M = ModelId("m")


def failing(stage: Stage, times: int) -> list[int]:
    """The pauses after so many failures in a row."""
    pauses = []
    for number in range(1, times + 1):
        stage.failed(f"m#{number}")
        stage.unloaded(f"m#{number}")
        failure = stage.pod.cache.failures.of(M)
        assert failure is not None
        pauses.append(failure.retry_at - stage.now)
        stage.now = failure.retry_at
        stage.tell(TimePassed())
    return pauses


def test_a_failed_load_is_recorded_unloaded_and_told() -> None:
    stage = Stage()
    stage.want("m")
    assert stage.failed("m#1", "no such file") == ["unload m#1"]
    model, outcome, error = stage.released[0]
    assert (model, outcome, str(error)) == ("m", Outcome.FAILED, "no such file")
    assert stage.edits[-1] == RecordFailure(M, HERE, stage.now, stage.now, "no such file", stage.now)


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION])
def test_a_load_that_attempted_nothing_needs_no_unload(code: Code) -> None:
    stage = Stage()
    stage.want("m")
    assert stage.failed("m#1", code=code) == []
    assert stage.states() == {}


def test_a_load_that_timed_out_says_so_in_its_kind() -> None:
    stage = Stage()
    stage.want("m")
    stage.failed("m#1", "Load of model m timed out after 30sec", Code.DEADLINE_EXCEEDED, timed_out=True)
    assert isinstance(stage.released[0][2], LoadTimedOut)


def test_until_the_pause_is_over_callers_get_the_error_at_once() -> None:
    stage = Stage()
    stage.want("m")
    stage.failed("m#1", "broken")
    assert stage.want("m") == []
    error = stage.released[-1][2]
    assert isinstance(error, LoadFailed)
    assert stage.want("m", waits=False) == []
    assert len(stage.released) == 2


def test_the_pause_doubles_and_the_load_is_tried_by_itself() -> None:
    stage = Stage()
    stage.want("m")
    assert failing(stage, 7) == [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000]
    assert stage.states() == {"m#8": "loading"}


def test_at_the_longest_pause_the_failure_expires_and_only_a_call_tries_again() -> None:
    stage = Stage()
    stage.want("m")
    assert failing(stage, 8)[-1] == 900_000
    assert stage.states() == {}
    assert stage.edits[-1] == ClearFailure(M, HERE)
    assert stage.want("m") == ["load m#9"]


def test_a_short_expiry_bounds_the_first_pause() -> None:
    stage = Stage(expiry=2_000)
    stage.want("m")
    stage.failed("m#1")
    stage.unloaded("m#1")
    assert stage.pod.next_due() == stage.now + 2_000
    stage.later(2_000)
    assert stage.want("m") == ["load m#2"]


def test_a_success_forgets_the_failures() -> None:
    stage = Stage()
    stage.want("m")
    stage.failed("m#1")
    stage.unloaded("m#1")
    stage.later(10_000)
    assert stage.tell(TimePassed()) == ["load m#2"]
    stage.loaded("m#2")
    assert stage.pod.cache.failures.of(M) is None


def test_clearing_a_failure_by_hand_lets_the_next_wish_through() -> None:
    stage = Stage()
    stage.want("m")
    stage.failed("m#1")
    stage.unloaded("m#1")
    stage.tell(FailureCleared(M))
    assert stage.edits[-1] == ClearFailure(M, HERE)
    assert stage.want("m") == ["load m#2"]
    edits = len(stage.edits)
    stage.tell(FailureCleared(M))
    assert len(stage.edits) == edits


def test_deleting_a_model_forgets_its_failures() -> None:
    stage = Stage()
    stage.want("m")
    stage.failed("m#1")
    stage.tell(ModelDeleted(M))
    assert stage.pod.cache.failures.of(M) is None
    assert stage.pod.next_due() is None


# The runtime goes and comes


def test_while_the_runtime_is_lost_nothing_starts_and_when_it_is_back_the_waiting_loads_do() -> None:
    stage = Stage()
    stage.tell(RuntimeLost(down=True))
    assert stage.want("m") == []
    assert stage.tell(RuntimeReturned(emptied=True)) == ["load m#1"]


def test_a_runtime_that_restarted_has_nothing_loaded() -> None:
    stage = Stage(slots=2).holding(["ready", "leaving"])
    stage.tell(ModelDeleted(ModelId("leaving")))
    stage.want("loading")
    stage.tell(RuntimeLost(down=True))
    orders = stage.tell(RuntimeReturned(emptied=True))
    assert orders == ["abandon leaving#1", "abandon loading#1", "load loading#2"]
    assert stage.states() == {"loading#2": "loading"}
    assert (stage.pod.cache.space.granted, stage.pod.cache.space.leaving) == (100, 0)
    stage.loaded("loading#2")
    assert stage.released[-1] == ("loading", Outcome.ENTERED, None)


def test_a_runtime_killed_while_loading_is_no_failure_of_the_model() -> None:
    stage = Stage(watched=True)
    stage.want("m")
    assert stage.failed("m#1", "connection reset", Code.UNAVAILABLE) == []
    assert stage.states() == {"m#1": "loading"}
    stage.tell(RuntimeLost(down=True))
    assert stage.states() == {"m#2": "queued"}
    assert stage.tell(RuntimeReturned(emptied=True)) == ["load m#2"]
    assert stage.pod.cache.failures.of(M) is None


def test_the_loss_may_be_known_before_the_load_ends() -> None:
    stage = Stage(watched=True)
    stage.want("m")
    stage.tell(RuntimeLost(down=True))
    stage.failed("m#1", "connection reset", Code.UNAVAILABLE)
    assert stage.states() == {"m#2": "queued"}
    assert stage.released == []


def test_a_runtime_that_is_there_after_all_means_the_load_failed() -> None:
    stage = Stage(watched=True)
    stage.want("m")
    stage.failed("m#1", "storage is away", Code.UNAVAILABLE)
    stage.later(3_000)
    assert stage.tell(TimePassed()) == ["unload m#1"]
    assert str(stage.released[-1][2]) == "storage is away"


def test_without_a_watch_a_load_that_got_no_answer_failed() -> None:
    stage = Stage(watched=False)
    stage.want("m")
    assert stage.failed("m#1", "connection reset", Code.UNAVAILABLE) == ["unload m#1"]


def test_an_interrupted_way_to_the_runtime_leaves_what_is_loaded_alone() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeLost(down=False))
    stage.leave(stage.enter("m"))
    assert stage.want("other") == []
    assert stage.tell(RuntimeReturned(emptied=False)) == ["load other#1"]
    assert stage.states() == {"m#1": "ready", "other#1": "loading"}


def test_calls_wait_while_the_runtime_is_down_and_have_their_model_loaded_again() -> None:
    stage = Stage().holding(["m", "idle"])
    stage.tell(RuntimeLost(down=True))
    assert stage.pod.enter(M, stage.now) is None
    assert stage.want("m") == []
    assert stage.copy("m#1").waiting == 1
    assert stage.tell(RuntimeReturned(emptied=True)) == ["load m#2"]
    assert stage.states() == {"m#2": "loading"}
    stage.loaded("m#2")
    assert stage.released[-1] == ("m", Outcome.ENTERED, None)


def test_calls_that_waited_enter_at_once_if_the_runtime_comes_back_as_it_was() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeLost(down=True))
    stage.want("m")
    stage.tell(RuntimeReturned(emptied=False))
    assert stage.released[-1] == ("m", Outcome.ENTERED, None)
    assert stage.copy("m#1").calls == 1


def test_calls_that_wait_for_a_runtime_look_again_if_their_model_is_deleted() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeLost(down=True))
    stage.want("m")
    stage.tell(ModelDeleted(M))
    assert stage.released[-1] == ("m", Outcome.AGAIN, None)


# With other pods


def among_others() -> Stage:
    stage = Stage()
    stage.pod.pods.instance_changed(PodId("there"), InstanceRecord(endpoint="there:1"))
    return stage


def test_where_others_could_load_it_a_failed_model_is_sent_there_and_not_tried_here_before_the_failure_expires() -> None:
    stage = among_others()
    stage.want("m")
    stage.failed("m#1", "broken")
    assert stage.elsewhere == [LoadElsewhere(M, stage.now)]
    failure = stage.pod.cache.failures.of(M)
    assert failure is not None
    assert failure.retry_at == stage.now + stage.pod.cache.policy.failure_expiry
    stage.unloaded("m#1")
    stage.now = failure.retry_at
    assert stage.tell(TimePassed()) == []
    assert stage.edits[-1] == ClearFailure(M, HERE)


@pytest.mark.parametrize("down", [True, False])
def test_calls_that_wait_for_a_load_are_sent_to_the_others_when_the_runtime_is_lost(down: bool) -> None:
    stage = among_others().holding(["ready"])
    stage.want("m")
    stage.tell(RuntimeLost(down=down))
    (released,) = stage.released[1:]
    assert (released[:2], type(released[2])) == (("m", Outcome.FAILED), RuntimeDown)
    stage.want("m")
    stage.failed("m#1", "connection reset", Code.UNAVAILABLE)
    assert stage.states() == {"ready#1": "ready", "m#2": "queued"}
    assert type(stage.released[-1][2]) is RuntimeDown, "who waits in the end is sent away when the load ends, too"


def test_a_retry_that_was_due_on_the_only_pod_does_not_happen_once_there_are_others() -> None:
    stage = Stage()
    stage.want("m")
    stage.failed("m#1")
    stage.unloaded("m#1")
    stage.pod.pods.instance_changed(PodId("there"), InstanceRecord(endpoint="there:1"))
    failure = stage.pod.cache.failures.of(M)
    assert failure is not None
    stage.now = failure.retry_at
    assert stage.tell(TimePassed()) == []
    assert stage.pod.cache.failures.of(M) is None


def test_pods_that_do_not_answer_do_not_count_as_others() -> None:
    stage = among_others()
    stage.pod.pods.fails(PodId("there"))
    stage.want("m")
    stage.failed("m#1")
    stage.unloaded("m#1")
    assert stage.elsewhere == []
    stage.later(10_000)
    assert stage.tell(TimePassed()) == ["load m#2"]


@pytest.mark.parametrize("other", [InstanceRecord(endpoint="there:1", shutting_down=True), InstanceRecord()])
def test_pods_that_leave_and_routers_of_another_kind_do_not_count_as_others(other: InstanceRecord) -> None:
    stage = Stage()
    stage.pod.pods.instance_changed(PodId("there"), other)
    stage.want("m")
    stage.failed("m#1")
    assert stage.elsewhere == []


def test_callers_look_again_when_another_pod_was_quicker_to_load() -> None:
    stage = among_others()
    stage.registry_says = NotHere("model m is loaded by there already")
    stage.want("m", waits=True)
    assert [(model, outcome, error) for model, outcome, error in stage.released] == [("m", Outcome.AGAIN, None)]
    assert stage.pod.copy(M) is None


def test_a_pod_that_leaves_gives_up_what_does_not_serve_yet_and_keeps_what_does() -> None:
    stage = Stage(slots=1).holding(["serving"])
    for name in ("loading", "queued"):
        stage.want(name)
    orders = stage.tell(PodLeaves())
    assert orders == ["abandon loading#1", "unload loading#1"]
    assert [(model, outcome) for model, outcome, _ in stage.released[-2:]] == [("loading", Outcome.AGAIN), ("queued", Outcome.AGAIN)]
    assert [edit.model for edit in stage.edits[-2:] if isinstance(edit, RemoveCopy)] == ["loading", "queued"]
    assert stage.states() == {"serving#1": "ready", "loading#1": "unloading"}
    assert stage.last_line("loading") == "loading -> unloading: the pod is leaving while it was loading"


def test_a_pod_that_leaves_loads_nothing_more() -> None:
    stage = Stage()
    stage.pod.leaving = True
    stage.want("m", waits=True)
    ((_, outcome, error),) = stage.released
    assert outcome is Outcome.FAILED
    assert isinstance(error, Leaving)
