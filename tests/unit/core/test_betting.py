"""Bets on two versions are fair whatever the hypothesis allows, and win where the guess is right: by all outcomes of small tables."""

from __future__ import annotations

from itertools import product
from math import comb, exp, inf, log, prod
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mesh.core.traffic import betting
from mesh.core.traffic.betting import Against, Guess, Table, Wealth, pays

shares = st.floats(0, 1)
margins = st.floats(-0.5, 0.5)
sizes = st.integers(0, 4)
guesses = st.builds(Guess, shares, shares)
tables = st.tuples(st.integers(1, 60), st.integers(1, 60)).flatmap(
    lambda calls: st.tuples(st.just(calls[0]), st.integers(0, calls[0]), st.just(calls[1]), st.integers(0, calls[1])).map(
        lambda numbers: Table(*numbers)
    )
)


def chance(hits: int, of: int, share: float) -> float:
    return float(comb(of, hits) * share**hits * (1 - share) ** (of - hits))


def outcomes(stable: int, canary: int, truth: Guess) -> list[tuple[float, Table]]:
    """All tables of so many calls, each with its chance."""
    hits = product(range(stable + 1), range(canary + 1))
    return [(chance(s, stable, truth.stable) * chance(c, canary, truth.canary), Table(stable, s, canary, c)) for s, c in hits]


def holds(truth: Guess, margin: float, against: Against) -> bool:
    return against.value * (truth.canary - truth.stable - margin) <= 0


@given(sizes, sizes, guesses, guesses, margins, st.sampled_from(Against))
def test_no_bet_is_worth_more_than_it_costs_if_the_hypothesis_holds(
    stable: int, canary: int, truth: Guess, guess: Guess, margin: float, against: Against
) -> None:
    assume(holds(truth, margin, against))
    worth = sum(likely * exp(pays(table, guess, margin, against)) for likely, table in outcomes(stable, canary, truth))
    assert worth <= 1 + 1e-9


@given(st.lists(shares, min_size=1, max_size=4), st.lists(shares, min_size=1, max_size=4), guesses, margins, st.sampled_from(Against))
def test_nor_if_every_call_has_a_chance_of_its_own(
    stable: list[float], canary: list[float], guess: Guess, margin: float, against: Against
) -> None:
    """What counts are the means of the versions within a tick."""
    assume(holds(Guess(sum(stable) / len(stable), sum(canary) / len(canary)), margin, against))
    each, worth = [*stable, *canary], 0.0
    for hits in product((0, 1), repeat=len(each)):
        likely = prod(share if hit else 1 - share for share, hit in zip(each, hits, strict=True))
        table = Table(len(stable), sum(hits[: len(stable)]), len(canary), sum(hits[len(stable) :]))
        worth += likely * exp(pays(table, guess, margin, against))
    assert worth <= 1 + 1e-9


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), guesses, guesses, margins, st.sampled_from(Against), st.integers(2, 3))
def test_nor_if_calls_share_their_fate_and_a_root_is_paid(
    stable: int, canary: int, alone: int, truth: Guess, guess: Guess, margin: float, against: Against, alike: int
) -> None:
    """Callers of so many calls each that all fail or none does, and further callers of one call."""
    assume(holds(truth, margin, against))
    worth = 0.0
    for likely, callers in outcomes(stable, canary, truth):
        for chances, single in outcomes(alone, alone, truth):
            calls = [alike * many + one for many, one in zip(callers, single, strict=True)]
            worth += likely * chances * exp(pays(Table(*calls), guess, margin, against) / alike)
    assert worth <= 1 + 1e-9


@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.builds(Guess, st.floats(0.05, 0.45), st.floats(0.55, 0.95)),
    st.floats(-0.05, 0.08),
    st.sampled_from(Against),
)
def test_a_right_guess_wins(stable: int, canary: int, truth: Guess, margin: float, against: Against) -> None:
    if against is Against.AT_LEAST:
        truth = Guess(truth.canary, truth.stable)
    growth = sum(likely * pays(table, truth, margin, against) for likely, table in outcomes(stable, canary, truth))
    assert growth > 0


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0.05, 0.45), st.floats(0.55, 0.95))
def test_without_a_margin_it_is_the_likelihood_ratio_to_one_share_for_all(stable: int, canary: int, low: float, high: float) -> None:
    one = (stable * low + canary * high) / (stable + canary)
    table = Table(stable, stable // 3, canary, canary // 2)

    def likelihood(of_stable: float, of_canary: float) -> float:
        return log(chance(table.stable_hits, stable, of_stable)) + log(chance(table.canary_hits, canary, of_canary))

    ratio = likelihood(low, high) - likelihood(one, one)
    assert pays(table, Guess(low, high), 0.0, Against.AT_MOST) == pytest.approx(ratio, abs=1e-9)


@given(tables, guesses, margins, st.sampled_from(Against))
def test_each_hit_of_the_canary_speaks_for_it_being_worse_and_each_of_the_stable_version_against(
    table: Table, guess: Guess, margin: float, against: Against
) -> None:
    paid = pays(table, guess, margin, against)
    assert paid > -inf
    if table.canary_hits:
        fewer = pays(table._replace(canary_hits=table.canary_hits - 1), guess, margin, against)
        assert against.value * (paid - fewer) >= -1e-9
    if table.stable_hits:
        fewer = pays(table._replace(stable_hits=table.stable_hits - 1), guess, margin, against)
        assert against.value * (paid - fewer) <= 1e-9


@pytest.mark.parametrize("table", [Table(0, 0, 9, 3), Table(9, 3, 0, 0)])
def test_one_version_alone_tells_nothing(table: Table) -> None:
    assert pays(table, Guess(0.1, 0.9), 0.0, Against.AT_MOST) == 0


@pytest.mark.parametrize(("against", "guess"), [(Against.AT_MOST, Guess(0.1, 0.11)), (Against.AT_LEAST, Guess(0.1, 0.2))])
def test_nobody_bets_on_what_the_hypothesis_says(against: Against, guess: Guess) -> None:
    assert pays(Table(50, 5, 50, 25), guess, 0.02, against) == 0


def test_more_than_can_be_counted_is_not_paid() -> None:
    assert pays(Table(10**6, 0, 10**6, 10**6), Guess(0.01, 0.99), 0.0, Against.AT_MOST) == betting.HIGHEST


# The capital


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=2), st.integers(0, 10_000), sizes, sizes, guesses, margins)
def test_a_capital_does_not_grow_on_average_if_the_hypothesis_holds(
    parts: list[float], before: int, stable: int, canary: int, truth: Guess, margin: float
) -> None:
    assume(holds(truth, margin, Against.AT_MOST))
    wealth = Wealth(tuple(parts), before)
    bets = (Guess(0.1, 0.3), Guess(0.4, 0.9))
    after = sum(
        likely * wealth.after([pays(table, guess, margin, Against.AT_MOST) for guess in bets], canary).total
        for likely, table in outcomes(stable, canary, truth)
    )
    assert after <= wealth.total * (1 + 1e-9)


def test_a_capital_is_one_at_first_and_nothing_gets_lost_without_bets() -> None:
    wealth = Wealth.fresh(4)
    assert wealth.total == pytest.approx(1)
    for _ in range(10):
        wealth = wealth.after([0.0] * 4, 300)
    assert wealth.total == pytest.approx(1)
    assert sum(wealth.parts) > 0.9


def test_a_capital_that_has_lost_all_wins_again_from_what_joins_later() -> None:
    wealth = Wealth.fresh(1).after([-600.0], 1_000)
    assert wealth.total < 0.2
    for _ in range(4):
        wealth = wealth.after([5.0], 10)
    assert wealth.total > 1_000


def test_a_capital_may_be_held_at_a_limit() -> None:
    wealth = Wealth((30.0, 90.0), 7)
    assert wealth.at_most(120) is wealth
    assert wealth.at_most(12) == Wealth((3.0, 9.0), 7)


@pytest.mark.parametrize(("against", "guess"), [(Against.AT_MOST, Guess(0.1, 0.3)), (Against.AT_LEAST, Guess(0.1, 0.1))])
def test_looked_at_after_every_tick_a_true_hypothesis_is_refuted_ten_to_one_in_a_tenth_at_most(against: Against, guess: Guess) -> None:
    """And in not much fewer, or the test would not be worth its calls: at the very edge of the hypothesis, 300 times 60 ticks."""
    random, refuted = Random(7), 0
    for _ in range(300):
        wealth = Wealth((1.0,), 10**9)
        for _ in range(60):
            stable, canary = (sum(random.random() < share for _ in range(of)) for share, of in ((0.1, 12), (0.2, 4)))
            wealth = wealth.after([pays(Table(12, stable, 4, canary), guess, 0.1, against)], 4)
            if wealth.total >= 10:
                refuted += 1
                break
    assert 5 <= refuted <= 30
