"""What one wish for a model writes into the book of decisions, under the id of its request."""

from __future__ import annotations

from mesh.core.errors import MeshError
from mesh.core.explaining.decisions import Decision, Evidence, Kind
from mesh.core.ids import ModelId
from mesh.core.placement.choice import Choice
from mesh.core.placement.evidence import PlacementEvidence
from mesh.core.placement.inputs import PlacementInputs
from mesh.core.routing.attempts import Attempt
from mesh.core.routing.joining import Joining
from mesh.core.routing.steps import Asker, Forward, Purpose, Refuse, Serve, Step, View
from mesh.core.units import Millis

LONGEST_REASON = 600
"""Letters of a reason that are kept: what a model server says of a failure may be a page."""

LONGEST_ID = 128
"""Letters of a request's id that count."""


class Diary:
    """Begun when something is decided for a wish that was no plain hit.

    Attributes:
        request: the id; empty for a wish that no request made, and for one that another pod passed on without an id.
    """

    def __init__(self, model: ModelId, view: View, purpose: Purpose, asker: Asker | None) -> None:
        self._model, self._view, self._purpose = model, view, purpose
        self.request = _plain(asker.request_id()) if asker is not None else purpose.hop.request if purpose.hop else ""
        if not self.request and asker is not None and purpose.hop is None:
            self.request = view.new_id()
        self._placed = False

    def placed(self, inputs: PlacementInputs, choice: Choice, now: Millis) -> None:
        """A pod was chosen to load the model, or none was found."""
        self._placed = True
        count, alike = len(inputs.places), len(choice.shortlist)
        why = "a call waits for it" if self._purpose.urgent else "no call waits for it"
        if choice.pod is None:
            reason = f"no pod can take it: none of {count} is left to choose from ({why})"
        elif alike == 1:
            reason = f"{choice.pod} is the best of {count} places ({why})" if count > 1 else f"{choice.pod} is the only place ({why})"
        else:
            reason = f"{choice.pod} is one of {alike} equally good among {count} places, and it was its turn ({why})"
        self._note(Kind.PLACEMENT, now, choice.pod or "", reason, PlacementEvidence(inputs))

    def goes(self, joins: Joining, now: Millis) -> None:
        """The call joins a load that was decided on before; said unless this very call had it begun."""
        if not self._placed:
            self._note(Kind.ROUTING, now, joins.again(), joins.reason(), joins)

    def retried(self, attempt: Attempt, step: Step, now: Millis) -> None:
        """A step failed, and this one is made instead."""
        self._note(Kind.RETRY, now, attempt.again(), f"{_failed(attempt)}; next: {_words(step, self._view.pods.me)}", attempt)

    def gave_up(self, attempt: Attempt, now: Millis) -> None:
        """A step failed, and its error is the answer."""
        self._note(Kind.REFUSAL, now, attempt.again(), _failed(attempt), attempt)

    def refused(self, error: MeshError, now: Millis, grounds: Evidence | None) -> None:
        """There is no way; the error is the answer."""
        self._note(Kind.REFUSAL, now, error.label if grounds is None else grounds.again(), error.message, grounds)

    def _note(self, kind: Kind, now: Millis, outcome: str, reason: str, evidence: Evidence | None = None) -> None:
        self._view.pod.cache.decisions.note(Decision(kind, self._model, now, outcome, reason[:LONGEST_REASON], self.request, evidence))


def _plain(text: str) -> str:
    """An id as it can be printed and typed: of what a client sends anything else is dropped."""
    return "".join(letter for letter in text[:LONGEST_ID] if " " < letter <= "~")


def _failed(attempt: Attempt) -> str:
    what = {"forward": f"pod {attempt.pod} did not serve it", "load": f"the load on {attempt.pod} did not serve it"}
    return f"{what.get(attempt.step, f'the copy on {attempt.pod} did not serve it')}: {attempt.message}"


def _words(step: Step, me: str) -> str:
    match step:
        case Forward(hop, None):
            return f"{hop.dest} is to load it"
        case Forward(hop, _):
            return f"the copy on {hop.dest}"
        case Serve():
            return f"the copy here, on {me}"
        case Refuse(error):
            return f"nothing is left to try ({error.label})"
        case _:
            return f"a load here, on {me}"
