"""Which load a call joins that finds one under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mesh.core.errors import Malformed
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import from_json, to_json

NAME = "joining"
"""What the JSON calls the function."""


@dataclass(frozen=True, slots=True)
class Joining:
    """What says which load a call waits for.

    Attributes:
        here: this pod.
        sender: the pod that chose this one for the load; empty if none did.
        coming: pods whose copies are going to serve, each with the time at which it was wanted, epoch milliseconds.
        intended: the pod that an earlier call chose; empty if none did. Asked only if no copy is coming.
    """

    here: str
    sender: str = ""
    coming: tuple[tuple[str, int], ...] = ()
    intended: str = ""

    @classmethod
    def from_json(cls, data: Any) -> Joining:
        """Reads `inputs()`.

        Raises:
            Malformed: something is missing or of another type.
        """
        found = from_json(cls, data)
        raw: Any = found
        if not all(isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[1], int) for entry in raw.coming):
            raise Malformed("copies that are coming are a pod and a time each")
        return found

    def reason(self) -> str:
        """In words for users."""
        if self.sender:
            return f"{self.sender} chose {self.here} to load the model"
        if self.coming:
            return f"waits for the copy that {self.again()} loads already"
        return f"follows an earlier call to {self.intended}, which was chosen to load the model"

    def again(self) -> str:
        """The pod whose load is joined: where the sender meant it to be, else the one that was wanted first."""
        if self.sender:
            return self.here
        return min((wanted, pod) for pod, wanted in self.coming)[1] if self.coming else self.intended

    def candidates(self) -> Sequence[Candidate]:
        """The loads that could have been joined, the chosen one first."""
        chosen = self.again()
        listed = [Candidate(pod, pod == chosen, {"wanted_ms": at}, "" if pod == chosen else self._why()) for pod, at in self.coming]
        if chosen not in dict(self.coming):
            listed.append(Candidate(chosen, True, {"chosen_by": self.sender or "an earlier call"}))
        return sorted(listed, key=lambda one: not one.chosen)

    def would_change(self) -> Sequence[str]:
        """What would have had the call join another load, or choose a pod itself."""
        if self.sender:
            return [f"the call having come in on {self.here}: {self.sender} decides for the calls that come in there"]
        if self.coming:
            return ["a copy that serves already, or one that was wanted earlier"]
        return [f"{self.intended} failing to load it, or showing its copy in the registry"]

    def inputs(self) -> dict[str, object]:
        """As JSON."""
        return to_json(NAME, self)

    def _why(self) -> str:
        return "the pod that sent the call chose another" if self.sender else "it was wanted later"
