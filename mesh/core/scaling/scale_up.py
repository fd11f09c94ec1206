"""How many copies more a model in heavy use gets, all at once (reference 6.4, 6.5 as intended).

A pod sees the calls of its own copy alone. Calls spread evenly over the copies that serve, so what all copies get together follows from
when each of them began to serve: a copy that came within the window counts for its part of it. Copies that still load count as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import to_json
from mesh.core.ids import ModelId, PodId
from mesh.core.scaling.rates import Verdict
from mesh.core.scaling.second_copy import answers
from mesh.core.units import Millis

NAME = "scale-up"
"""What the JSON calls the function."""

SHARE = 3
"""At most this part (a third) of the pods gets a copy in one decision, but two in any case (reference 6.4)."""


@dataclass(frozen=True, slots=True)
class ScaleUp:
    """What it is decided by.

    Attributes:
        now: the time of the tick.
        window: ms that the rate was measured over.
        rpm: calls a minute of the copy here, those that wait for their turn included.
        threshold: calls a minute at which a copy wants company; 0 is never.
        waiting: calls that wait for their turn here now; always 0 where the runtime takes any number at a time.
        concurrency: calls that a copy takes at a time; 0 is any number.
        began: when the copy here began to serve.
        ready: when each other copy did.
        coming: copies that still load.
        places: pods that could take one more; the overloaded ones are not among them.
        overloaded: pods left out because they are busier than this one would be; the first few of them.
        subset: pods that may hold the model's type.
        most: copies that users allow; 0 is any number.
        declined: pods left out because they were asked lately and took none on; the first few of them.
    """

    model: ModelId
    now: Millis
    window: Millis
    rpm: int
    threshold: int
    waiting: int
    concurrency: int
    began: Millis
    ready: tuple[Millis, ...]
    coming: int
    places: int
    overloaded: tuple[PodId, ...]
    subset: int
    most: int
    declined: tuple[PodId, ...] = ()

    @property
    def copies(self) -> int:
        """All there are."""
        return 1 + len(self.ready) + self.coming

    @property
    def total(self) -> int:
        """Calls a minute of all copies together, as far as this pod can tell."""
        return round(self.rpm / self._own_part())

    @property
    def wanted(self) -> int:
        """Copies after which none is at the threshold; at most twice as many as serve if it is for calls that wait."""
        if not self.threshold:
            return 1
        serving = 1 + len(self.ready)
        for_waiting = -(-self.waiting * serving // self.concurrency) if self.concurrency else 0
        return max(self.total // self.threshold + 1, serving + min(serving, for_waiting))

    def verdict(self) -> Verdict:
        """Copies to add now."""
        if not self.threshold or self.rpm < self.threshold:
            return Verdict(0, f"{self.rpm} calls a minute are below the threshold of {self.threshold}")
        busy = f"{self.rpm} calls a minute here, about {self.total} in all, threshold {self.threshold} a copy"
        missing = min(self.wanted - self.copies, self.rpm // self.threshold)
        if missing <= 0:
            return Verdict(0, f"{busy}: its {self.copies} copies suffice, {self.coming} of them still load", "enough")
        if self.most:
            missing = min(missing, self.most - self.copies)
            if missing <= 0:
                return Verdict(0, f"{busy}, but it is at its maximum of {self.most} copies", "maximum")
        if not self.places:
            left_out = f"; overloaded: {', '.join(self.overloaded)}" if self.overloaded else ""
            left_out += f"; asked, and took none on: {', '.join(self.declined)}" if self.declined else ""
            return Verdict(0, f"{busy}, but no other pod could take a copy{left_out}", "nowhere")
        missing = min(missing, self.places, max(2, self.subset // SHARE))
        return Verdict(missing, f"{busy}: {missing} more beside {self.copies}", "more")

    def again(self) -> str:
        """Copies to add, as text."""
        return str(self.verdict().copies)

    def candidates(self) -> Sequence[Candidate]:
        """The numbers that could have been answered."""
        return answers(self.verdict(), self.places)

    def would_change(self) -> Sequence[str]:
        """What would have made the answer another one."""
        said = {
            "": f"{self.threshold} calls a minute on the copy here",
            "enough": f"more than {self.threshold * self.copies} calls a minute in all",
            "maximum": "a greater maximum of copies",
            "nowhere": "another pod that may hold the model, a less busy one, or one with room for a load that nobody waits for",
            "more": f"fewer than {self.threshold} calls a minute on the copy here",
        }
        return [said[self.verdict().case]]

    def inputs(self) -> dict[str, object]:
        """As JSON; times in epoch milliseconds."""
        return to_json(NAME, self)

    def _own_part(self) -> float:
        """Which part of all calls of the window came to the copy here, had they spread evenly over what served.

        A moment's calls say little of a window's: at least half of what it would have been.
        """
        part, serving, since = 0.0, 1, min(self.now, max(self.now - self.window, self.began))
        for at in sorted(self.ready):
            moment = min(max(at, since), self.now)
            part += (moment - since) / serving
            serving, since = serving + 1, moment
        part += (self.now - since) / serving
        return max(part / self.window, 1 / (2 * serving))
