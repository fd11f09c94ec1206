"""Loads that nobody waits for disturb little: they leave a slot free, and give theirs up until they have begun."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.cache.copies import Copy, State
from mesh.core.cache.queue import SPARE, LoadQueue, Rank, rank
from mesh.core.events import EditDone, LoadWanted, ModelDeleted, RuntimeLost, RuntimeReturned
from mesh.core.ids import CopyId, ModelId
from mesh.core.units import Millis, Units
from tests.unit.core.stage import INFO, Stage, copy_id, names


def in_background(stage: Stage, *models: str) -> list[str]:
    """Has models loaded that nobody waits for; what the runtime is to do at once."""
    return [order for model in models for order in stage.want(model, urgent=False, waits=False)]


def full_of_busy(*models: str, slots: int) -> Stage:
    """A pod whose room is taken by models that all have a call running: whoever claims waits until one ends."""
    stage = Stage(capacity=len(models) * 100 + 50, slots=slots)
    stage.holding(models)
    for model in models:
        stage.entered[model] = [stage.enter(model)]
    # Else the churn guard would refuse a load that nobody waits for.
    stage.later(stage.pod.cache.policy.churn_age)
    return stage


# The last slot


def test_loads_in_the_background_leave_the_last_slot_to_a_call() -> None:
    stage = Stage(slots=3)
    assert in_background(stage, "a", "b", "c") == ["load a#1", "load b#1"]
    assert stage.want("call") == ["load call#1"]


def test_the_last_slot_is_left_whoever_has_the_others() -> None:
    stage = Stage(slots=3)
    stage.want("first")
    stage.want("second")
    assert in_background(stage, "background") == []
    assert stage.loaded("first#1") == ["load background#1"]


def test_a_single_slot_is_not_kept_free() -> None:
    assert in_background(Stage(slots=1), "background") == ["load background#1"]


def test_what_others_wait_for_takes_the_last_slot() -> None:
    stage = Stage(slots=2)
    in_background(stage, "background")
    assert stage.want("wanted", urgent=False) == ["load wanted#1"]


def test_a_call_that_comes_for_what_is_queued_in_the_background_opens_the_last_slot_to_it() -> None:
    stage = Stage(slots=2)
    assert in_background(stage, "running", "queued") == ["load running#1"]
    assert stage.want("queued") == ["load queued#1"]


def test_a_queue_of_background_loads_goes_on_slot_by_slot() -> None:
    stage = Stage(slots=2)
    in_background(stage, "a", "b", "c")
    assert stage.loaded("a#1") == ["load b#1"]
    assert stage.loaded("b#1") == ["load c#1"]


# Order


def test_a_call_overtakes_what_somebody_else_waits_for() -> None:
    stage = Stage(slots=1)
    stage.want("running")
    stage.want("handed over", urgent=False)
    stage.want("call")
    assert stage.loaded("running#1") == ["load call#1"]
    assert stage.loaded("call#1") == ["load handed over#1"]


def test_a_call_moves_what_somebody_else_waits_for_ahead() -> None:
    stage = Stage(slots=1)
    stage.want("running")
    stage.want("first", urgent=False)
    stage.want("second", urgent=False)
    stage.want("second")
    assert stage.loaded("running#1") == ["load second#1"]


def test_calls_are_served_in_the_order_in_which_they_came() -> None:
    stage = Stage(slots=1)
    stage.want("running")
    stage.want("old model", last_used=1)
    stage.want("new model", last_used=2)
    stage.want("old model", last_used=3)
    assert stage.loaded("running#1") == ["load old model#1"]


# Giving way


def test_a_background_load_that_has_not_begun_gives_way_to_a_call() -> None:
    stage = full_of_busy("a", "b", slots=1)
    in_background(stage, "background")
    assert stage.states()["background#1"] == "claiming"
    stage.want("call")
    assert (stage.states()["background#1"], stage.states()["call#1"]) == ("queued", "claiming")
    assert stage.last_line("background") == "claiming -> queued: gives its loading slot to call, which is waited for"
    assert stage.leave_all("a") == ["unload a#1"]
    assert stage.unloaded("a#1") == ["load call#1"]
    stage.check()


def test_what_is_waited_for_gives_way_to_a_call_too_and_never_the_other_way_round() -> None:
    stage = full_of_busy("a", "b", slots=1)
    stage.want("handed over", urgent=False)
    stage.want("call")
    assert (stage.states()["handed over#1"], stage.states()["call#1"]) == ("queued", "claiming")
    stage.want("another", urgent=False)
    stage.want("another call")
    assert stage.states()["call#1"] == "claiming"


def test_a_background_load_that_has_begun_is_let_finish() -> None:
    stage = Stage(slots=1)
    in_background(stage, "background")
    assert stage.want("call") == []
    assert stage.loaded("background#1") == ["load call#1"]


def test_of_two_claims_the_one_that_is_waited_for_gets_the_room() -> None:
    stage = full_of_busy("a", "b", "c", slots=3)
    in_background(stage, "background")
    stage.want("call")
    assert stage.states()["background#1"] == stage.states()["call#1"] == "claiming"
    assert stage.leave_all("a") == ["unload a#1"]
    assert stage.unloaded("a#1") == ["load call#1"]


def test_a_claim_whose_callers_left_gives_way() -> None:
    stage = full_of_busy("a", "b", slots=1)
    stage.want("left")
    stage.stop_waiting("left")
    stage.want("call")
    assert (stage.states()["left#1"], stage.states()["call#1"]) == ("queued", "claiming")


# A model that still leaves


def test_a_model_that_still_leaves_takes_no_slot_from_others() -> None:
    stage = Stage(slots=1).holding(["m"])
    call = stage.enter("m")
    stage.tell(ModelDeleted(ModelId("m")))
    assert stage.want("m") == []
    assert stage.want("other") == ["load other#1"]
    assert stage.leave(call) == ["unload m#1"]
    stage.loaded("other#1")
    assert stage.unloaded("m#1") == ["load m#2"]


def test_a_model_that_still_leaves_keeps_its_rank_when_its_turn_comes() -> None:
    stage = Stage(slots=1).holding(["m"])
    stage.tell(ModelDeleted(ModelId("m")))
    in_background(stage, "m")
    stage.want("running")
    in_background(stage, "background")
    stage.want("m")
    assert stage.unloaded("m#1") == []
    assert stage.loaded("running#1") == ["load m#2"]


def test_a_model_wanted_again_while_it_leaves_may_be_registered_after_it_left() -> None:
    stage = Stage(slots=1).holding(["m"])
    stage.tell(ModelDeleted(ModelId("m")))
    stage.registers = False
    stage.want("m")
    assert stage.unloaded("m#1") == []
    assert stage.tell(EditDone(copy_id("m#2"))) == ["load m#2"]


def test_a_runtime_that_comes_back_empty_frees_what_waited_for_a_model_to_leave() -> None:
    stage = Stage(slots=1, watched=True).holding(["m"])
    stage.tell(ModelDeleted(ModelId("m")))
    stage.want("m")
    stage.tell(RuntimeLost(down=True))
    assert stage.tell(RuntimeReturned(emptied=True)) == ["abandon m#1", "load m#2"]


# The queue itself


def queued(number: int, *, last_used: int = 0, waiting: int = 0, urgent: bool = False) -> Copy:
    copy = Copy(CopyId(ModelId(f"m{number}"), 1), INFO, Units(1), Millis(last_used), Millis(0), Millis(0), State.QUEUED)
    copy.waiting, copy.urgent = waiting, urgent
    return copy


WHO = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.booleans(), st.integers(0, 2), st.booleans()), max_size=40)


@given(WHO)
def test_whatever_changes_meanwhile_the_queue_gives_out_by_rank_each_copy_once(who: list[tuple[int, int, bool, int, bool]]) -> None:
    queue, copies = LoadQueue(), []
    for number, (last_used, waiting, urgent, _, _) in enumerate(who):
        copies.append(queued(number, last_used=last_used, waiting=waiting, urgent=urgent))
        queue.push(copies[-1])
    for copy, (_, _, _, later, urgent) in zip(copies, who, strict=True):
        joined = later > copy.waiting
        copy.waiting, copy.urgent = later, copy.urgent or (urgent and joined)
        if joined:
            queue.promote(copy)
    taken: list[Copy] = []
    while (first := queue.first()) is not None:
        assert (rank(first) is not Rank.BACKGROUND) == (queue.first(background=False) is first)
        queue.withdraw(first)
        taken.append(first)
    assert len(queue) == 0
    assert sorted(map(id, taken)) == sorted(map(id, copies))
    assert [rank(copy) for copy in taken] == sorted(map(rank, taken))
    rest = [copy.last_used for copy in taken if rank(copy) is Rank.BACKGROUND]
    assert rest == sorted(rest, reverse=True)


def test_a_thousand_callers_of_a_queued_model_are_one_entry() -> None:
    stage = Stage(slots=1)
    stage.want("running")
    for _ in range(1000):
        stage.want("m")
    assert stage.pod.cache.queue.entries == 1


def test_entries_of_what_left_the_queue_do_not_gather() -> None:
    stage = Stage()
    stage.tell(RuntimeLost(down=False))
    for number in range(1000):
        stage.tell(LoadWanted(ModelId(f"m{number}"), INFO, stage.now))
        stage.tell(ModelDeleted(ModelId(f"m{number}")))
    assert len(stage.pod.cache.queue) == 0
    assert stage.pod.cache.queue.entries <= SPARE


def test_the_queue_is_empty_when_everything_came() -> None:
    stage = Stage(slots=2, capacity=10_000)
    for name in names(20):
        stage.want(name, urgent=False, waits=False)
    while loading := [str(copy.id) for copy in stage.copies() if copy.state is State.LOADING]:
        stage.loaded(loading[0])
    assert set(stage.states().values()) == {"ready"}
    assert stage.pod.cache.queue.first() is None
