"""Evidence that may be looked at as often as one likes: bets on how two versions compare, tick by tick.

What one tick tells is a 2×2 table: so many calls of the stable version, so many of them hits (calls that failed, or that took longer than
some limit), and the same of the canary. The hypothesis that is bet against is `p_canary − p_stable ≤ margin` (or `≥`), where both
shares may be others in every tick, in any way, also depending on the past. With guesses that were made before the tick, a bet pays

    E = Π over canary's calls (1 + S/n_c · (y − q − margin)) · Π over stable's calls (1 − S/n_s · (y − q))        y = 1 for a hit, else 0

for a stake S ≥ 0 (S ≤ 0 against `≥`) and a rate q with all factors above 0. The expectation of a product of independent factors is the
product of theirs, and by log(1 + x) ≤ x its logarithm is at most S · (p_canary − p_stable − margin) ≤ 0. So E is an *e-value*: under the
hypothesis its mean is at most 1 in every tick given those before, the product over ticks is a supermartingale, and the chance that it
*ever* reaches 1/α is at most α (Ville 1939). No correction for looking often is needed, and one may stop at any time.

q and S are those for which E is the likelihood ratio of the guess to the nearest member of the hypothesis, which makes capital grow
fastest if the guess is true: the e-variables of Turner, Ly & Grünwald (2024, "Generic e-variables for exact sequential k-sample tests
that allow for optional stopping") with the margins of Turner & Grünwald (2023, "Exact anytime-valid confidence intervals for
contingency tables and beyond"), here for whole ticks. To divide a capital among guesses is Waudby-Smith & Ramdas (2024, "Estimating
means of bounded random variables by betting"); that its parts begin at different times, Shin, Ramdas & Rinaldo (2024, "E-detectors").
Howard, Ramdas, McAuliffe & Sekhon (2021, "Time-uniform, nonparametric, nonasymptotic confidence sequences") tell the same as bounds that
hold at all times.

Assumed: within a tick calls fail or are slow independently of each other, and their average chance of that does not depend on who gets
them but by the version, which a draw for each call makes true. Chances may differ from call to call and from tick to tick: log(1 + x) is
concave, so factors that differ multiply to no more than equal ones with their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import exp, log1p
from typing import NamedTuple

EDGE = 1e-4
"""Shares are guessed no nearer to 0 and 1: what never happened may happen."""

DARE = 0.99
"""Part of the largest stake that leaves something after the worst outcome of a call."""

STEPS = 2
"""Rounds in which the nearest member of the hypothesis is approached; without a margin the first one finds it. A rough one costs speed,
never validity."""

HIGHEST = 600.0
"""Logarithm of what a tick pays at most: `exp` overflows above 709. Taking less than is due is always allowed."""

HALF = 0.5
"""Part of a capital that is at work from the first call on; the rest joins later, for what changes later."""

LATER = 500
"""Calls of the canary after which half of what joins later has joined: about as many as it takes to find what is to be found."""


class Table(NamedTuple):
    """What one tick tells: calls of both versions, and how many of each are hits."""

    stable: int
    stable_hits: int
    canary: int
    canary_hits: int


class Against(Enum):
    """The hypothesis that is bet against, of `p_canary − p_stable − margin`; its value is the sign of the stake."""

    AT_MOST = 1
    AT_LEAST = -1


class Guess(NamedTuple):
    """Shares of hits, each in [0, 1], as they were expected before the tick."""

    stable: float
    canary: float


def pays(table: Table, guess: Guess, margin: float, against: Against) -> float:
    """Logarithm of what a bet on the guess pays for a tick; 0 if either version has no calls, or the guess is itself in the hypothesis.

    Args:
        table: of this tick.
        guess: made without it. The numbers of calls in the table may be known, the hits may not.
        margin: between -1 and 1, a difference of shares.
        against: with this margin, the hypothesis.
    """
    if not table.stable or not table.canary:
        return 0.0
    near, stake = _stake(table.stable, table.canary, guess, margin, against)
    far = near + margin
    of_canary, of_stable = stake / table.canary, -stake / table.stable
    paid = (
        table.canary_hits * log1p(of_canary * (1 - far))
        + (table.canary - table.canary_hits) * log1p(-of_canary * far)
        + table.stable_hits * log1p(of_stable * (1 - near))
        + (table.stable - table.stable_hits) * log1p(-of_stable * near)
    )
    return min(paid, HIGHEST)


def _stake(stable: int, canary: int, guess: Guess, margin: float, against: Against) -> tuple[float, float]:
    """The stable version's share in the nearest member of the hypothesis, and the stake.

    The share is the mean of what either version says of it, weighted by its precision there.
    """
    low, high = max(0.0, -margin) + EDGE, min(1.0, 1.0 - margin) - EDGE
    near = min(max(guess.stable, low), high)
    for _ in range(STEPS if margin else 1):
        far = near + margin
        of_stable, of_canary = stable / (near * (1 - near)), canary / (far * (1 - far))
        near = (of_stable * guess.stable + of_canary * (guess.canary - margin)) / (of_stable + of_canary)
        near = min(max(near, low), high)
    far = near + margin
    wanted = canary * (guess.canary - far) / (far * (1 - far))
    if against is Against.AT_MOST:
        return near, max(0.0, min(wanted, DARE * canary / far, DARE * stable / (1 - near)))
    return near, -max(0.0, min(-wanted, DARE * canary / (1 - far), DARE * stable / near))


@dataclass(frozen=True, slots=True)
class Wealth:
    """A capital of 1, divided evenly among several guesses, that bets against one hypothesis. It is an e-process.

    Half of it is at work from the begin. The rest joins call by call, as one that bets from then on: what has lost all while the canary
    was well must not keep silent when it is not any more. After n calls of the canary `HALF · LATER / (LATER + n)` has not joined yet.

    Attributes:
        parts: at work, one for each guess.
        calls: of the canary, that were bet on.
    """

    parts: tuple[float, ...]
    calls: int = 0

    @classmethod
    def fresh(cls, guesses: int) -> Wealth:
        """That for so many guesses, before the first tick."""
        return cls((HALF / guesses,) * guesses)

    @property
    def total(self) -> float:
        """The evidence: that the hypothesis holds, this exceeds x at any time with a chance of 1/x at most."""
        return sum(self.parts) + _waits(self.calls)

    def after(self, paid: Sequence[float], calls: int) -> Wealth:
        """The capital after a tick.

        Args:
            paid: for each guess, as of `pays`.
            calls: of the canary in that tick.
        """
        joins = (_waits(self.calls) - _waits(self.calls + calls)) / len(self.parts)
        return Wealth(tuple((part + joins) * exp(each) for part, each in zip(self.parts, paid, strict=True)), self.calls + calls)

    def at_most(self, limit: float) -> Wealth:
        """The same, or as much of what is at work as makes `limit`: then what comes later can still change what it says."""
        total = sum(self.parts)
        return self if total <= limit else Wealth(tuple(part * limit / total for part in self.parts), self.calls)


def _waits(calls: int) -> float:
    """What has not joined yet after so many calls."""
    return HALF * LATER / (LATER + calls)
