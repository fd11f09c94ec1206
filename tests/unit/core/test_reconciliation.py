"""A document and what the mesh says of its alias → what to do, and the words for how it is."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.explaining.status import AliasState, AliasStatus, CopyStatus, ModelState, ModelStatus, TrafficStatus, VersionStatus
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.reconciliation import (
    DropAlias,
    PointAlias,
    Reason,
    Registration,
    State,
    Transition,
    decide,
    decide_removal,
    describe,
    settled,
)
from mesh.core.units import Millis

NEW, OLD = ModelId("a__isvc-2222222222"), ModelId("a__isvc-1111111111")
WANTED = Registration(AliasId("a"), "isvc", NEW, "mt:sklearn", "x", "{}")
ABSENT = AliasStatus(AliasState.NOT_FOUND)
NEEDS = "There are no running instances that meet the label requirements of type "


def at(status: ModelState, *errors: str, owner: str = "isvc") -> AliasStatus:
    copies = (CopyStatus(PodId("pod-1"), status, Millis(5000)),)
    return AliasStatus(AliasState.DEFINED, NEW, NEW, owner, ModelStatus(status, errors, copies), None)


def moving(status: AliasState, old: ModelState, new: ModelState, *errors: str) -> AliasStatus:
    return AliasStatus(status, OLD, NEW, "isvc", ModelStatus(old), ModelStatus(new, errors))


def test_a_new_document_is_registered_and_loaded() -> None:
    assert decide(WANTED, ABSENT) == PointAlias(WANTED, load_now=True)


def test_a_registered_document_is_left_alone_whatever_its_state() -> None:
    assert [decide(WANTED, at(status)) for status in ModelState] == [None] * len(ModelState)


def test_a_changed_document_is_a_new_model_to_switch_to() -> None:
    seen = AliasStatus(AliasState.DEFINED, OLD, OLD, "isvc", ModelStatus(ModelState.LOADED), None)
    assert decide(WANTED, seen) == PointAlias(WANTED, load_now=True)


@pytest.mark.parametrize(
    ("status", "load_now"),
    [(ModelState.LOADED, False), (ModelState.NOT_LOADED, False), (ModelState.LOADING, False), (ModelState.LOADING_FAILED, True)],
)
def test_applying_again_retries_a_failure_and_loads_nothing_that_was_evicted(status: ModelState, load_now: bool) -> None:
    assert decide(WANTED, at(status), applied_again=True) == PointAlias(WANTED, load_now)


def test_applying_again_loads_what_waited_for_a_runtime() -> None:
    seen = at(ModelState.LOADING_FAILED, NEEDS + "mt:sklearn: [mt:sklearn]")
    assert decide(WANTED, seen, applied_again=True) == PointAlias(WANTED, load_now=True)


def test_an_alias_of_another_owner_is_never_touched() -> None:
    seen = at(ModelState.LOADED, owner="someone")
    assert decide(WANTED, seen, applied_again=True) is None
    assert decide_removal(WANTED.alias, "isvc", seen) is None
    condition = describe(WANTED, seen)
    assert (condition.ready, condition.transition) == (False, Transition.INVALID)
    assert condition.failure
    assert condition.failure.reason is Reason.INVALID


def test_removal_removes_what_is_ours_and_is_done_when_it_is_gone() -> None:
    assert decide_removal(WANTED.alias, "isvc", at(ModelState.LOADED)) == DropAlias(WANTED.alias, "isvc")
    assert decide_removal(WANTED.alias, "isvc", ABSENT) is None


@pytest.mark.parametrize(
    ("status", "state", "ready"),
    [
        (ModelState.LOADED, State.LOADED, True),
        (ModelState.NOT_LOADED, State.STANDBY, True),
        (ModelState.LOADING, State.LOADING, False),
        (ModelState.LOADING_FAILED, State.FAILED, False),
        (ModelState.UNKNOWN, State.PENDING, False),
        (ModelState.NOT_FOUND, State.PENDING, False),
    ],
)
def test_ready_means_that_a_call_now_is_served(status: ModelState, state: State, ready: bool) -> None:
    condition = describe(WANTED, at(status))
    assert (condition.active, condition.ready) == (state, ready)
    assert settled(condition) == ready


def test_a_service_stays_ready_while_its_model_loads_again() -> None:
    assert describe(WANTED, at(ModelState.LOADING), was_ready=True).ready
    assert not describe(WANTED, at(ModelState.LOADING_FAILED), was_ready=True).ready


def test_nothing_known_is_pending() -> None:
    assert describe(WANTED, ABSENT).active is State.PENDING


@pytest.mark.parametrize(
    ("text", "reason", "message", "state"),
    [
        ("no such file", Reason.LOAD_FAILED, "no such file", State.FAILED),
        (
            NEEDS + "mt:x: [mt:x]",
            Reason.RUNTIME_UNHEALTHY,
            "Waiting for supporting runtime Pod to become available",
            State.LOADING,
        ),
        (NEEDS + "rt:x: [_no_runtime]", Reason.RUNTIME_UNKNOWN, "Specified runtime name not recognized", State.FAILED),
        (
            NEEDS + "mt:x: [_no_runtime]",
            Reason.NO_RUNTIME,
            "No ServingRuntime supports specified model type and/or protocol",
            State.FAILED,
        ),
    ],
)
def test_the_cause_of_a_failure_is_told_apart_by_the_pinned_texts(text: str, reason: Reason, message: str, state: State) -> None:
    condition = describe(WANTED, at(ModelState.LOADING_FAILED, text, "older"), was_ready=True)
    assert condition.failure
    assert (condition.failure.reason, condition.failure.message, condition.active) == (reason, message, state)
    assert (condition.failure.location, condition.failure.at, condition.failed_copies) == ("pod-1", 5000, 1)
    assert not condition.ready


def test_a_failed_successor_blocks_the_switch_and_the_old_model_serves_on() -> None:
    seen = moving(AliasState.TRANSITION_FAILED, ModelState.LOADED, ModelState.LOADING_FAILED, "boom")
    condition = describe(WANTED, seen)
    assert (condition.ready, condition.transition, condition.target) == (True, Transition.BLOCKED, State.FAILED)
    assert condition.failure
    assert (condition.failure.model, condition.failure.message) == (NEW, "boom")


def test_a_successor_that_waits_for_a_pod_is_in_progress() -> None:
    seen = moving(AliasState.TRANSITION_FAILED, ModelState.LOADED, ModelState.LOADING_FAILED, NEEDS + "mt:x: [mt:x]")
    condition = describe(WANTED, seen)
    assert (condition.ready, condition.transition, condition.target) == (True, Transition.IN_PROGRESS, State.LOADING)


def test_a_successor_that_loads_is_in_progress() -> None:
    condition = describe(WANTED, moving(AliasState.TRANSITIONING, ModelState.LOADED, ModelState.LOADING))
    assert (condition.transition, condition.target, condition.failure) == (Transition.IN_PROGRESS, State.LOADING, None)


def test_a_failure_without_a_text_or_copies_is_still_a_failure() -> None:
    seen = AliasStatus(AliasState.DEFINED, NEW, NEW, "isvc", ModelStatus(ModelState.LOADING_FAILED), None)
    failure = describe(WANTED, seen).failure
    assert failure
    assert (failure.message, failure.at, failure.location) == ("the mesh gave no reason", 0, "")


# Canaries


OLDER = Registration(AliasId("a"), "isvc", OLD, "mt:sklearn", "old", "{}")
CANARY = replace(WANTED, canary=10, base=OLDER)
SERVED = AliasStatus(AliasState.DEFINED, OLD, OLD, "isvc", ModelStatus(ModelState.LOADED), None)


def sharing(state: ModelState, *errors: str, percent: int = 10, policy: dict[str, Any] | None = None) -> TrafficStatus:
    stable = VersionStatus(1, OLD, ModelStatus(ModelState.LOADED), 100 - percent, stable=True)
    return TrafficStatus((stable, VersionStatus(2, NEW, ModelStatus(state, errors), percent)), policy or {})


def test_a_canary_is_registered_beside_what_serves() -> None:
    assert decide(CANARY, SERVED, traffic=TrafficStatus((VersionStatus(1, OLD, ModelStatus(ModelState.LOADED), 100, stable=True),))) == (
        PointAlias(CANARY, load_now=True)
    )
    assert decide(CANARY, SERVED) == PointAlias(CANARY, load_now=True), "nothing is known of the versions"


def test_a_canary_with_the_share_that_is_wanted_is_left_alone_unless_it_is_applied_again() -> None:
    for state in ModelState:
        assert decide(CANARY, SERVED, traffic=sharing(state)) is None
    assert decide(CANARY, SERVED, traffic=sharing(ModelState.LOADED), applied_again=True) == PointAlias(CANARY, load_now=True)
    assert decide(CANARY, SERVED, traffic=sharing(ModelState.LOADED, percent=20)) == PointAlias(CANARY, load_now=True)
    assert decide(CANARY, replace(SERVED, target=NEW), traffic=sharing(ModelState.LOADED)) == PointAlias(CANARY, load_now=True)


def test_a_canary_of_no_calls_is_not_loaded_for_it_and_leaves_the_default_of_a_policy_alone() -> None:
    none = replace(CANARY, canary=0)
    assert decide(none, SERVED, traffic=sharing(ModelState.LOADED)) == PointAlias(none, load_now=False)
    assert decide(none, SERVED, traffic=sharing(ModelState.NOT_LOADED, percent=0)) is None
    assert decide(none, SERVED, traffic=sharing(ModelState.LOADED, percent=30, policy={"default": {}})) is None


def test_where_nothing_is_known_of_a_service_its_stable_version_comes_before_the_canary() -> None:
    assert decide(CANARY, ABSENT) == PointAlias(CANARY, load_now=True, first=OLDER)
    alone = replace(CANARY, base=None)
    assert decide(alone, ABSENT) == PointAlias(alone, load_now=True)


def test_a_canary_of_all_calls_and_one_that_became_the_stable_version_are_none() -> None:
    whole = replace(WANTED, canary=100)
    assert whole.share is None
    assert decide(whole, SERVED) == PointAlias(whole, load_now=True)
    assert decide(CANARY, at(ModelState.LOADED)) is None
    assert describe(CANARY, at(ModelState.LOADED)).canary is None


@pytest.mark.parametrize(
    ("traffic", "state", "rests", "text"),
    [
        (None, State.PENDING, False, "a canary is to have 10 % of the calls"),
        (sharing(ModelState.LOADED), State.LOADED, True, "canary version 2 has 10 % of the calls"),
        (sharing(ModelState.LOADING), State.LOADING, False, "canary version 2 is to have 10 % of the calls, and is not loaded yet"),
        (sharing(ModelState.NOT_LOADED, percent=0), State.STANDBY, True, "canary version 2 has 0 % of the calls"),
        (sharing(ModelState.NOT_LOADED), State.STANDBY, False, "canary version 2 is to have 10 % of the calls, and is not loaded yet"),
        (
            sharing(ModelState.LOADING_FAILED, "no such file"),
            State.FAILED,
            False,
            "canary version 2 cannot load, so the stable version has all calls: no such file",
        ),
        (
            sharing(ModelState.LOADING_FAILED, NEEDS + "mt:x: [mt:x]"),
            State.LOADING,
            False,
            "canary version 2 is to have 10 % of the calls, and is not loaded yet: Waiting for supporting runtime Pod to become available",
        ),
    ],
)
def test_a_service_is_ready_whatever_its_canary_is(traffic: TrafficStatus | None, state: State, rests: bool, text: str) -> None:
    condition = describe(CANARY, SERVED, traffic=traffic)
    assert (condition.ready, condition.active, condition.transition) == (True, State.LOADED, Transition.UP_TO_DATE)
    assert condition.canary
    assert (condition.canary.state, condition.canary.text, settled(condition)) == (state, text, rests)
    if state is State.FAILED:
        assert condition.failure
        assert (condition.failure.model, condition.failure.message) == (NEW, "no such file")


def test_a_stable_version_that_fails_is_told_before_its_canary() -> None:
    seen = replace(SERVED, active_status=ModelStatus(ModelState.LOADING_FAILED, ("boom",)))
    condition = describe(CANARY, seen, traffic=sharing(ModelState.LOADING_FAILED, "no such file"))
    assert condition.failure
    assert (condition.ready, condition.failure.message) == (False, "boom")


models = st.one_of(st.none(), st.builds(ModelStatus, st.sampled_from(ModelState), st.lists(st.text(), max_size=2).map(tuple)))
seen_aliases = st.builds(
    AliasStatus,
    st.sampled_from(AliasState),
    st.sampled_from([OLD, NEW]),
    st.sampled_from([OLD, NEW]),
    st.sampled_from(["", "isvc", "x"]),
    models,
    models,
)


@given(seen_aliases, st.booleans())
def test_whatever_is_seen_the_decision_ends_at_the_document_and_the_words_hold_together(seen: AliasStatus, was_ready: bool) -> None:
    condition = describe(WANTED, seen, was_ready=was_ready)
    assert not (condition.ready and condition.active in (State.PENDING, State.FAILED))
    assert condition.target is None or seen.target != seen.active
    order = decide(WANTED, seen)
    if order:
        done = AliasStatus(AliasState.DEFINED, NEW, NEW, "isvc", ModelStatus(ModelState.LOADING), None)
        assert decide(WANTED, done) is None
    else:
        assert seen.owner == "x" or seen.target == NEW
