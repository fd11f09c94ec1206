"""`python -m tests.simulation.rollouts`: judged rollouts by the thousand, looked at after every tick, and how often the verdict is wrong.

Each rollout draws what it is about: how many calls come in, how many of them fail, how long they take, how much that varies, and how all
of it drifts. Every call goes to the canary by a draw. Ticks are of ten seconds, and the judge looks at each of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import erf, exp, log, pi, sin, sqrt
from random import Random
from statistics import median

from mesh.core.traffic.judging import Outcome, judge
from mesh.core.traffic.plan import Plan
from mesh.core.traffic.standing import Ending, Standing
from mesh.core.traffic.ticks import BOUNDS, BUCKETS, NOTHING, Counts, Tick
from mesh.core.units import Millis

TICK = 10_000
"""Milliseconds."""
BEFORE = 3
"""Ticks of the stable version alone, while the canary loads."""
MOST = 3_000
"""Ticks after which a rollout that has not ended is held for good: beyond the limit of each step."""
FIRST, WIDTH = log(BOUNDS[0]), log(BOUNDS[1] / BOUNDS[0])


@dataclass(frozen=True)
class Kind:
    """What is wrong with a canary.

    Attributes:
        bound: what the documents promise: of `rolled back` or of `promoted`, at most `Plan`'s chance.
        failures: shares of calls that fail besides.
        slower: factor of all times.
        tail: share of calls that take three times as long.
        alike: calls of a caller, who stays with a version; all of them fail or none does, and they take alike long. The plan says so.
        bursts: in each tick up to half of the calls come while all take three times as long and fail more often, for both versions.
    """

    name: str
    bound: str
    failures: float = 0.0
    slower: float = 1.0
    tail: float = 0.0
    alike: int = 1
    bursts: bool = False
    unloadable: str = ""
    crashed: str = ""


KINDS = (
    Kind("equal", "rolled back"),
    Kind("5 points more failures", "promoted", failures=0.05),
    Kind("30 % slower", "promoted", slower=1.3),
    Kind("cannot be loaded", "promoted", unloadable="no such file"),
    Kind("crashes its runtime", "promoted", crashed="out of memory"),
)
"""What everybody asks about."""

OTHERS = (
    Kind("all its calls fail", "promoted", failures=1.0),
    Kind("a tenth of its calls 3 times as slow", "promoted", tail=0.1),
    Kind("30 % slower, calls in bursts", "promoted", slower=1.3, bursts=True),
    Kind("equal, calls in bursts", "rolled back", bursts=True),
    Kind("equal, callers of 5 calls stay with a version", "rolled back", alike=5),
    Kind("5 points more failures, such callers", "promoted", failures=0.05, alike=5),
    Kind("as bad as tolerated", "rolled back", failures=0.02, slower=1.14),
)
"""Of which a fifth as many are played: they take longest, and lie at the edges."""


@dataclass(frozen=True)
class End:
    """How one rollout ended, and the calls that it took: all, and the canary's."""

    ending: str
    calls: int
    canary: int


class World:
    """The service of one rollout: what was drawn for it."""

    def __init__(self, kind: Kind, random: Random) -> None:
        self.kind, self._random = kind, random
        self._calls = exp(random.uniform(log(40), log(400)))
        self._failures = exp(random.uniform(log(0.001), log(0.04)))
        self._middle, self._sigma = exp(random.uniform(log(2), log(500))), random.uniform(0.3, 0.6)
        self._period, self._swing = random.uniform(20, 400), random.uniform(0, 0.5)

    def tick(self, number: int, percent: int) -> Tick:
        """What both did; the canary gets a call with that chance."""
        wave = 1 + self._swing * sin(2 * pi * number / self._period)
        calls = max(1, round(self._calls * wave * self._random.uniform(0.7, 1.3)))
        bursting = round(calls * self._random.uniform(0, 0.5)) if self.kind.bursts else 0
        stable = canary = NOTHING
        for share, slow, more in ((calls - bursting, 1.0, 0.0), (bursting, 3.0, 0.1)):
            mine = self._of(share, percent / 100)
            middle, failures = self._middle * wave * slow, self._failures * wave + more
            if share > mine:
                stable += self._counts(share - mine, failures, middle, 0.0)
            if mine:
                canary += self._counts(mine, min(1.0, failures + self.kind.failures), middle * self.kind.slower, self.kind.tail)
        ill = percent > 0 and number >= BEFORE + 2
        at = Millis(number * TICK)
        return Tick(at, stable, canary, self.kind.unloadable if ill else "", self.kind.crashed if ill else "")

    def _counts(self, calls: int, failures: float, middle: float, tail: float) -> Counts:
        each = self.kind.alike
        callers = self._of_callers(calls // each, failures, middle, tail)
        whole = Counts(each * callers.ok, each * callers.failed, tuple(each * number for number in callers.times))
        return whole + self._of_callers(calls % each, failures, middle, tail) if calls % each else whole

    def _of_callers(self, calls: int, failures: float, middle: float, tail: float) -> Counts:
        failed = self._of(calls, failures)
        slow = self._of(calls - failed, tail)
        times = [0] * BUCKETS
        for many, half in ((calls - failed - slow, middle), (slow, 3 * middle)):
            for place, number in self._times(many, half).items():
                times[place] += number
        return Counts(calls - failed, failed, tuple(times))

    def _of(self, calls: int, share: float) -> int:
        """How many of them fall to a share: those between two that do are drawn at once."""
        if share > 0.5:
            return calls - self._of(calls, 1 - share)
        if share == 0:
            return 0
        found, place, scale = 0, 0, 1 / log(1 - share)
        while (place := place + 1 + int(log(1 - self._random.random()) * scale)) <= calls:
            found += 1
        return found

    def _times(self, calls: int, middle: float) -> Counter[int]:
        """Lognormal times by bucket; those beyond five sigma are left out."""
        if not calls:
            return Counter()
        centre = log(middle)
        places = range(*(int((centre + way * 5 * self._sigma - FIRST) / WIDTH) for way in (-1, 1)))
        below = [erf((FIRST + place * WIDTH - centre) / self._sigma / sqrt(2)) + 1 for place in places]
        return Counter(self._random.choices(places, cum_weights=below, k=calls))


def play(kind: Kind, seed: str, plan: Plan | None = None) -> End:
    """One rollout, from three ticks before it to its end."""
    plan = replace(plan or Plan(), alike=kind.alike)
    world = World(kind, Random(seed))
    standing, percent, calls, canary = Standing.begin(Millis(0)), 0, 0, 0
    for number in range(1, BEFORE + 1):
        standing, verdict = judge(plan, standing, world.tick(number, 0))
        percent = verdict.percent
    for number in range(BEFORE + 1, MOST):
        tick = world.tick(number, percent)
        calls, canary = calls + tick.stable.calls + tick.canary.calls, canary + tick.canary.calls
        standing, verdict = judge(plan, standing, tick)
        percent = verdict.percent
        if standing.ending is not Ending.NOT_YET or verdict.outcome is Outcome.HOLD:
            return End(standing.ending.value or "held", calls, canary)
    return End("held", calls, canary)


def wilson(hits: int, of: int) -> tuple[float, float]:
    """A 95 % interval of a share (Wilson 1927)."""
    z = 1.959964
    share, square = hits / of, z * z / of
    middle, half = share + square / 2, z * sqrt(share * (1 - share) / of + square / 4 / of)
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def row(kind: Kind, ends: Sequence[End]) -> str:
    """A line of the table."""
    counted = Counter(end.ending for end in ends)
    wrong = counted[kind.bound]
    low, high = wilson(wrong, len(ends))
    three = " | ".join(str(counted[name]) for name in ("promoted", "rolled back", "held"))
    calls = f"{median(end.calls for end in ends):.0f} | {median(end.canary for end in ends):.0f}"
    calls += f" | {sorted(end.canary for end in ends)[95 * len(ends) // 100]}"
    return f"| {kind.name} | {len(ends)} | {three} | {calls} | {kind.bound}: {wrong / len(ends):.2%} ({low:.2%} to {high:.2%}) | 1 % |"


HEAD = (
    "| canary | rollouts | promoted | rolled back | held | calls, median "
    "| the canary's, median | 95 of 100 | wrong (95 % interval) | at most |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> int:
    """Exit status 0 if every share is inside its bound."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.rollouts", description=__doc__)
    parser.add_argument("--rollouts", type=int, default=1000, help="of each kind; a fifth as many of those at the edges")
    parser.add_argument("--unheld", action="store_true", help="steps are held for no time: what evidence alone takes")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    plan = Plan(hold_ms=0, hold_calls=0) if asked.unheld else Plan()
    begun, within = time.monotonic(), True
    print(HEAD)
    with multiprocessing.get_context("fork").Pool(asked.processes) as pool:
        for kind in KINDS + OTHERS:
            seeds = [f"{kind.name} {number}" for number in range(asked.rollouts // (1 if kind in KINDS else 5))]
            ends = pool.map(partial(play, kind, plan=plan), seeds, chunksize=10)
            within &= sum(end.ending == kind.bound for end in ends) <= 0.01 * len(ends)
            print(row(kind, ends), flush=True)
    print(f"\n{time.monotonic() - begun:.0f} s, {asked.processes} processes")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
