"""Why a call is refused without a step having failed: what it needs is not there, or it has tried enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mesh.core.errors import Malformed, NotHere, RuntimeDown, Unknown
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import from_json, to_json
from mesh.core.policy import MAX_ITERATIONS, MAX_LOCATIONS

NAME = "dead-end"
"""What the JSON calls the function."""

OPEN = "goes on"


@dataclass(frozen=True, slots=True)
class DeadEnd:
    """What a call stands before.

    Attributes:
        registered: whether the registry has the model.
        sender: the pod that sent the call to the copy here; empty if none did.
        held: whether this pod has a copy that the call may use.
        up: whether the model server here answers.
        tried: steps of this call so far.
        reachable: pods with a copy that can be called.
        latest: the class of the error that is answered after too many of either.
        copies: pods that have the model, and of each how it stands with this call.
    """

    registered: bool
    sender: str
    held: bool
    up: bool
    tried: int
    reachable: int
    latest: str
    copies: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_json(cls, data: Any) -> DeadEnd:
        """Reads `inputs()`.

        Raises:
            Malformed: something is missing or of another type.
        """
        found = from_json(cls, data)
        raw: Any = found
        if not all(isinstance(entry, tuple) and len(entry) == 2 for entry in raw.copies):
            raise Malformed("copies at a dead end are pairs of a pod and a text")
        return found

    def again(self) -> str:
        """The class of the error, in a word; `OPEN` if there is a way."""
        if not self.registered:
            return Unknown.label
        if self.sender and not self.held:
            return NotHere.label
        if self.sender and not self.up:
            return RuntimeDown.label
        return self.latest if self.tried >= MAX_ITERATIONS or self.reachable >= MAX_LOCATIONS else OPEN

    def candidates(self) -> Sequence[Candidate]:
        """The pods that have the model, none of which was chosen."""
        return [Candidate(pod, False, {"copy": word}, word) for pod, word in self.copies]

    def would_change(self) -> Sequence[str]:
        """What would have opened a way."""
        outcome = self.again()
        changed = {
            "the model being registered: apply a document for it, or call registerModel": replace(self, registered=True),
            f"a copy here: {self.sender} sent the call by a record that is older than this": replace(self, held=True),
            "the model server here being up": replace(self, up=True),
            f"an answer within {MAX_ITERATIONS} steps": replace(self, tried=0),
            f"fewer than {MAX_LOCATIONS} copies, none of which serves this call": replace(self, reachable=0),
        }
        return [words for words, other in changed.items() if other.again() != outcome]

    def inputs(self) -> dict[str, object]:
        """As JSON."""
        return to_json(NAME, self)
