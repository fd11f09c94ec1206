"""How a judged rollout stands: all that the next look at it needs, small enough for a record of the registry."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from mesh.core.errors import Malformed
from mesh.core.traffic.betting import Wealth
from mesh.core.traffic.ticks import EMPTY, Memory
from mesh.core.units import Millis

TOLD = 300
"""Characters of the cause that are kept."""


class Ending(Enum):
    """How a rollout ended."""

    NOT_YET = ""
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"


class What(Enum):
    """What is compared; the value is the word for users."""

    FAILURES = "failures"
    MIDDLE = "median latency"
    TAIL = "95th percentile of latency"


GUESSES = 4
"""That each capital is divided among."""


def _fresh() -> tuple[Wealth, ...]:
    return tuple(Wealth.fresh(GUESSES) for _ in What)


@dataclass(frozen=True, slots=True)
class Standing:
    """One rollout between two looks.

    Attributes:
        step: its place among the plan's.
        since: when that began.
        looked: end of the last tick that was taken.
        stable_calls, stable_failed, canary_calls, canary_failed: of this step, that counted.
        stable, canary: what each did lately.
        harm: evidence that the canary is worse than tolerated, of each `What`, over the whole rollout.
        safe: evidence that it is not worse by what is to be found, of each `What`, in this step.
        cause: of the ending, in words.
    """

    since: Millis
    looked: Millis
    step: int = 0
    stable_calls: int = 0
    stable_failed: int = 0
    canary_calls: int = 0
    canary_failed: int = 0
    stable: Memory = EMPTY
    canary: Memory = EMPTY
    harm: tuple[Wealth, ...] = field(default_factory=_fresh)
    safe: tuple[Wealth, ...] = field(default_factory=_fresh)
    ending: Ending = Ending.NOT_YET
    cause: str = ""

    @classmethod
    def begin(cls, now: Millis) -> Standing:
        """That of a rollout that begins now, with the first step of its plan."""
        return cls(now, now)

    def next_step(self, at: Millis) -> Standing:
        """The step after this one begins: what speaks for the canary is earned anew, what speaks against it stays."""
        return Standing(at, self.looked, self.step + 1, stable=self.stable, canary=self.canary, harm=self.harm)

    def to_json(self) -> dict[str, Any]:
        """Less than 2 KB of plain JSON."""
        data = {**asdict(self), "ending": self.ending.value}
        for name in _MEMORIES:
            data[name] = getattr(self, name).to_json()
        for name in _EVIDENCE:
            data[name] = [[wealth.calls, *wealth.parts] for wealth in getattr(self, name)]
        return data

    @classmethod
    def from_json(cls, data: Any) -> Standing:
        """Reads `to_json()`; what else there is is passed over.

        Raises:
            Malformed: something is missing or of another type.
        """
        try:
            values: dict[str, Any] = {name: int(data[name]) for name in _NUMBERS}
            values |= {name: Memory.from_json(data[name]) for name in _MEMORIES}
            values |= {name: _wealth(data[name]) for name in _EVIDENCE}
            return cls(**values, ending=Ending(data["ending"]), cause=str(data["cause"]))
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed(f"this is not how a rollout stands, {error!r} is wrong or missing: {data!r}") from None


_MEMORIES = ("stable", "canary")
_EVIDENCE = ("harm", "safe")
_NUMBERS = ("since", "looked", "step", "stable_calls", "stable_failed", "canary_calls", "canary_failed")


def _wealth(rows: Any) -> tuple[Wealth, ...]:
    found = tuple(Wealth(tuple(float(part) for part in parts), int(calls)) for calls, *parts in rows)
    if [len(each.parts) for each in found] != [GUESSES] * len(What) or not all(part >= 0 for each in found for part in each.parts):
        raise ValueError(f"evidence is {len(What)} rows of {GUESSES} parts, not {rows!r}")
    return found
