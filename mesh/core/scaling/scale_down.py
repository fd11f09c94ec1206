"""Whether a pod gives back its copy of a model that has others (reference 6.8 as intended).

Copies beyond the second came for load and go when it is gone, whether or not there is room: what stands idle is not free where pods are
given up for lack of work. The second one stays while its model is used now and then, and longer where there is room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.core.errors import MeshError, NotHere
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import to_json
from mesh.core.ids import ModelId, PodId
from mesh.core.policy import HOUR
from mesh.core.registry.edits import Transaction
from mesh.core.scaling.rates import HEAVY, ScalingRules, Verdict
from mesh.core.scaling.second_copy import answers
from mesh.core.units import Millis

NAME = "scale-down"
"""What the JSON calls the function."""

TIGHT = 5
"""Percent of the capacity that is free at most where room is short (reference 6.8)."""

LONGEST_UNUSED = Millis(10 * HOUR)
"""A second copy unused for so long goes in any case, unless it was in heavy use lately (reference 0.2, SECOND_COPY_REMOVE_MAX_AGE_MS)."""


@dataclass(frozen=True, slots=True)
class ScaleDown:
    """What it is decided by. Times and spans in ms.

    Attributes:
        now: the time.
        last_used: of the copy here.
        heavy_at: when it was last in heavy use; 0 is never.
        rpm: calls a minute of it at the latest tick.
        threshold: calls a minute at which a copy wants company; 0 is never.
        waiting: calls that wait for their turn on it.
        others: copies that serve on other pods that live and stay.
        copies: all of the model on pods that live, this one and those on their way included.
        newest: when the latest copy was asked for.
        last_unload: when one of several copies went last; 0 is never.
        least, most: what users want.
        last_place: this pod comes last among those that hold the model, in the order in which they would be chosen to load one.
        free_percent, cache_age: of the pods that may hold its type, as of `SecondCopy`.
        calm, longest_calm, young, between, second_most: as of `ScalingRules`.
    """

    model: ModelId
    now: Millis
    last_used: Millis
    heavy_at: Millis
    rpm: int
    threshold: int
    waiting: int
    others: int
    copies: int
    newest: Millis
    last_unload: Millis
    least: int
    most: int
    last_place: bool
    free_percent: int
    cache_age: Millis
    calm: Millis
    longest_calm: Millis
    young: Millis
    between: Millis
    second_most: Millis

    @property
    def keep(self) -> int:
        """Other copies that have to remain."""
        beyond_maximum = self.most if self.most and self.copies > self.most else 0
        return max(1, self.least, beyond_maximum, 2 if self.copies > 2 and not beyond_maximum else 0)

    def verdict(self) -> Verdict:
        """One copy to give back, or none."""
        if self.others < max(1, self.least):
            return Verdict(0, self._too_few(), "" if self.others < 1 else "minimum")
        if self.most and self.copies > self.most and self.others >= self.most:
            return Verdict(1, f"{self.copies} copies are more than the maximum of {self.most}", "surplus")
        if self.waiting > 1:
            return Verdict(0, f"{self.waiting} calls wait for their turn on it", "needed")
        return self._of_many() if self.others > 1 else self._of_two()

    def _too_few(self) -> str:
        if self.others < 1:
            return "it is the only one that serves"
        return f"with {self.others} others the model would be below its minimum of {self.least}"

    def _of_many(self) -> Verdict:
        """Of three or more: the load is gone, it was for a while, and nothing changed lately."""
        more = f"{self.rpm} calls a minute here"
        shared = self.rpm * (self.others + 1)
        if self.threshold and (self.rpm * 3 > self.threshold * 2 or shared * 100 > self.threshold * HEAVY * self.others):
            return Verdict(0, f"{more}: the other {self.others} would be near the threshold of {self.threshold} without it", "needed")
        if self.now - self.last_unload < self.between:
            return Verdict(0, f"another copy went {(self.now - self.last_unload) // 1000} s ago", "went")
        if self.now - self.newest < self.young:
            return Verdict(0, f"a copy came {(self.now - self.newest) // 1000} s ago; none goes before {self.young // 1000} s", "young")
        calm = min(max(self.cache_age * 3 // 100, self.calm), self.longest_calm)
        if self.heavy_at and self.now - self.heavy_at < calm:
            return Verdict(0, f"it was in heavy use {(self.now - self.heavy_at) // 1000} s ago; it goes after {calm // 1000} s", "heavy")
        return Verdict(1, f"{more}: the other {self.others} suffice", "fewer")

    def _of_two(self) -> Verdict:
        """Of two: it is unused for long, beside how long other models are."""
        unused, enough = self.now - self.last_used, self._unused()
        if unused <= enough:
            return Verdict(0, f"it was used {unused // 1000} s ago; a second copy goes after {enough // 1000} s", "used")
        if not self.last_place:
            return Verdict(0, "the other one's pod is to give its copy back", "other")
        return Verdict(1, f"it was used {unused // 1000} s ago; the other one suffices", "fewer")

    def _unused(self) -> int:
        share = self.cache_age // 10
        if not self.heavy_at or self.now - self.heavy_at > self.cache_age // 5:
            share = min(share, LONGEST_UNUSED)
        return share if self.free_percent <= TIGHT else max(share, self.second_most)

    def again(self) -> str:
        """Copies to give back, as text."""
        return str(self.verdict().copies)

    def candidates(self) -> Sequence[Candidate]:
        """To keep it, or not."""
        return answers(self.verdict(), 1)

    def would_change(self) -> Sequence[str]:
        """What would have made the answer another one."""
        said = {
            "": "another copy that serves",
            "minimum": "a smaller minimum of copies",
            "surplus": "a greater maximum of copies",
            "needed": "fewer calls",
            "went": "a later look",
            "young": "a later look, with no copy added until then",
            "heavy": "a later look, with fewer calls until then",
            "used": "no call for longer",
            "other": "more models, or less room, on this pod than on the other",
            "fewer": "more calls, or a greater minimum of copies",
        }
        return [said[self.verdict().case]]

    def inputs(self) -> dict[str, object]:
        """As JSON; times in epoch milliseconds."""
        return to_json(NAME, self)


def ages(rules: ScalingRules) -> tuple[Millis, Millis, Millis, Millis, Millis]:
    """The last five fields of `ScaleDown`."""
    return rules.calm, rules.longest_calm, rules.young, rules.between, rules.second_most


@dataclass(frozen=True, slots=True)
class GiveBackCopy:
    """A pod gives back its copy: one only of those that decide so at the same time.

    Attributes:
        wanted: of the copy.
        seen: pods in the record when this was decided.
        living: pods that lived then and were to stay, the deciding one left out.
        keep: of these, so many have to serve.
    """

    model: ModelId
    pod: PodId
    wanted: Millis
    last_used: Millis
    now: Millis
    seen: frozenset[PodId]
    living: frozenset[PodId]
    keep: int

    def apply(self, records: Transaction) -> MeshError | None:
        """Refuses if copies came or went meanwhile, or too few serve."""
        record = records.model(self.model)
        if record is None or record.copies.get(self.pod) != self.wanted:
            return NotHere(f"the record of model {self.model} does not show this copy of pod {self.pod}")
        if record.copies.keys() != self.seen:
            return NotHere(f"copies of model {self.model} came or went meanwhile")
        left = {pod: at for pod, at in record.copies.items() if pod != self.pod}
        if sum(pod in record.ready and pod in self.living for pod in left) < self.keep:
            return NotHere(f"too few other copies of model {self.model} serve")
        records.put_model(
            self.model,
            record.with_(
                copies=left,
                ready={pod: at for pod, at in record.ready.items() if pod != self.pod},
                last_used=max(record.last_used, self.last_used),
                last_unload=self.now if len(left) > 2 else Millis(0),
            ),
        )
        return None
