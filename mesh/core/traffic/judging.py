"""Judges a rollout: after each tick whether the canary gets more calls, none any more, or as many as before.

Three things are compared: failures, and latency at the stable version's median and at its 95th percentile. Of each, two hypotheses are bet
against (`betting`):

- *harm*: "the canary is worse by no more than what is tolerated". Evidence against one of them rolls back. It counts over the whole
  rollout, and three are bet against, so it has to reach 3 / `wrong_rollback` (Bonferroni).
- *safe*: "the canary is worse by what is to be found, or more". Only evidence against all three, earned in this step, promotes it, so
  it has to reach 1 / `wrong_promotion` for each (an intersection-union test, Berger 1982).

Failures are compared by the difference of their shares. "Slower by a factor r" is that more of the canary's calls take longer than r·x
than of the stable version's take longer than x; x is near the quantile of the stable version before the tick. For a canary all of whose
calls are r times slower that holds at every x, however latencies are distributed and whatever the load makes of them, as long as it does
the same to both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from mesh.core.errors import Malformed
from mesh.core.traffic import words
from mesh.core.traffic.betting import Against, Guess, Table, pays
from mesh.core.traffic.plan import Plan
from mesh.core.traffic.standing import TOLD, Ending, Standing, What
from mesh.core.traffic.ticks import BOUNDS, Memory, Tick

BEYOND = {What.MIDDLE: 0.5, What.TAIL: 0.05}
"""Shares of the stable version's calls that take longer than the limit that both versions are compared by."""

KNOWN = 20
"""Latencies of the stable version, and calls, without which nobody knows what is usual, and a tick only teaches it."""

PRIOR_CALLS, PRIOR_FAILED = 50, 0.5
"""What is usual counts as after so many further calls with so many failures: few calls without any do not mean that none will fail."""

WORSE = (0.0, 0.1, 0.35, 0.9)
"""Guesses of the failures of a bad canary: the share that is to be found, and so much of what remains to 1 besides."""

WELL = (0.0, 0.2, 0.4, 0.6)
"""Guesses of those of a good one: so much of the share that is to be found beyond the stable version's. Larger ones stake less."""

ODDS_WORSE = (1.5, 2.0, 4.0, 16.0)
ODDS_WELL = (1 / 1.5, 1 / 2.5, 1 / 4, 1 / 10)
"""Guesses of how the odds of taking longer than the limit differ. A canary 30 % slower has 1.4 to 2.4 beside one 14 % slower where
latencies are lognormal with sigma 0.6 to 0.3, an equal one 1/2 to 1/9 beside one 30 % slower."""

LASTS = 10
"""Times what is needed that evidence for the canary amounts to at most: more would let it be bad for long before that shows."""

ALL = 20
"""Calls in a step that all failed, without any that did not, are enough to see. An equal canary gets there once in a million, beside a
stable version that answers half of its calls; beside one that answers fewer this is no sign."""


class Outcome(Enum):
    """What a look comes to."""

    GO_ON = "go on"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"
    HOLD = "hold"
    """As `GO_ON`, beyond the step's limit: neither is shown, and somebody should look."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look came to.

    Attributes:
        percent: of calls that the canary is to get from now on.
        words: for users: what both versions did, what was decided, by what evidence, and what would have changed it.
    """

    outcome: Outcome
    percent: int
    words: str


def judge(plan: Plan, standing: Standing, tick: Tick) -> tuple[Standing, Verdict]:
    """Takes a tick and decides.

    A tick that does not end later than the last one taken was taken before, maybe by another pod: it counts only once. A rollout that
    has ended stays so.

    Raises:
        Malformed: the standing is at a step that the plan does not have.
    """
    if standing.step >= len(plan.steps):
        raise Malformed(f"the rollout stands at step {standing.step + 1} and its plan has {len(plan.steps)}; begin it anew")
    if standing.ending is not Ending.NOT_YET:
        promoted = standing.ending is Ending.PROMOTED
        return standing, Verdict(Outcome.PROMOTE if promoted else Outcome.ROLL_BACK, 100 if promoted else 0, standing.cause)
    if tick.at > standing.looked:
        standing = _taken(plan, standing, tick)
        if sign := words.hard_sign(tick):
            return _ended(plan, standing, Ending.ROLLED_BACK, sign)
    return _decided(plan, standing)


def _decided(plan: Plan, standing: Standing) -> tuple[Standing, Verdict]:
    if found := harm_shown(plan, standing):
        return _ended(plan, standing, Ending.ROLLED_BACK, words.harm(plan, standing, found))
    if _all_fail(plan, standing):
        return _ended(plan, standing, Ending.ROLLED_BACK, f"all of its {standing.canary_calls} calls in this step failed")
    last = standing.step == len(plan.steps) - 1
    missing = words.missing(plan, standing, not_shown(plan, standing))
    if not missing and last:
        return _ended(plan, standing, Ending.PROMOTED, "it was held at 100 %")
    if not missing:
        said = words.promoted(plan, standing)
        after = standing.next_step(standing.looked)
        return after, Verdict(Outcome.PROMOTE, plan.steps[after.step], said)
    over = standing.looked - standing.since >= plan.limit_ms or standing.canary_calls >= plan.limit_calls
    outcome = Outcome.HOLD if over else Outcome.GO_ON
    return standing, Verdict(outcome, plan.steps[standing.step], words.going_on(plan, standing, missing, over=over))


def harm_shown(plan: Plan, standing: Standing) -> list[What]:
    """In what the canary is shown to be worse than tolerated."""
    return [what for what, wealth in zip(What, standing.harm, strict=True) if wealth.total >= len(What) / plan.wrong_rollback]


def not_shown(plan: Plan, standing: Standing) -> list[What]:
    """In what it is not shown, in this step, to be no worse than what is to be found. At 100 % there is nothing to compare with."""
    if plan.steps[standing.step] == 100:
        return []
    return [what for what, wealth in zip(What, standing.safe, strict=True) if wealth.total < 1 / plan.wrong_promotion]


def _all_fail(plan: Plan, standing: Standing) -> bool:
    stable = standing.stable
    ill = 2 * stable.failed > stable.ok + stable.failed
    return ALL * plan.alike <= standing.canary_calls == standing.canary_failed and not ill


def _ended(plan: Plan, standing: Standing, ending: Ending, cause: str) -> tuple[Standing, Verdict]:
    promoted = ending is Ending.PROMOTED
    said = words.ended(plan, standing, ending, cause)
    after = replace(standing, ending=ending, cause=f"{ending.value}: {cause}"[:TOLD])
    return after, Verdict(Outcome.PROMOTE if promoted else Outcome.ROLL_BACK, 100 if promoted else 0, said)


def _taken(plan: Plan, standing: Standing, tick: Tick) -> Standing:
    """The standing after a tick. The bets are those that the standing before it tells; then what is usual is learned from it."""
    learned = standing.stable.with_(tick.stable)
    if tick.at - standing.since < plan.settle_ms:
        return replace(standing, looked=tick.at, stable=learned)
    harm, safe = list(standing.harm), list(standing.safe)
    for place, what in enumerate(What):
        paid = _paid(plan, standing.stable, tick, what, Against.AT_MOST)
        harm[place] = harm[place].after(paid, tick.canary.calls)
        paid = _paid(plan, standing.stable, tick, what, Against.AT_LEAST)
        safe[place] = safe[place].after(paid, tick.canary.calls).at_most(LASTS / plan.wrong_promotion)
    return replace(
        standing,
        looked=tick.at,
        stable_calls=standing.stable_calls + tick.stable.calls,
        stable_failed=standing.stable_failed + tick.stable.failed,
        canary_calls=standing.canary_calls + tick.canary.calls,
        canary_failed=standing.canary_failed + tick.canary.failed,
        stable=learned,
        canary=standing.canary.with_(tick.canary),
        harm=tuple(harm),
        safe=tuple(safe),
    )


NOTHING_PAID = (0.0,) * len(WELL)


def _paid(plan: Plan, usual: Memory, tick: Tick, what: What, against: Against) -> tuple[float, ...]:
    """Logarithm of what the bets pay for a tick, of each guess.

    Of `alike` calls that share their fate each pays a root of that power: by Hölder's inequality that is as fair as if only one of them had
    bet, whichever way they depend on each other.
    """
    of_harm = against is Against.AT_MOST
    if what is What.FAILURES:
        return _paid_of_failures(plan, usual, tick, against)
    shift = plan.shift_tolerated if of_harm else plan.shift_found
    bound = usual.bound(BEYOND[what], above=not of_harm)
    if usual.timed < KNOWN or bound is None or bound + shift >= len(BOUNDS) or not (tick.stable.times and tick.canary.times):
        return NOTHING_PAID
    share = (usual.slower(bound) + 0.5) / (usual.timed + 1)
    stable, canary = sum(tick.stable.times), sum(tick.canary.times)
    table = Table(stable, tick.stable.slower(bound), canary, tick.canary.slower(bound + shift))
    guesses = [Guess(share, share * odds / (1 - share + share * odds)) for odds in (ODDS_WORSE if of_harm else ODDS_WELL)]
    return tuple(pays(table, guess, 0.0, against) / plan.alike for guess in guesses)


def _paid_of_failures(plan: Plan, usual: Memory, tick: Tick, against: Against) -> tuple[float, ...]:
    calls = usual.ok + usual.failed
    if calls < KNOWN:
        return NOTHING_PAID
    share = (usual.failed + PRIOR_FAILED) / (calls + PRIOR_CALLS)
    table = Table(tick.stable.calls, tick.stable.failed, tick.canary.calls, tick.canary.failed)
    if against is Against.AT_MOST:
        least = min(1.0, share + plan.failures_found)
        guesses = [Guess(share, least + (1 - least) * more) for more in WORSE]
        return tuple(pays(table, guess, plan.failures_tolerated, against) / plan.alike for guess in guesses)
    guesses = [Guess(share, min(1.0, share + plan.failures_found * part)) for part in WELL]
    return tuple(pays(table, guess, plan.failures_found, against) / plan.alike for guess in guesses)
