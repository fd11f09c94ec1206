"""How much a pod takes on at a time: calls in progress, and request bytes kept for those that wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from mesh.core.errors import Overloaded


class Gate(Protocol):
    """Counts calls in progress, and lets in so many."""

    @property
    def calls(self) -> int:
        """In progress now."""
        ...

    def set_most(self, most: int, /) -> None:
        """How many there may be."""
        ...

    def enter(self) -> bool:
        """Counts a call; False if there are too many."""
        ...

    def leave(self) -> None:
        """A call that entered is over."""
        ...


class Admission:
    """Two limits; beyond either a call ends at once, naming the setting."""

    def __init__(self, max_calls: int, max_held: int) -> None:
        self._max_calls, self._max_held = max_calls, max_held
        self._gate: Gate = _Gate(max_calls)
        self.held = 0
        self._counted = _Counted(self._gate)

    @property
    def calls(self) -> int:
        """Calls in progress."""
        return self._gate.calls

    def share(self, gate: Gate) -> None:
        """From now on calls count at a gate through which others go, too; to be told before there are any."""
        gate.set_most(self._max_calls)
        self._gate, self._counted = gate, _Counted(gate)

    def call(self) -> AbstractContextManager[None]:
        """A context that counts one call in progress.

        Raises:
            Overloaded: there are too many.
        """
        if not self._gate.enter():
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


class _Gate:
    def __init__(self, most: int) -> None:
        self._most, self.calls = most, 0

    def set_most(self, most: int) -> None:
        self._most = most

    def enter(self) -> bool:
        if self.calls >= self._most:
            return False
        self.calls += 1
        return True

    def leave(self) -> None:
        self.calls -= 1


class _Counted(AbstractContextManager[None]):
    """Counts whoever is inside, and entered before: one for all calls, since it remembers nothing of them."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def __exit__(self, *_: object) -> None:
        self._gate.leave()
