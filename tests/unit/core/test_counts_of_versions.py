"""What versions did, counted: histograms, what is remembered of them, and the plan of a rollout."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.traffic.plan import Plan
from mesh.core.traffic.ticks import BOUNDS, BUCKETS, EMPTY, NOTHING, REMEMBERED, Counts, Memory, Tick, bucket_of
from mesh.core.units import Millis
from tests.unit.core.versions import did, tick

histograms = st.lists(st.tuples(st.integers(0, BUCKETS - 1), st.integers(1, 5_000)), min_size=1, max_size=30).map(
    lambda pairs: tuple(sum(number for place, number in pairs if place == each) for each in range(BUCKETS))
)
counts = st.builds(
    lambda times, more, failed: Counts(sum(times) + more, failed, times), histograms, st.integers(0, 99), st.integers(0, 9_999)
)


def test_two_bounds_further_is_three_tenths_more() -> None:
    assert BOUNDS[0] == 0.05
    assert BOUNDS[-1] > 300_000
    assert BOUNDS[42] == pytest.approx(1.3 * BOUNDS[40])
    assert (bucket_of(0), bucket_of(0.05), bucket_of(0.0501), bucket_of(1e9)) == (0, 0, 1, BUCKETS - 1)


@given(counts, counts)
def test_counts_of_pods_add_up(one: Counts, other: Counts) -> None:
    both = one + other
    assert both == other + one
    assert (both.calls, sum(both.times)) == (one.calls + other.calls, sum(one.times) + sum(other.times))
    assert one + NOTHING == NOTHING + one == one
    assert all(both.slower(bound) == one.slower(bound) + other.slower(bound) for bound in (0, 40, BUCKETS - 1))


@pytest.mark.parametrize("wrong", [(-1, 0, ()), (0, -1, ()), (9, 0, (1, 2)), (1, 0, (2,) + (0,) * (BUCKETS - 1)), (9, 0, (-1,) * BUCKETS)])
def test_counts_that_cannot_be_are_refused(wrong: tuple[int, int, tuple[int, ...]]) -> None:
    with pytest.raises(Malformed):
        Counts(*wrong)


@given(counts, counts, st.text(max_size=9))
def test_a_tick_is_read_as_it_was_written(stable: Counts, canary: Counts, sign: str) -> None:
    for one in (Tick(Millis(7), stable, canary, sign), Tick(Millis(8), NOTHING, canary, "", sign)):
        assert Tick.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    "wrong", [None, {"at": "x"}, {"stable": None}, {"stable": [0, 0, -1, []]}, {"stable": [0, 0, BUCKETS, [1]]}, {"canary": [0, 0, 0, [1]]}]
)
def test_what_is_no_tick_is_refused(wrong: dict[str, Any] | None) -> None:
    with pytest.raises(Malformed):
        Tick.from_json(None if wrong is None else {**tick(1, did(9)).to_json(), **wrong})


# What is usual


@given(st.lists(counts, max_size=8))
def test_a_memory_stays_small_and_fits(seen: list[Counts]) -> None:
    memory = EMPTY
    for each in seen:
        memory = memory.with_(each)
        assert memory.ok + memory.failed <= REMEMBERED
        assert memory.timed <= memory.ok
        assert len(memory.all_times()) == BUCKETS
    assert Memory.from_json(json.loads(json.dumps(memory.to_json()))) == memory


def test_the_recent_past_counts_most() -> None:
    memory = EMPTY.with_(did(4_000, 0, 20.0))
    for _ in range(12):
        memory = memory.with_(did(1_000, 100, 200.0))
    middle = memory.quantile(0.5)
    assert middle == pytest.approx(200, rel=0.1)
    assert memory.failed / (memory.ok + memory.failed) == pytest.approx(0.1, rel=0.1)


def test_quantiles_are_told_as_well_as_buckets_can() -> None:
    memory = EMPTY.with_(did(2_000, 0, 20.0, 0.45))
    assert memory.quantile(0.5) == pytest.approx(20, rel=0.05)
    assert memory.quantile(0.95) == pytest.approx(20 * 2.718281828 ** (0.45 * 1.6449), rel=0.05)
    assert EMPTY.quantile(0.5) is None
    assert EMPTY.with_(Counts(9, 1)).quantile(0.5) is None
    assert EMPTY.with_(did(9, 0, 0.001)).quantile(0.5) == pytest.approx(0.025)
    assert EMPTY.with_(did(9, 0, 1e9)).quantile(0.5) == pytest.approx(BOUNDS[-1])


@given(histograms, st.floats(0.01, 0.99))
def test_the_bounds_beyond_which_a_share_lies(times: tuple[int, ...], share: float) -> None:
    memory = EMPTY.with_(Counts(sum(times), 0, times))
    wanted = share * memory.timed
    below, above = memory.bound(share, above=False), memory.bound(share, above=True)
    every = range(len(BOUNDS))
    assert below == next((bound for bound in every if memory.slower(bound) <= wanted), None)
    assert above == next((bound for bound in reversed(every) if memory.slower(bound) >= wanted), None)


# The plan


def test_a_plan_is_read_as_it_was_written_and_its_defaults_may_be_left_out() -> None:
    plan = Plan(steps=(1, 100), hold_calls=5, slower_found=0.5)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert Plan.from_json({}) == Plan()
    assert Plan.from_json({"slower_found": 1, "steps": [10, 100]}) == Plan(steps=(10, 100), slower_found=1.0)


def test_latencies_are_compared_by_whole_buckets_inside_of_what_was_asked_for() -> None:
    assert (Plan().shift_tolerated, Plan().shift_found) == (1, 2)
    assert (Plan().factor_tolerated, Plan().factor_found) == pytest.approx((1.1402, 1.3), abs=1e-4)
    wide = Plan(slower_tolerated=0.2, slower_found=0.9)
    assert (wide.shift_tolerated, wide.shift_found) == (2, 4)
    assert (Plan(slower_tolerated=0).shift_tolerated, Plan(slower_tolerated=0.0).factor_tolerated) == (0, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": (100,)},
        {"steps": (5, 50)},
        {"steps": (0, 100)},
        {"steps": (50, 25, 100)},
        {"steps": (5, 5, 100)},
        {"hold_ms": -1},
        {"settle_ms": -1},
        {"alike": 0},
        {"limit_ms": 1},
        {"limit_calls": 100},
        {"failures_tolerated": -0.1},
        {"failures_found": 0.01},
        {"failures_found": 0.6},
        {"slower_found": 0.1},
        {"slower_tolerated": 0.2},
        {"slower_found": float("inf")},
        {"slower_tolerated": float("nan")},
        {"wrong_rollback": 0.0},
        {"wrong_promotion": 0.2},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        replace(Plan(), **wrong)


@pytest.mark.parametrize(
    "wrong", [None, {"step": [5, 100]}, {"steps": "5"}, {"steps": [5.5, 100]}, {"hold_ms": 1.5}, {"slower_found": True}]
)
def test_what_is_no_plan_is_refused(wrong: object) -> None:
    with pytest.raises(Malformed):
        Plan.from_json(wrong)
