"""What came of one step of a call, and whether another one is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mesh.core.errors import Malformed, MeshError, NoRuntime, Nowhere
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import from_json, to_json
from mesh.core.routing.steps import Forward, Step, WaitFor

NAME = "attempt"
"""What the JSON calls the function."""

GOES_ON, GIVES_UP = "looks further", "gives up"

_TEXT = 300
"""Letters of an error's text that are kept."""

MOST_OVERLOADED = 2
"""Overloaded places after which a call is refused: a third would only add to what there is too much of (reference 2.6)."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A step that ended with an error.

    Attributes:
        step: `forward`, to another pod; `load`, waiting for a copy here; `serve`, from a copy here.
        pod: where it was made.
        error: the class of the error, in a word.
        message: its text.
        elsewhere: whether another pod may do better.
        handed_on: whether the call came from another pod, which looks further itself.
        overloaded: steps of this call that something overloaded ended, this one included.
        copies: pods that have the model, and of each how it stands with this call.
        following: the pod that came next; empty if none did or that was not decided yet.
    """

    step: str
    pod: str
    error: str
    message: str
    elsewhere: bool
    handed_on: bool
    overloaded: int
    copies: tuple[tuple[str, str], ...] = ()
    following: str = ""

    @classmethod
    def of(cls, step: Step, me: str, error: MeshError, *, handed_on: bool, overloaded: int) -> Attempt:
        """From what happened; `me` is this pod."""
        if isinstance(step, Forward):
            # A pod that knows no place for the model may not know of all.
            elsewhere = error.elsewhere or isinstance(error, Nowhere | NoRuntime)
            return cls("forward", step.hop.dest, error.label, error.message[:_TEXT], elsewhere, handed_on, overloaded)
        what = "load" if isinstance(step, WaitFor) else "serve"
        return cls(what, me, error.label, error.message[:_TEXT], error.elsewhere, handed_on, overloaded)

    @classmethod
    def from_json(cls, data: Any) -> Attempt:
        """Reads `inputs()`.

        Raises:
            Malformed: something is missing or of another type.
        """
        found = from_json(cls, data)
        raw: Any = found
        if not all(isinstance(entry, tuple) and len(entry) == 2 for entry in raw.copies):
            raise Malformed("copies of an attempt are pairs of a pod and a text")
        return found

    @property
    def goes_on(self) -> bool:
        """Whether the call looks for another way."""
        return self.elsewhere and self.overloaded < MOST_OVERLOADED and (self.step == "forward" or not self.handed_on)

    def again(self) -> str:
        """`GOES_ON` or `GIVES_UP`."""
        return GOES_ON if self.goes_on else GIVES_UP

    def candidates(self) -> Sequence[Candidate]:
        """The pods that have the model, the one that came next first."""
        listed = [Candidate(pod, pod == self.following, {"copy": word}, "" if pod == self.following else word) for pod, word in self.copies]
        if self.following and self.following not in dict(self.copies):
            listed.append(Candidate(self.following, True, {"copy": "none yet"}))
        return sorted(listed, key=lambda one: not one.chosen)

    def would_change(self) -> Sequence[str]:
        """What would have made the call look further."""
        if self.goes_on:
            return ()
        changed = {
            f"an error that another pod may not have: one of kind {self.error!r} would be the same everywhere": replace(
                self, elsewhere=True
            ),
            "no other pod being overloaded": replace(self, overloaded=1),
            "the call having come in here: the pod that sent it looks further itself": replace(self, handed_on=False),
        }
        return [words for words, attempt in changed.items() if attempt.goes_on]

    def inputs(self) -> dict[str, object]:
        """As JSON."""
        return to_json(NAME, self)
