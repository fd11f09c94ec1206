"""Which copy makes room for another: recorded so that the choice can be made again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mesh.core.cache.copies import Copy
from mesh.core.errors import Malformed
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import from_json, to_json
from mesh.core.ids import ModelId
from mesh.core.units import Millis, Units, bytes_of

NAME = "eviction"
"""What the JSON calls the function."""

TOLD = 8
"""Copies that are written down of those that might have gone, the oldest of all."""


class Evictable(NamedTuple):
    """A copy that might go.

    Attributes:
        order: number in the order in which copies became ready; of equally old ones the smaller goes first.
        calls: running on it.
    """

    model: ModelId
    last_used: Millis
    order: int
    calls: int
    weight: Units

    @classmethod
    def of(cls, copy: Copy) -> Evictable:
        """A copy as it is now."""
        return cls(copy.id.model, copy.used(), copy.order, copy.running, copy.weight)


def victim_of(copies: Iterable[Evictable]) -> Evictable | None:
    """The oldest idle copy; if none is idle, the one whose last call began longest ago."""
    return min(copies, key=lambda copy: (copy.calls > 0, copy.last_used, copy.order), default=None)


@dataclass(frozen=True, slots=True)
class Eviction:
    """What an eviction was decided by.

    Attributes:
        for_model: what needs the room.
        now: the time.
        copies: the oldest ones that might go, and the one that went.
        held: copies that serve here, all told.
        kept: of these, copies that may not be evicted: pinned, or their models have no more than their minimum.
    """

    for_model: ModelId
    now: Millis
    copies: tuple[Evictable, ...]
    held: int
    kept: int

    @classmethod
    def from_json(cls, data: Any) -> Eviction:
        """Reads `inputs()`.

        Raises:
            Malformed: something is missing or of another type.
        """
        raw = from_json(cls, data)
        try:
            copies = tuple(
                Evictable(ModelId(str(model)), Millis(int(used)), int(order), int(calls), Units(int(weight)))
                for model, used, order, calls, weight in raw.copies
            )
        except (TypeError, ValueError) as error:
            raise Malformed(f"copies of an eviction are not what was recorded: {error}") from None
        return cls(raw.for_model, raw.now, copies, raw.held, raw.kept)

    def again(self) -> str:
        """The model that goes."""
        victim = victim_of(self.copies)
        return victim.model if victim else ""

    def candidates(self) -> Sequence[Candidate]:
        """The copies, the one that goes first."""
        victim = victim_of(self.copies)
        rest = sorted((copy for copy in self.copies if copy is not victim), key=lambda copy: (copy.last_used, copy.order))
        return [self._candidate(copy, victim) for copy in ([victim] if victim else []) + rest]

    def would_change(self) -> Sequence[str]:
        """What would have saved the copy."""
        victim = victim_of(self.copies)
        if victim is None:
            return []
        said = [f"a call of {victim.model} after the last call of another model", f"{victim.model} pinned, or with a minimum of copies"]
        return [*said, f"room for {self.for_model} without it: more capacity, or fewer models here"]

    def inputs(self) -> dict[str, object]:
        """As JSON; times in epoch milliseconds, weights in units of 8 KiB."""
        return to_json(NAME, self)

    def _candidate(self, copy: Evictable, victim: Evictable | None) -> Candidate:
        score: dict[str, object] = {
            "calls": copy.calls,
            "unused_ms": max(0, self.now - copy.last_used),
            "weight_bytes": bytes_of(copy.weight),
        }
        if victim is None or copy is victim:
            return Candidate(copy.model, True, score)
        why = "calls run on it" if copy.calls and not victim.calls else "it was used more recently"
        return Candidate(copy.model, False, score, why)
