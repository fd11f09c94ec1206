"""How much a pod takes on at a time: calls in progress, and request bytes kept for those that wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from mesh.core.errors import Overloaded


class Admission:
    """Two limits; beyond either a call ends at once, naming the setting."""

    def __init__(self, max_calls: int, max_held: int) -> None:
        self._max_calls, self._max_held = max_calls, max_held
        self.calls = 0
        self.held = 0
        self._counted = _Counted(self)

    def call(self) -> AbstractContextManager[None]:
        """A context that counts one call in progress.

        Raises:
            Overloaded: there are too many.
        """
        if self.calls >= self._max_calls:
            raise Overloaded(f"this pod has {self.calls} calls in progress, the most that MESH_MAX_CALLS allows; try again, or raise it")
        return self._counted

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Counts request bytes kept while a call waits.

        Raises:
            Overloaded: there are too many.
        """
        if self.held + size > self._max_held:
            raise Overloaded(
                f"calls that wait for their models hold {self.held} bytes; {size} more exceed MESH_MAX_HELD_BYTES={self._max_held};"
                " try again, or raise it"
            )
        self.held += size
        try:
            yield
        finally:
            self.held -= size


class _Counted(AbstractContextManager[None]):
    """Counts whoever is inside: one for all calls, since it remembers nothing of them."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def __enter__(self) -> None:
        self._admission.calls += 1

    def __exit__(self, *_: object) -> None:
        self._admission.calls -= 1
