"""How much a pod takes on at a time: calls in progress, and request bytes kept for those that wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mesh.core.errors import Overloaded


class Admission:
    """Two limits; beyond either a call ends at once, naming the setting."""

    def __init__(self, max_calls: int, max_held: int) -> None:
        self._max_calls, self._max_held = max_calls, max_held
        self.calls = 0
        self.held = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Counts one call in progress.

        Raises:
            Overloaded: there are too many.
        """
        if self.calls >= self._max_calls:
            raise Overloaded(f"this pod has {self.calls} calls in progress, the most that MESH_MAX_CALLS allows; try again, or raise it")
        self.calls += 1
        try:
            yield
        finally:
            self.calls -= 1

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
