"""What a rate tick measures: calls a minute, heavy use, uses that recur, and what a copy of limited concurrency can take."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.policy import SECOND
from mesh.core.scaling.rates import ScalingRules, Usage, capacity_of, per_minute
from mesh.core.units import Millis

LEAST, MOST = 420, 2_400
"""Seconds of the reference."""


def used(usage: Usage, second: int) -> bool:
    return usage.used(at(second), Millis(LEAST * SECOND), Millis(MOST * SECOND))


def at(second: int) -> Millis:
    return Millis(1_700_000_000_000 + second * SECOND)


def test_calls_of_a_window_become_calls_a_minute() -> None:
    assert per_minute(50, Millis(10_000)) == 300
    assert per_minute(1, Millis(700)) == 85


def test_three_quarters_of_the_threshold_are_heavy_use() -> None:
    usage = Usage()
    usage.measured(750, 1_000, at(0))
    assert usage.heavy_at == 0
    usage.measured(751, 1_000, at(10))
    usage.measured(10, 1_000, at(20))
    assert usage.heavy_at == at(10)
    usage.measured(10_000, 0, at(30))
    assert usage.heavy_at == at(10), "without a threshold nothing is heavy"


def test_a_rate_is_that_of_the_latest_tick() -> None:
    usage = Usage()
    usage.measured(100, 1_000, at(0))
    assert (usage.rate(at(0)), usage.rate(at(10))) == (100, 0)


def test_a_model_used_again_some_minutes_later_recurs() -> None:
    usage = Usage()
    assert not used(usage, 0)
    assert not used(usage, 400)
    assert used(usage, 500)


def test_a_model_used_all_the_time_recurs_after_the_least_age() -> None:
    usage = Usage()
    first = next(second for second in range(0, 4_000, 10) if used(usage, second))
    assert first == LEAST


def test_uses_too_far_apart_do_not_recur() -> None:
    usage = Usage()
    assert not any(used(usage, hour * 3_600) for hour in range(24))


@given(st.lists(st.integers(1, 3_000), max_size=30))
def test_recurrence_is_never_made_up(gaps: list[int]) -> None:
    """Two remembered times may miss a pattern, and never see one that is not there."""
    usage, second, before = Usage(), 0, list[int]()
    for gap in gaps:
        second += gap
        if used(usage, second):
            assert any(LEAST <= second - earlier <= MOST for earlier in before)
        before.append(second)


@given(st.integers(LEAST, MOST), st.integers(0, 20))
def test_a_single_earlier_use_in_the_window_is_seen(gap: int, more: int) -> None:
    usage = Usage()
    used(usage, 0)
    assert used(usage, gap)


def test_a_copy_of_limited_concurrency_can_take_what_its_calls_leave_time_for() -> None:
    assert capacity_of(2, 100, 100 * 50.0, 90, otherwise=7) == 2 * 60_000 // 50 * 90 // 100
    assert capacity_of(1, 7, 7.0, 90, otherwise=7) == 7, "too few calls say nothing"
    assert capacity_of(1, 8, 0.0, 90, otherwise=7) == 0, "calls that take no time are never too many"
    assert capacity_of(1, 8, 8 * 600_000.0, 90, otherwise=7) == 1, "the longest calls still have a threshold"


def test_the_spans_are_the_references() -> None:
    rules = ScalingRules()
    minutes = [span // 60_000 for span in (rules.young, rules.longest_calm, rules.old_enough, rules.janitor)]
    assert minutes == [30, 300, 1_200, 6]
    assert rules.between == 80_000
    assert ScalingRules(second_most=Millis(1)).old_enough == 6 * 3_600_000
