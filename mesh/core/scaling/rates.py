"""How much a copy is used, measured from one rate tick to the next (reference 6.2, 6.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mesh.core.policy import HOUR, SECOND
from mesh.core.units import Millis

MINUTE = Millis(60 * SECOND)

SKIPPED = 60
"""A tick that comes before so many percent of the interval are over is passed over (reference 6.2)."""

HEAVY = 75
"""Percent of the threshold beyond which a copy counts as in heavy use (reference 6.4)."""

ENOUGH_SAMPLES, FEW_SAMPLES = 64, 8
"""Timed calls that a threshold by latency wants, and the least that it makes do with (reference 6.5)."""


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """What scaling goes by. Spans in ms.

    Attributes:
        interval: between two rate ticks (reference 0.2, RATE_CHECK_INTERVAL_MS).
        janitor: between two looks at copies that could be given back (reference 0.2, LOCAL_JANITOR_FREQ_SECS).
        bandwidth: percent of the calls that a copy can take at its concurrency, beyond which another is wanted (reference 6.5).
        second_least, second_most: a model gets a second copy if it is used now and was so long ago (reference 6.3).
        calm: a copy in heavy use less than this ago is not given back (reference 6.8, the least minAge).
    """

    interval: Millis = Millis(10 * SECOND)
    janitor: Millis = Millis(360 * SECOND)
    bandwidth: int = 90
    second_least: Millis = Millis(420 * SECOND)
    second_most: Millis = Millis(2_400 * SECOND)
    calm: Millis = Millis(600 * SECOND)

    @property
    def young(self) -> Millis:
        """A model that got a copy less than this ago gives none back (reference 6.8: 30 minutes)."""
        return Millis(3 * self.calm)

    @property
    def longest_calm(self) -> Millis:
        """`calm` grows with the age of the caches up to this (reference 6.8: 5 hours)."""
        return Millis(30 * self.calm)

    @property
    def between(self) -> Millis:
        """A model gives back two copies at least this far apart (reference 6.8: eight intervals)."""
        return Millis(8 * self.interval)

    @property
    def old_enough(self) -> Millis:
        """Where the oldest model is older than this, second copies may displace others (reference 6.3: 20 hours)."""
        return Millis(max(30 * self.second_most, 6 * HOUR))


@dataclass(slots=True)
class Usage:
    """What is remembered of a copy's use.

    Attributes:
        at: when its use was measured last.
        rpm: calls a minute at that time.
        threshold: calls a minute at which another copy was wanted at that time.
        heavy_at: when it was last in heavy use; 0 is never.
        earlier, latest: two earlier ticks that saw it in use; 0 is none. The later one moves on, the earlier one stays until it counts.
        samples, spent: timed calls of the window before, and their ms.
        told: which kind of answer was written down last, so that the same is not written at each tick.
    """

    at: Millis = Millis(0)
    rpm: int = 0
    threshold: int = 0
    heavy_at: Millis = Millis(0)
    earlier: Millis = Millis(0)
    latest: Millis = Millis(0)
    samples: int = 0
    spent: float = 0.0
    told: str = ""

    def measured(self, rpm: int, threshold: int, now: Millis) -> None:
        """Notes a window's rate."""
        self.at, self.rpm, self.threshold = now, rpm, threshold
        if threshold and rpm * 100 > threshold * HEAVY:
            self.heavy_at = now

    def rate(self, tick: Millis) -> int:
        """Calls a minute at the tick of that time; none if it saw no use."""
        return self.rpm if self.at == tick else 0

    def used(self, now: Millis, least: Millis, most: Millis) -> bool:
        """Notes a use; whether there was an earlier one between `least` and `most` ago (reference 6.3)."""
        newest, oldest = now - least, now - most
        recurs = any(oldest <= at <= newest for at in (self.earlier, self.latest))
        if self.latest <= newest or self.earlier < oldest:
            self.earlier = self.latest
        self.latest = now
        return recurs


def per_minute(calls: int, window: Millis) -> int:
    """Calls a minute; rounded down.

    Args:
        calls: in the window.
        window: ms, above 0.
    """
    return calls * MINUTE // window


def capacity_of(concurrency: int, calls: int, spent: float, percent: int, otherwise: int) -> int:
    """Calls a minute at which a copy of limited concurrency wants company (reference 6.5); 0 is never.

    Args:
        concurrency: calls that it takes at a time.
        calls, spent: timed calls and their ms.
        percent: of its capacity.
        otherwise: the answer if too few calls were timed.
    """
    if calls < FEW_SAMPLES:
        return otherwise
    return max(1, int(concurrency * calls * MINUTE * percent / (100 * spent))) if spent > 0 else 0


class Verdict(NamedTuple):
    """An answer about a model's copies.

    Attributes:
        copies: so many more, or fewer.
        reason: in words for users.
        case: which kind of answer it is; empty for one that nobody would ask about.
    """

    copies: int
    reason: str
    case: str = ""
