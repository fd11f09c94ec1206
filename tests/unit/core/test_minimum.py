"""Models have as many copies as users asked for, as soon as pods can have them, and no storm of loads comes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.explaining.recorded import from_json
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import NO_BOUNDS, Bounds
from mesh.core.scaling.minimum import ENOUGH, FIRST_PAUSE, LONGEST_PAUSE, ORDER, START, WAIT, Minimum, Stock, just_started
from mesh.core.units import Millis

NOW = Millis(10**12)
M = ModelId("m")
A, B, C = map(PodId, "abc")
NOBODY: frozenset[PodId] = frozenset()


def look(minimum: Minimum, bounds: Bounds, *holders: PodId, loaded: bool = False, places: int = 3, at: int = 0) -> Stock:
    return minimum.look(M, bounds, loaded, holders, places, Millis(NOW + at))


def says(minimum: Minimum, bounds: Bounds, *holders: PodId, loaded: bool = False, places: int = 3, at: int = 0) -> str:
    return look(minimum, bounds, *holders, loaded=loaded, places=places, at=at).again()


# Minimum


def test_missing_copies_are_ordered_until_there_are_as_many_as_asked_for() -> None:
    minimum = Minimum()
    assert says(minimum, Bounds(2)) == ORDER
    assert says(minimum, Bounds(2), A) == ORDER
    assert says(minimum, Bounds(2), A, B) == ENOUGH
    assert says(minimum, NO_BOUNDS) == ENOUGH


def test_more_than_pods_can_have_is_not_waited_for() -> None:
    assert says(Minimum(), Bounds(5), A, B, places=2) == ENOUGH
    assert says(Minimum(), Bounds(5), A, B, places=3) == ORDER
    assert says(Minimum(), Bounds(1), places=0) == ENOUGH


def test_the_next_copy_is_ordered_when_the_one_before_shows() -> None:
    minimum = Minimum()
    minimum.ordered(M, NOBODY)
    assert says(minimum, Bounds(3)) == WAIT
    assert says(minimum, Bounds(3), A) == ORDER
    minimum.ordered(M, frozenset({A}))
    assert says(minimum, Bounds(3), A) == WAIT
    assert says(minimum, Bounds(3), A, B) == ORDER
    minimum.done(M, NOBODY, NOW, loaded=True)
    minimum.done(M, frozenset({A}), NOW, loaded=True)
    assert says(minimum, Bounds(3), A, B) == ORDER


def test_an_order_that_failed_is_repeated_after_a_pause_that_grows() -> None:
    minimum, at = Minimum(), 0
    pauses = []
    for _ in range(10):
        minimum.ordered(M, NOBODY)
        minimum.done(M, NOBODY, Millis(NOW + at), loaded=False)
        due = minimum.timers.next_due()
        assert due is not None
        assert says(minimum, Bounds(1), at=due - NOW - 1) == WAIT
        assert says(minimum, Bounds(1), at=due - NOW) == ORDER
        pauses.append(due - NOW - at)
        at = due - NOW
        minimum.timers.take_due(due)
    assert (pauses[0], pauses[1], pauses[-1]) == (FIRST_PAUSE, 2 * FIRST_PAUSE, LONGEST_PAUSE)
    minimum.ordered(M, NOBODY)
    minimum.done(M, NOBODY, Millis(NOW + at), loaded=True)
    assert minimum.timers.next_due() is None
    assert says(minimum, Bounds(1), at=at) == ORDER, "the copy that was loaded went"


def test_a_new_pod_is_tried_at_once() -> None:
    minimum = Minimum()
    minimum.ordered(M, NOBODY)
    minimum.done(M, NOBODY, NOW, loaded=False)
    assert says(minimum, Bounds(1)) == WAIT
    assert minimum.pod_came() == [M]
    assert says(minimum, Bounds(1)) == ORDER


def test_what_wanted_more_than_there_were_places_is_looked_at_when_one_comes() -> None:
    minimum = Minimum()
    assert says(minimum, Bounds(3), A, B, places=2) == ENOUGH
    assert minimum.pod_came() == [M]
    assert says(minimum, Bounds(3), A, B, places=3) == ORDER
    assert minimum.pod_came() == []


def test_nothing_is_remembered_of_a_model_that_is_gone() -> None:
    minimum = Minimum()
    minimum.bounded(M, Bounds(1, preload=True))
    minimum.ordered(M, NOBODY)
    minimum.done(M, NOBODY, NOW, loaded=False)
    minimum.gone(M)
    assert (minimum.pod_came(), minimum.preloading, minimum.timers.next_due()) == ([], [], None)


# Pinned


def test_a_pinned_model_that_was_loaded_is_loaded_again_when_its_pod_is_gone() -> None:
    minimum, pinned = Minimum(), Bounds(pinned=True)
    minimum.bounded(M, pinned)
    assert says(minimum, pinned) == ENOUGH, "nobody called it yet"
    assert says(minimum, pinned, A, loaded=True) == ENOUGH
    assert look(minimum, pinned, loaded=True).reason() == "pinned: 1 wanted, 0 on pods that live and stay"
    assert says(minimum, pinned) == ORDER, "also when its dead copy is forgotten"
    minimum.bounded(M, NO_BOUNDS)
    assert says(minimum, NO_BOUNDS) == ENOUGH


# Preload


def test_a_model_to_be_preloaded_is_loaded_once() -> None:
    minimum, preload = Minimum(), Bounds(preload=True)
    minimum.bounded(M, preload)
    assert says(minimum, preload) == ORDER
    assert says(minimum, preload, A) == ENOUGH
    assert says(minimum, preload) == ENOUGH, "it was evicted since, and is loaded on demand"
    minimum.bounded(M, preload)
    assert says(minimum, preload) == ENOUGH
    minimum.bounded(M, NO_BOUNDS)
    minimum.bounded(M, preload)
    assert says(minimum, preload) == ORDER, "asked for anew"


def test_what_was_there_before_this_pod_is_preloaded_only_if_the_mesh_is_new() -> None:
    minimum, preload = Minimum(), Bounds(preload=True)
    minimum.bounded(M, preload, known=True)
    assert says(minimum, preload) == ENOUGH
    minimum.mesh_started()
    assert minimum.preloading == [M]
    assert says(minimum, preload) == ORDER


@pytest.mark.parametrize(("ages", "new"), [((), True), ((0, START - 1), True), ((0, START), False)])
def test_a_mesh_is_new_while_all_its_pods_are(ages: tuple[int, ...], new: bool) -> None:
    instances = {PodId(str(age)): InstanceRecord(start_time=Millis(NOW - age)) for age in ages}
    assert just_started(instances, NOW) is new


# Told


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2), st.integers(0, 2))
def test_what_was_decided_can_be_decided_again(wanted: int, places: int, unseen: int, holders: int) -> None:
    stock = Stock(M, wanted, "minimum", (A, B, C)[:holders], places, unseen, NOW, NOW)
    again = from_json(Stock, stock.inputs())
    assert (again, again.again()) == (stock, stock.again())
    assert stock.again() in (ENOUGH, ORDER, WAIT)
    assert [candidate.name for candidate in stock.candidates()] == [*stock.holders]
    assert len(stock.would_change()) == 2
