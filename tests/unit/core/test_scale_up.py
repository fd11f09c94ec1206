"""How many copies a hot model gets: all that it needs at once, and none that it does not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.explaining.recorded import from_json
from mesh.core.ids import ModelId, PodId
from mesh.core.scaling.rates import MINUTE
from mesh.core.scaling.scale_up import ScaleUp
from mesh.core.scaling.second_copy import SecondCopy
from mesh.core.units import Millis

NOW = Millis(1_700_000_000_000)
WINDOW = Millis(10_000)
LONG_AGO = Millis(NOW - 3_600_000)
ALONE = ScaleUp(ModelId("m"), NOW, WINDOW, 0, 1_000, 0, 0, LONG_AGO, (), 0, 20, (), 21, 0)


def case(inputs: ScaleUp) -> tuple[int, str]:
    verdict = inputs.verdict()
    return verdict.copies, verdict.case


def test_below_the_threshold_nothing_is_added() -> None:
    assert case(replace(ALONE, rpm=999)) == (0, "")
    assert case(replace(ALONE, rpm=99_999, threshold=0)) == (0, ""), "calls that take no time never need company"
    assert replace(ALONE, rpm=10, threshold=0).wanted == 1


def test_a_model_gets_all_that_it_needs_in_one_decision() -> None:
    assert case(replace(ALONE, rpm=1_000)) == (1, "more")
    assert case(replace(ALONE, rpm=4_500)) == (4, "more")


def test_at_most_a_third_of_the_pods_get_one_at_once_but_two_in_any_case() -> None:
    assert case(replace(ALONE, rpm=50_000)) == (7, "more")
    assert case(replace(ALONE, rpm=50_000, subset=4, places=3)) == (2, "more")
    assert case(replace(ALONE, rpm=50_000, subset=2, places=1)) == (1, "more")


def test_copies_that_still_load_count_as_there() -> None:
    assert case(replace(ALONE, rpm=2_500, coming=2)) == (0, "enough")
    assert case(replace(ALONE, rpm=2_500, coming=1)) == (1, "more")


def test_a_copy_that_came_within_the_window_took_its_part_of_it() -> None:
    """1,800 calls a minute: alone for half of the window, then one of two, the copy here got 1,350 of them."""
    half = replace(ALONE, rpm=1_350, ready=(Millis(NOW - 5_000),))
    assert half.total == 1_800
    assert case(half) == (0, "enough")
    assert replace(half, ready=(Millis(NOW + 99),)).total == 1_350, "a clock ahead of this one"


def test_a_copy_that_serves_for_a_moment_says_little() -> None:
    assert replace(ALONE, rpm=1_000, began=Millis(NOW - 10)).total == 2_000
    assert replace(ALONE, rpm=1_000, began=Millis(NOW + 10)).total == 2_000
    assert replace(ALONE, rpm=1_000, began=Millis(NOW - 8_000)).total == 1_250


def test_a_maximum_is_not_exceeded() -> None:
    assert case(replace(ALONE, rpm=5_000, most=3)) == (2, "more")
    assert case(replace(ALONE, rpm=5_000, most=1)) == (0, "maximum")
    assert "maximum of 1" in replace(ALONE, rpm=5_000, most=1).verdict().reason


def test_without_another_pod_it_says_so_and_names_the_overloaded() -> None:
    assert case(replace(ALONE, rpm=5_000, places=0)) == (0, "nowhere")
    named = replace(ALONE, rpm=5_000, places=0, overloaded=(PodId("a"), PodId("b"))).verdict()
    assert named.reason.endswith("no other pod could take a copy; overloaded: a, b")
    declined = replace(ALONE, rpm=5_000, places=0, declined=(PodId("c"),))
    assert declined.verdict().reason.endswith("no other pod could take a copy; asked, and took none on: c")
    assert from_json(ScaleUp, declined.inputs()) == declined


def test_calls_that_wait_for_their_turn_double_the_copies_at_most() -> None:
    waiting = replace(ALONE, rpm=1_100, concurrency=2, waiting=20, ready=(LONG_AGO,))
    assert waiting.wanted == 4
    assert replace(waiting, waiting=1).wanted == 3
    assert replace(waiting, waiting=0).wanted == 3, "1,100 calls a minute on each of two copies are 2,200"
    assert case(waiting) == (1, "more"), "the other copy's pod sees the same and adds the other one"


def test_a_decision_is_made_again_from_its_json() -> None:
    for inputs in (ALONE, replace(ALONE, rpm=5_000, overloaded=(PodId("a"),), ready=(LONG_AGO, NOW)), replace(ALONE, rpm=5_000, places=0)):
        read = from_json(ScaleUp, inputs.inputs())
        assert read == inputs
        assert read.again() == str(inputs.verdict().copies)


def test_each_answer_says_what_would_change_it() -> None:
    cases = [{}, {"rpm": 2_500, "coming": 5}, {"rpm": 2_500, "most": 1}, {"rpm": 2_500, "places": 0}, {"rpm": 2_500}]
    assert len({replace(ALONE, **changes).would_change()[0] for changes in cases}) == 5  # type: ignore[arg-type] # fields of numbers
    chosen, *others = replace(ALONE, rpm=2_500).candidates()
    assert (chosen.name, chosen.chosen, [other.name for other in others]) == ("2", True, ["0", "1", "20"])


totals = st.integers(0, 20_000)


@given(totals, st.lists(st.integers(-12_000, 0), max_size=6), st.integers(0, 4))
def test_what_all_copies_get_follows_from_what_one_gets(total: int, ready: list[int], coming: int) -> None:
    """Copies that take equal parts from the moment at which they serve: each knows the whole."""
    edges = sorted({-WINDOW, *(max(-WINDOW, at) for at in ready), 0})
    own = sum(total * (until - since) / WINDOW / (1 + sum(at <= since for at in ready)) for since, until in pairwise(edges))
    inputs = replace(ALONE, rpm=int(own), ready=tuple(Millis(NOW + at) for at in ready), coming=coming)
    assert abs(inputs.total - total) <= 2 * (len(ready) + 1)


@given(totals, st.integers(1, 20), st.integers(0, 10))
def test_a_constant_load_ends_with_no_copy_at_the_threshold_and_none_too_many(total: int, threshold: int, most: int) -> None:
    """However hot: decisions of the pods in turn, until none adds; then it stays so."""
    threshold *= 100
    copies, decisions = 1, 0
    while True:
        rpm = total // copies
        one = replace(ALONE, rpm=rpm, threshold=threshold, ready=(LONG_AGO,) * (copies - 1), places=300, subset=300, most=most)
        more = one.verdict().copies
        if not more:
            break
        copies, decisions = copies + more, decisions + 1
        assert decisions < 300
    assert not most or copies <= max(1, most)
    assert rpm < threshold or copies == most
    assert copies == 1 or (total + copies) / (copies - 1) >= threshold, "with one fewer, one would be at the threshold"


SECOND = SecondCopy(ModelId("m"), True, 1, 3, 50, Millis(1_000), Millis(72_000_000), 0)


def second(inputs: SecondCopy) -> tuple[int, str]:
    verdict = inputs.verdict()
    assert from_json(SecondCopy, inputs.inputs()).again() == inputs.again() == str(verdict.copies)
    assert inputs.would_change()
    assert inputs.candidates()[0].name == str(verdict.copies)
    return verdict.copies, verdict.case


def test_a_model_that_is_used_again_and_again_gets_a_second_copy() -> None:
    assert second(SECOND) == (1, "second")
    assert second(replace(SECOND, recurs=False)) == (0, "")
    assert second(replace(SECOND, copies=2)) == (0, "")


def test_a_second_copy_wants_room_or_a_cache_that_nobody_uses() -> None:
    assert second(replace(SECOND, free_percent=9)) == (0, "no room")
    assert second(replace(SECOND, free_percent=9, cache_age=Millis(72_000_001))) == (1, "second")
    assert second(replace(SECOND, free_percent=10)) == (1, "second")


def test_a_second_copy_wants_a_pod_and_leave() -> None:
    assert second(replace(SECOND, places=0)) == (0, "nowhere")
    assert second(replace(SECOND, most=1)) == (0, "maximum")
    assert MINUTE == 60_000
