"""A rollout that is judged: what promotes a canary, what rolls it back, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.traffic.betting import Wealth
from mesh.core.traffic.judging import ALL, LASTS, Outcome, Verdict, judge
from mesh.core.traffic.plan import Plan
from mesh.core.traffic.standing import Ending, Standing
from mesh.core.traffic.ticks import EMPTY, NOTHING, Counts
from mesh.core.units import Millis
from tests.unit.core.versions import BEGIN, KNOWN, PLAN, did, tick


def looks(
    stable: Counts, canary: Counts, number: int, *, plan: Plan = PLAN, standing: Standing = KNOWN, first: int = 2
) -> tuple[Standing, list[Verdict]]:
    """So many ticks in which both do the same every time."""
    verdicts = []
    for each in range(first, first + number):
        standing, verdict = judge(plan, standing, tick(each, stable, canary))
        verdicts.append(verdict)
    return standing, verdicts


def outcomes(verdicts: list[Verdict]) -> list[Outcome]:
    return [verdict.outcome for verdict in verdicts]


GO_ON, PROMOTE, ROLL_BACK, HOLD = Outcome.GO_ON, Outcome.PROMOTE, Outcome.ROLL_BACK, Outcome.HOLD


def test_an_equal_canary_goes_up_step_by_step_and_becomes_the_stable_version() -> None:
    standing, shares, said = KNOWN, [], []
    percent = 5
    for number in range(2, 200):
        stable, canary = did(4 * (100 - percent), 4 if percent < 100 else 0), did(4 * percent, percent // 25)
        standing, verdict = judge(PLAN, standing, tick(number, stable, canary))
        if verdict.outcome is not GO_ON:
            shares.append(verdict.percent)
            said.append(verdict.words)
            percent = verdict.percent
        if standing.ending is not Ending.NOT_YET:
            break
    assert shares == [25, 50, 100, 100]
    assert standing.ending is Ending.PROMOTED
    assert said[0].startswith("step 1 of 4 (5 %) is passed, 25 % from now on. canary: ")
    assert "Shown: not worse by 5 points in failures (" in said[0]
    assert "It would have stayed with less than 100 to 1 for any of these" in said[0]
    assert said[-1].startswith("step 4 of 4 (100 %): the rollout is done")


def test_a_step_takes_its_time_however_good_the_canary_is() -> None:
    _, verdicts = looks(did(400, 4), did(400, 4), 4, plan=replace(PLAN, hold_ms=60_000))
    assert outcomes(verdicts) == [GO_ON] * 4
    assert "Missing: 10 s of the time that a step is held. " in verdicts[-1].words


def test_a_step_takes_its_calls_however_good_the_canary_is() -> None:
    plan = replace(PLAN, hold_calls=4_000)
    _, verdicts = looks(did(500, 5), did(500, 5), 7, plan=plan)
    assert outcomes(verdicts) == [GO_ON] * 7
    assert "Missing: 500 calls of the canary. " in verdicts[-1].words
    assert looks(did(500, 5), did(500, 5), 8, plan=plan)[1][-1].outcome is PROMOTE


def test_too_few_calls_never_promote() -> None:
    plan = replace(PLAN, hold_ms=0, hold_calls=0)
    standing, verdicts = looks(did(400, 4), did(2), 15, plan=plan)
    assert set(outcomes(verdicts)) == {GO_ON}
    assert standing.canary_calls == 30
    assert "evidence that it is not worse by 30 % in median latency (" in verdicts[-1].words
    assert "Missing: 5 min of" in looks(did(400, 4), did(2), 1, plan=Plan())[1][-1].words


def test_without_calls_of_the_canary_nothing_is_decided() -> None:
    _, verdicts = looks(did(400, 4), NOTHING, 30)
    assert set(outcomes(verdicts)) == {GO_ON}
    assert "canary: 0 calls; stable: " in verdicts[-1].words


def test_before_anybody_knows_what_is_usual_nothing_is_bet() -> None:
    standing, verdict = judge(PLAN, BEGIN, tick(1, did(400, 4), did(400, 380)))
    assert verdict.outcome is GO_ON
    assert [wealth.total for wealth in (*standing.harm, *standing.safe)] == pytest.approx([1.0] * 6)


def test_nor_of_latencies_before_those_are_known() -> None:
    few = replace(did(19), ok=400)
    standing, _ = judge(PLAN, judge(PLAN, BEGIN, tick(1, few))[0], tick(2, did(400, 4), did(400, 4)))
    assert [wealth.total for wealth in standing.safe[1:]] == pytest.approx([1.0] * 2)
    assert standing.safe[0].total > 1


def test_a_canary_that_fails_more_often_is_rolled_back() -> None:
    standing, verdicts = looks(did(380, 4), did(40, 5), 60)
    assert ROLL_BACK in outcomes(verdicts)
    assert PROMOTE not in outcomes(verdicts)
    assert standing.ending is Ending.ROLLED_BACK
    said = next(verdict for verdict in verdicts if verdict.outcome is ROLL_BACK)
    assert said.percent == 0
    assert "the canary is rolled back: it is shown to be worse by more than 2 points in failures (" in said.words
    assert "less than 300 to 1, or more that is tolerated, would have kept it" in said.words
    assert verdicts[-1].words.startswith("rolled back: it is shown")


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.45, 0.6])
def test_a_canary_that_is_slower_is_rolled_back(sigma: float) -> None:
    stable, canary = did(380, 4, sigma=sigma), did(60, 0, 26.5, sigma=sigma)
    before = judge(PLAN, BEGIN, tick(1, stable))[0]
    _, verdicts = looks(stable, canary, 60, standing=before)
    assert ROLL_BACK in outcomes(verdicts)
    assert PROMOTE not in outcomes(verdicts)
    said = next(verdict.words for verdict in verdicts if verdict.outcome is ROLL_BACK)
    assert "worse by more than 14 % in median latency (" in said


def test_a_slow_tail_is_enough() -> None:
    canary = did(54) + did(6, 0, 100.0)
    _, verdicts = looks(did(380, 4), canary, 60)
    said = next(verdict.words for verdict in verdicts if verdict.outcome is ROLL_BACK)
    assert "worse by more than 14 % in 95th percentile of latency (" in said


def test_evidence_that_it_is_worse_is_told_while_it_grows() -> None:
    _, verdicts = looks(did(380, 4), did(40, 5), 2)
    assert "Evidence that it is worse: failures " in verdicts[-1].words


def test_load_that_makes_both_slower_speaks_for_neither() -> None:
    standing = KNOWN
    for number in range(2, 40):
        middle = 20.0 * (1 + (number % 8) / 4)
        standing, verdict = judge(PLAN, standing, tick(number, did(400, number % 5, middle), did(100, number % 2, middle)))
        assert verdict.outcome is not ROLL_BACK
    assert standing.step > 0


@pytest.mark.parametrize(("sign", "why"), [("unloadable", "it cannot be loaded: no file"), ("crashed", "it ended its runtime: no file")])
def test_a_hard_sign_rolls_back_at_once(sign: str, why: str) -> None:
    signs: dict[str, Any] = {sign: "no file"}
    standing, verdict = judge(PLAN, KNOWN, replace(tick(2, did(400, 4)), **signs))
    assert (verdict.outcome, verdict.percent) == (ROLL_BACK, 0)
    assert why in verdict.words
    assert standing.cause == f"rolled back: {why}"


def test_a_canary_all_of_whose_calls_fail_is_rolled_back_though_there_is_nothing_to_compare_with() -> None:
    standing, verdict = judge(PLAN, BEGIN, tick(1, NOTHING, did(ALL - 1, ALL - 1)))
    assert verdict.outcome is GO_ON
    standing, verdict = judge(PLAN, standing, tick(2, NOTHING, did(1, 1)))
    assert verdict.outcome is ROLL_BACK
    assert f"all of its {ALL} calls in this step failed" in verdict.words


def test_of_calls_that_share_their_fate_more_are_needed() -> None:
    plan = replace(PLAN, alike=4)
    alone, shared = (judge(each, KNOWN, tick(2, did(400, 4), did(40, 4)))[0] for each in (PLAN, plan))
    for one, four in zip(alone.harm + alone.safe, shared.harm + shared.safe, strict=True):
        assert [log(8 * part) for part in one.parts] == pytest.approx([4 * log(8 * part) for part in four.parts], abs=0.5)
    standing, verdict = judge(plan, BEGIN, tick(1, NOTHING, did(4 * ALL - 1, 4 * ALL - 1)))
    assert verdict.outcome is GO_ON
    assert judge(plan, standing, tick(2, NOTHING, did(1, 1)))[1].outcome is ROLL_BACK


def test_where_the_stable_version_fails_as_well_that_is_no_sign() -> None:
    ill = judge(PLAN, BEGIN, tick(1, did(400, 390)))[0]
    _, verdicts = looks(did(400, 400), did(30, 30), 5, standing=ill)
    assert ROLL_BACK not in outcomes(verdicts)


def test_calls_right_after_a_step_begins_count_for_nothing() -> None:
    plan = replace(PLAN, settle_ms=60_000)
    standing, verdicts = looks(did(400, 4), did(100, 100), 4, plan=plan, standing=judge(plan, BEGIN, tick(1, did(400, 4)))[0])
    assert outcomes(verdicts) == [GO_ON] * 4
    assert standing.canary == EMPTY
    assert standing.canary_calls == 0
    assert looks(did(400, 4), did(100, 100), 1, plan=plan, standing=standing, first=6)[1][-1].outcome is ROLL_BACK


@pytest.mark.parametrize("limits", [{"limit_ms": 60_000}, {"limit_calls": 101}])
def test_a_dead_end_is_told_and_ends_when_the_evidence_is_there(limits: dict[str, Any]) -> None:
    plan = replace(PLAN, **limits)
    standing, verdicts = looks(did(400, 4), did(20), 6, plan=plan)
    assert verdicts[-1].outcome is HOLD
    assert verdicts[-1].percent == 5
    assert "on hold, neither better nor worse is shown within the limit" in verdicts[-1].words
    assert "evidence that it is not worse by " in verdicts[-1].words
    assert "or a person who decides, would end it" in verdicts[-1].words
    _, verdicts = looks(did(400, 4), did(100, 1), 20, plan=plan, standing=standing, first=8)
    assert PROMOTE in outcomes(verdicts)


def test_times_that_no_bound_tells_apart_are_held() -> None:
    """Quicker than the first bound: nobody can tell whether it is a third slower."""
    quick = did(400, 4, 0.001, 0.1)
    before = judge(PLAN, BEGIN, tick(1, quick))[0]
    _, verdicts = looks(quick, quick, 20, standing=before)
    assert PROMOTE not in outcomes(verdicts)
    assert ROLL_BACK not in outcomes(verdicts)


def test_times_beyond_the_last_bounds_are_held() -> None:
    slow = did(400, 4, 290_000.0, 0.01)
    before = judge(PLAN, BEGIN, tick(1, slow))[0]
    _, verdicts = looks(slow, slow, 20, standing=before)
    assert PROMOTE not in outcomes(verdicts)


def test_calls_without_times_are_compared_by_failures_only_and_held() -> None:
    streams = Counts(396, 4)
    standing, verdicts = looks(streams, streams, 10, standing=judge(PLAN, BEGIN, tick(1, streams))[0])
    assert set(outcomes(verdicts)) == {GO_ON}
    assert standing.safe[0].total > 100
    standing, verdicts = looks(streams, streams, 10)
    assert set(outcomes(verdicts)) == {GO_ON}


def test_evidence_for_the_canary_is_kept_low_enough_to_be_lost_again() -> None:
    plan = replace(PLAN, hold_ms=1_000_000)
    standing, _ = looks(did(400, 4), did(400, 4), 60, plan=plan)
    assert all(wealth.total <= LASTS / plan.wrong_promotion + 1 for wealth in standing.safe)
    standing, _ = looks(did(400, 4), did(400, 30), 1, plan=plan, standing=standing, first=62)
    assert standing.safe[0].total < 100


def test_a_canary_that_becomes_worse_late_is_found_out() -> None:
    plan = replace(PLAN, hold_ms=1_900_000, limit_calls=1_000_000)
    standing, _ = looks(did(400, 4), did(100, 1), 150, plan=plan)
    _, verdicts = looks(did(400, 4), did(100, 8), 25, plan=plan, standing=standing, first=152)
    assert verdicts[-1].outcome is ROLL_BACK


def test_a_tick_counts_once_and_the_past_not_at_all() -> None:
    after, first = judge(PLAN, KNOWN, tick(3, did(400, 4), did(20, 1)))
    assert judge(PLAN, after, tick(3, did(400, 4), did(20, 1))) == (after, first)
    assert judge(PLAN, after, tick(2, did(400, 4), did(20, 20), crashed="long ago")) == (after, first)


def test_what_has_ended_stays_so() -> None:
    rolled_back, _ = judge(PLAN, KNOWN, tick(2, did(400), crashed="no memory"))
    after, verdict = judge(PLAN, rolled_back, tick(3, did(400), did(400)))
    assert (after, verdict) == (rolled_back, Verdict(ROLL_BACK, 0, "rolled back: it ended its runtime: no memory"))
    promoted = replace(KNOWN, step=3, ending=Ending.PROMOTED, cause="promoted: it was held at 100 %")
    assert judge(PLAN, promoted, tick(9, NOTHING, did(9, 9)))[1] == Verdict(PROMOTE, 100, "promoted: it was held at 100 %")


def test_a_standing_of_another_plan_is_refused() -> None:
    with pytest.raises(Malformed, match="stands at step 4 and its plan has 2; begin it anew"):
        judge(Plan(steps=(10, 100)), replace(KNOWN, step=3), tick(2, did(4)))


@pytest.mark.parametrize(("evidence", "outcome"), [(299.9, GO_ON), (300.1, ROLL_BACK)])
@pytest.mark.parametrize("place", range(3))
def test_one_of_three_hypotheses_refuted_three_hundred_to_one_rolls_back(place: int, evidence: float, outcome: Outcome) -> None:
    """At most one equal canary of a hundred, over all three."""
    harm = list(KNOWN.harm)
    harm[place] = Wealth((evidence, 0.0, 0.0, 0.0), 10**12)
    assert judge(PLAN, replace(KNOWN, harm=tuple(harm)), tick(2, NOTHING))[1].outcome is outcome


@pytest.mark.parametrize(("evidence", "outcome"), [(99.9, GO_ON), (100.1, PROMOTE)])
@pytest.mark.parametrize("place", range(3))
def test_all_three_refuted_a_hundred_to_one_promote(place: int, evidence: float, outcome: Outcome) -> None:
    safe = [Wealth((500.0, 0.0, 0.0, 0.0), 10**12)] * 3
    safe[place] = Wealth((evidence, 0.0, 0.0, 0.0), 10**12)
    harm = (Wealth((0.25, 0.0, 0.0, 0.0), 7),) * 3
    ripe = replace(KNOWN, safe=tuple(safe), harm=harm, canary_calls=100, since=Millis(-100_000))
    after, verdict = judge(PLAN, ripe, tick(2, NOTHING))
    assert verdict.outcome is outcome
    if outcome is PROMOTE:
        assert [wealth.total for wealth in after.safe] == pytest.approx([1.0] * 3)
        assert (after.step, after.since, after.canary_calls, after.harm) == (1, 20_000, 0, harm)


# One tick more or less


counts = st.builds(did, st.integers(0, 60), st.just(0), st.floats(1, 100), st.floats(0.05, 1))


@given(counts, st.integers(1, 40), st.integers(0, 39), st.integers(0, 40))
def test_a_further_failure_of_the_canary_never_speaks_for_it(stable: Counts, calls: int, failed: int, of_stable: int) -> None:
    failed = min(failed, calls - 1)
    stable = replace(stable, failed=of_stable)
    looked = [judge(PLAN, KNOWN, tick(2, stable, Counts(calls - each, each)))[0] for each in (failed, failed + 1)]
    assert looked[1].harm[0].total >= looked[0].harm[0].total * (1 - 1e-9)
    assert looked[1].safe[0].total <= looked[0].safe[0].total * (1 + 1e-9)


@given(st.floats(1, 100), st.floats(1, 3), st.integers(1, 60))
def test_a_slower_canary_never_looks_quicker(middle: float, factor: float, calls: int) -> None:
    looked = [judge(PLAN, KNOWN, tick(2, did(300), did(calls, 0, each)))[0] for each in (middle, middle * factor)]
    for place in (1, 2):
        assert looked[1].harm[place].total >= looked[0].harm[place].total * (1 - 1e-9)
        assert looked[1].safe[place].total <= looked[0].safe[place].total * (1 + 1e-9)
