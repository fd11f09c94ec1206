"""An attempt of the express lane takes the place of the call that would be made on the same copy."""

from __future__ import annotations

from mesh.core.ids import CopyId
from mesh.core.routing.hops import Hop
from mesh.wire.attempts import name_of
from mesh.wire.call import Attempt, Call, RuntimeStatus


class Attempted:
    """What was tried before the call came here; it is judged as if it had been tried here, once."""

    def __init__(self, attempt: Attempt) -> None:
        self._left: Attempt | None = attempt

    @classmethod
    def of(cls, call: Call) -> Attempted | None:
        """None for a call of which nothing was tried, as for almost all."""
        return None if call.attempt is None else cls(call.attempt)

    def instead(self, copy: CopyId) -> None:
        """To be asked before a copy is called.

        Raises:
            RuntimeStatus: it was, and answered this.
        """
        left = self._left
        if left is not None and left.copy == name_of(copy):
            self._left = None
            raise left.status

    def by(self, hop: Hop) -> RuntimeStatus | None:
        """To be asked before another pod is called: what it answered; None if it was not asked for this model."""
        left = self._left
        if left is None or left.pod != hop.dest or left.model != hop.model:
            return None
        self._left = None
        return left.status
