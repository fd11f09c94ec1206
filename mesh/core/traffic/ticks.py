"""What two versions of a service did: counts per tick, as they come together from all pods and both planes."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from math import sqrt
from typing import Any

from mesh.core.errors import Malformed
from mesh.core.units import Millis

RATIO = sqrt(1.3)
"""Of one bound of `BOUNDS` to that before: two buckets are 30 %, one is 14 %, so that "slower by" is a shift by buckets."""

BOUNDS = tuple(0.05 * RATIO**power for power in range(120))
"""Upper bounds of the buckets of latencies in milliseconds, 0.05 ms to 5 min; the infinite one is understood."""

BUCKETS = len(BOUNDS) + 1

REMEMBERED = 4_096
"""Calls that a memory holds; beyond them each number is halved, so what was long ago fades."""


def bucket_of(milliseconds: float) -> int:
    """The place of a latency among the buckets."""
    return bisect_left(BOUNDS, milliseconds)


@dataclass(frozen=True, slots=True)
class Counts:
    """What one version did in one tick.

    Attributes:
        ok: calls that ended well.
        failed: calls that failed by the version's own fault, and those that it had not answered by their deadline: a version that hangs
            is not to look well. Callers' mistakes and cancellations are in neither.
        times: of those that ended well, by bucket; `BUCKETS` numbers, or none. They may be fewer than `ok`: a stream has no latency.
    """

    ok: int = 0
    failed: int = 0
    times: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Checks it.

        Raises:
            Malformed: numbers below 0, a histogram of another shape, or of more calls than ended well.
        """
        if min(self.ok, self.failed, *self.times, 0) < 0:
            raise Malformed(f"counts of a tick are below 0: {self.ok} ended well, {self.failed} failed, times {self.times}")
        if len(self.times) not in (0, BUCKETS) or sum(self.times) > self.ok:
            raise Malformed(
                f"times of a tick are {len(self.times)} buckets of {BUCKETS}, {sum(self.times)} calls of {self.ok} that ended well"
            )

    def __add__(self, other: Counts) -> Counts:
        """Both together, of two pods or planes."""
        times = tuple(map(sum, zip(self.times, other.times, strict=True))) if self.times and other.times else self.times or other.times
        return Counts(self.ok + other.ok, self.failed + other.failed, times)

    @property
    def calls(self) -> int:
        """All of them."""
        return self.ok + self.failed

    def slower(self, bound: int) -> int:
        """Calls that took longer than that bound."""
        return sum(self.times[bound + 1 :])

    def to_json(self) -> list[Any]:
        """`[ok, failed, first, [times]]`, without the empty buckets at both ends."""
        filled = [place for place, each in enumerate(self.times) if each]
        first, last = (filled[0], filled[-1]) if filled else (0, -1)
        return [self.ok, self.failed, first, list(self.times[first : last + 1])]

    @classmethod
    def from_json(cls, data: Any) -> Counts:
        """Reads `to_json()`.

        Raises:
            Malformed: it is something else.
        """
        read = Memory.from_json(data)
        return cls(read.ok, read.failed, read.all_times() if read.times else ())


NOTHING = Counts()


@dataclass(frozen=True, slots=True)
class Tick:
    """What both versions did since the tick before.

    Attributes:
        at: its end; later than that of the tick before.
        unloadable: why the canary cannot be loaded; empty if it can.
        crashed: how the canary ended its runtime; empty if it did not.
    """

    at: Millis
    stable: Counts = NOTHING
    canary: Counts = NOTHING
    unloadable: str = ""
    crashed: str = ""

    def to_json(self) -> dict[str, Any]:
        """By the names of the fields."""
        counts = {"stable": self.stable.to_json(), "canary": self.canary.to_json()}
        return {"at": self.at, **counts, "unloadable": self.unloadable, "crashed": self.crashed}

    @classmethod
    def from_json(cls, data: Any) -> Tick:
        """Reads `to_json()`.

        Raises:
            Malformed: something is missing or of another type.
        """
        try:
            stable, canary = Counts.from_json(data["stable"]), Counts.from_json(data["canary"])
            return cls(Millis(int(data["at"])), stable, canary, str(data["unloadable"]), str(data["crashed"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed(f"this is not what a tick told, {error!r} is wrong or missing: {data!r}") from None


@dataclass(frozen=True, slots=True)
class Memory:
    """What one version did lately, the recent past counting most: what is usual, before a tick is seen.

    Attributes:
        ok, failed: calls, faded.
        first: bucket of the first of `times`.
        times: by bucket, faded; without the empty ones at both ends.
    """

    ok: int = 0
    failed: int = 0
    first: int = 0
    times: tuple[int, ...] = ()

    def with_(self, counts: Counts) -> Memory:
        """After a tick."""
        times = list(self.all_times())
        if counts.times:
            times = [each + more for each, more in zip(times, counts.times, strict=True)]
        ok, failed = self.ok + counts.ok, self.failed + counts.failed
        while ok + failed > REMEMBERED:
            ok, failed, times = ok // 2, failed // 2, [each // 2 for each in times]
        filled = [place for place, each in enumerate(times) if each]
        if not filled:
            return Memory(ok, failed)
        return Memory(ok, failed, filled[0], tuple(times[filled[0] : filled[-1] + 1]))

    def all_times(self) -> tuple[int, ...]:
        """By bucket, all `BUCKETS` of them."""
        return (0,) * self.first + self.times + (0,) * (BUCKETS - self.first - len(self.times))

    @property
    def timed(self) -> int:
        """Calls in `times`."""
        return sum(self.times)

    def slower(self, bound: int) -> int:
        """Calls that took longer than that bound."""
        return sum(self.times[max(0, bound + 1 - self.first) :])

    def quantile(self, share: float) -> float | None:
        """Milliseconds that so large a share of calls took at most, between bounds by proportion; None without any."""
        wanted, before = share * self.timed, 0
        for place, until in enumerate(accumulate(self.times), self.first):
            if until >= wanted and until > before:
                low = BOUNDS[place - 1] if place else 0.0
                high = BOUNDS[min(place, len(BOUNDS) - 1)]
                return low + (high - low) * (wanted - before) / (until - before)
            before = until
        return None

    def bound(self, beyond: float, *, above: bool) -> int | None:
        """Of the bounds the smallest one that at most such a share of calls exceeds, or (`above`) the largest that at least so many do.

        None if there is none: all calls are in the last bucket, or in the first.
        """
        slower = timed = self.timed
        found = self.first - 1 if above and self.first else None
        for place, each in enumerate(self.times[: len(BOUNDS) - self.first], self.first):
            slower -= each
            if above and slower >= beyond * timed:
                found = place
            elif not above and slower <= beyond * timed:
                return place
        return found

    def to_json(self) -> list[Any]:
        """`[ok, failed, first, [times]]`."""
        return [self.ok, self.failed, self.first, list(self.times)]

    @classmethod
    def from_json(cls, data: Any) -> Memory:
        """Reads `to_json()`.

        Raises:
            Malformed: it is something else.
        """
        try:
            ok, failed, first, times = data
            read = cls(int(ok), int(failed), int(first), tuple(int(each) for each in times))
        except (TypeError, ValueError) as error:
            raise Malformed(f"{data!r} is not what a version did: {error}") from None
        if min(read.ok, read.failed, read.first, *read.times, 0) < 0 or read.first + len(read.times) > BUCKETS:
            raise Malformed(f"{data!r} is not what a version did: numbers below 0, or more than {BUCKETS} buckets")
        return read


EMPTY = Memory()
