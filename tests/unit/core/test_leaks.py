"""Memory that the model server holds and no model accounts for is told from what comes to rest."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.cache import leaks
from mesh.core.cache.leaks import KEEP, RECYCLE, Floor, Leaks, Recycling, Sample, Trend, limit_of, trend_of
from mesh.core.errors import Malformed
from mesh.core.explaining.replay import evidence_from_json

MIB = 1 << 20
EMPTY = 100 * MIB
MODEL = 10 * MIB


def after(rounds: int, beyond: Callable[[int], int], *, limit: int = 0, every: int = 3, start: int = 0) -> Leaks:
    """A server that is measured with every so many unloads, one model loaded, and holds so much beyond it after each number of them."""
    found = Leaks(limit)
    found.seen(Sample("1@1", EMPTY, 0, start))
    for unloads in range(start + every, start + rounds + 1, every):
        found.seen(Sample("1@1", EMPTY + MODEL + beyond(unloads - start), MODEL, unloads))
    return found


def steps(*beyond: int) -> tuple[Floor, ...]:
    return tuple(Floor(10 * number, each) for number, each in enumerate(beyond))


def test_a_server_that_gives_back_what_it_took_holds_nothing_unused() -> None:
    found = after(100, lambda _: 0)
    assert (found.unused, found.trend) == (0, Trend.STEADY)
    assert found.empty == EMPTY


def test_a_leak_shows_after_a_hundred_rounds_with_its_rate() -> None:
    found = after(100, lambda unloads: unloads * MIB)
    assert found.trend is Trend.GROWING
    assert found.unused == 99 * MIB
    assert found.grounds().each() == pytest.approx(MIB, rel=0.1)
    assert "leaks memory" in found.told()


def test_a_leak_shows_though_measurements_are_seldom() -> None:
    found = after(1000, lambda unloads: unloads * MIB // 4, every=50)
    assert found.trend is Trend.GROWING


def test_what_is_taken_once_is_no_leak() -> None:
    libraries = after(100, lambda unloads: 76 * MIB if unloads > 15 else 0)
    assert (libraries.unused, libraries.trend) == (76 * MIB, Trend.STEADY)
    assert "libraries" in libraries.told()


def test_what_comes_to_rest_is_no_leak() -> None:
    allocator = after(100, lambda unloads: int(200 * MIB * (1 - 0.9**unloads)))
    assert allocator.trend is Trend.STEADY


def test_a_leak_shows_after_what_was_taken_once() -> None:
    found = after(300, lambda unloads: 76 * MIB + unloads * MIB)
    assert found.trend is Trend.GROWING


def test_growth_that_is_less_than_noise_is_none() -> None:
    found = after(100, lambda unloads: unloads * 1024)
    assert found.trend is Trend.STEADY
    assert "did not go on growing" in found.told()


def test_with_few_rounds_nothing_is_said() -> None:
    found = after(40, lambda unloads: unloads * MIB, limit=1)
    assert found.trend is Trend.EARLY
    assert "50 unloads" in found.told()
    assert found.grounds().again() == KEEP


def test_a_new_process_begins_anew() -> None:
    found = after(100, lambda unloads: unloads * MIB)
    found.seen(Sample("2@7", EMPTY + MODEL, MODEL, 101))
    assert (found.unused, found.trend, found.empty) == (0, Trend.EARLY, EMPTY)


def test_before_anything_was_measured_nothing_is_held() -> None:
    assert Leaks().unused == 0
    assert Leaks().grounds().each() == 0


def test_a_server_first_seen_with_models_counts_as_empty_without_them_until_it_is_seen_empty() -> None:
    found = Leaks()
    found.seen(Sample("1@1", EMPTY + MODEL, MODEL, 0))
    assert found.empty == EMPTY
    found.seen(Sample("1@1", EMPTY - MIB, 0, 1))
    assert found.empty == EMPTY - MIB
    found.seen(Sample("1@1", EMPTY + MIB, 0, 2))
    assert (found.empty, found.unused) == (EMPTY - MIB, 2 * MIB)


def test_models_that_take_less_than_they_are_said_to_hide_nothing_below_zero() -> None:
    found = Leaks()
    found.seen(Sample("1@1", MODEL, 20 * MODEL, 0))
    assert (found.empty, found.unused) == (0, 0)


def test_a_load_under_way_does_not_look_like_memory_given_back() -> None:
    """A model counts from the begin of its load on, so what is held beyond models is less for a moment: the least of a round counts."""
    leaking = after(100, lambda unloads: unloads * MIB - (MODEL if unloads % 9 == 0 else 0))
    assert leaking.trend is Trend.GROWING


# The decision

LEAKING = steps(0, 2 * MIB, 4 * MIB, 6 * MIB, 8 * MIB)


@pytest.mark.parametrize(
    ("unused", "limit", "floors", "outcome"),
    [
        (50 * MIB, 50 * MIB, LEAKING, RECYCLE),
        (50 * MIB, 51 * MIB, LEAKING, KEEP),
        (50 * MIB, 0, LEAKING, KEEP),
        (50 * MIB, 50 * MIB, steps(*[50 * MIB] * 5), KEEP),
        (50 * MIB, 50 * MIB, LEAKING[:3], KEEP),
    ],
    ids=["a leak beyond the limit", "a leak below it", "no limit", "large but steady", "too early"],
)
def test_only_a_leak_beyond_the_limit_ends_a_server(unused: int, limit: int, floors: tuple[Floor, ...], outcome: str) -> None:
    grounds = Recycling(unused, limit, floors)
    assert grounds.again() == outcome
    read = evidence_from_json(json.loads(json.dumps(grounds.inputs())))
    assert read == grounds
    assert read.again() == outcome


def test_the_decision_tells_its_figures_and_what_would_have_changed_it() -> None:
    grounds = after(100, lambda unloads: unloads * MIB, limit=MIB).grounds()
    assert grounds.again() == RECYCLE
    assert "99.0 MiB" in grounds.reason()
    assert any("MESH_RECYCLE_RUNTIME" in change for change in grounds.would_change())
    assert grounds.candidates() == []


def test_inputs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(Malformed):
        evidence_from_json({"decided_by": leaks.NAME, "unused": 1, "limit": 1})
    with pytest.raises(Malformed, match="floors"):
        evidence_from_json({"decided_by": leaks.NAME, "unused": 1, "limit": 1, "floors": [[1, "x"]]})


@given(st.lists(st.integers(0, 1 << 40), max_size=11), st.integers(-(1 << 40), 1 << 40))
def test_the_trend_does_not_depend_on_the_level(beyond: list[int], more: int) -> None:
    assert trend_of(steps(*beyond)) is trend_of(steps(*(each + more for each in beyond)))


@given(st.integers(leaks.LEAST, 11), st.integers(leaks.GROWTH, 1 << 30))
def test_any_even_growth_is_growing_and_none_backwards_is(number: int, each: int) -> None:
    beyond = [step * each for step in range(number + 1)]
    assert trend_of(steps(*beyond)) is Trend.GROWING
    assert trend_of(steps(*beyond[::-1])) is Trend.STEADY


@pytest.mark.parametrize(("setting", "limit"), [("", 0), ("1000", 1000), ("20%", 200), ("1%", 10)])
def test_the_limit_is_bytes_or_a_part_of_the_capacity(setting: str, limit: int) -> None:
    assert limit_of(setting, 1000) == limit
