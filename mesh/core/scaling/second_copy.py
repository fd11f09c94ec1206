"""Whether a model gets a second copy because it is used again and again, however seldom (reference 6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import to_json
from mesh.core.ids import ModelId
from mesh.core.scaling.rates import Verdict
from mesh.core.units import Millis

NAME = "second copy"
"""What the JSON calls the function."""

ROOMY = 10
"""Percent of the capacity that has to be free for a copy that nobody waits for (reference 6.3)."""


@dataclass(frozen=True, slots=True)
class SecondCopy:
    """What it is decided by, at a tick that saw the model in use.

    Attributes:
        recurs: it was in use before, neither just now nor long ago (`Usage.used`).
        copies: of the model on pods that live, those on their way included.
        places: pods that could take one more.
        free_percent: of the capacity of the pods that may hold its type.
        cache_age: ms since the use of the least recently used model on them.
        old_enough: `ScalingRules.old_enough`.
        most: copies that users allow; 0 is any number.
    """

    model: ModelId
    recurs: bool
    copies: int
    places: int
    free_percent: int
    cache_age: Millis
    old_enough: Millis
    most: int

    def verdict(self) -> Verdict:
        """One copy, or none."""
        if not self.recurs or self.copies != 1:
            return Verdict(0, "it has a second copy" if self.copies > 1 else "it is not used again and again")
        if self.most == 1:
            return Verdict(0, "it is used again and again, and at its maximum of 1 copy", "maximum")
        if not self.places:
            return Verdict(0, "it is used again and again, but no other pod could take a copy", "nowhere")
        if self.free_percent < ROOMY and self.cache_age <= self.old_enough:
            reason = f"it is used again and again, but only {self.free_percent} % of the pods' memory is free"
            return Verdict(0, f"{reason}, and what would go was used {self.cache_age // 1000} s ago", "no room")
        return Verdict(1, "it is used again and again: a second copy", "second")

    def again(self) -> str:
        """Copies to add, as text."""
        return str(self.verdict().copies)

    def candidates(self) -> Sequence[Candidate]:
        """A copy more, and none."""
        return answers(self.verdict(), 1)

    def would_change(self) -> Sequence[str]:
        """What would have made the answer another one."""
        said = {
            "maximum": "a greater maximum of copies",
            "nowhere": "another pod that may hold the model",
            "no room": f"{ROOMY} % of the pods' memory free, or nothing used in the last {self.old_enough // 3_600_000} hours",
            "second": "no earlier use in the time that counts",
            "": "a use some minutes after an earlier one, with a single copy",
        }
        return [said[self.verdict().case]]

    def inputs(self) -> dict[str, object]:
        """As JSON; spans in ms."""
        return to_json(NAME, self)


def answers(verdict: Verdict, possible: int) -> list[Candidate]:
    """The numbers that could have been answered, the chosen one first.

    Args:
        verdict: what was.
        possible: the greatest number; at most a few are listed.
    """
    chosen = Candidate(str(verdict.copies), True, {"copies": verdict.copies})
    others = [number for number in (0, 1, possible) if number != verdict.copies and number <= possible]
    return [chosen, *(Candidate(str(number), False, {"copies": number}, verdict.reason) for number in dict.fromkeys(others))]
