"""The places on a copy that takes so many calls at a time, and the line of those that wait for one."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Places(Protocol):
    """Where calls on one copy count that have a turn or wait for it; the express lane's `Copy` is such."""

    def ask(self) -> int:
        """What a call gets: 0 is a place, above it is its ticket in the line, below 0 there are too many."""
        ...

    def give_back(self) -> None:
        """A call with a place is over."""
        ...

    def give_up(self, ticket: int, /) -> None:
        """A call leaves the line, or does not take the place that it was granted."""
        ...

    def granted(self) -> list[int]:
        """Tickets whose turn has come since this was asked last."""
        ...

    def set_limit(self, limit: int, queue: int, /) -> None:
        """So many calls at a time, and so many that wait, from now on."""
        ...


class Own:
    """Those of a copy that this plane alone brings calls to."""

    def __init__(self, limit: int, queue: int) -> None:
        self._limit, self._queue = limit, queue
        self._running, self._last = 0, 0
        self._waiting: OrderedDict[int, None] = OrderedDict()
        self._granted: list[int] = []

    def ask(self) -> int:
        """As of `Places`."""
        if not self._waiting and self._running < self._limit:
            self._running += 1
            return 0
        if len(self._waiting) >= self._queue:
            return -1
        self._last += 1
        self._waiting[self._last] = None
        return self._last

    def give_back(self) -> None:
        """As of `Places`."""
        self._running -= 1
        self._advance()

    def give_up(self, ticket: int, /) -> None:
        """As of `Places`."""
        if ticket in self._waiting:
            del self._waiting[ticket]
        else:
            self._granted.remove(ticket)
            self.give_back()

    def granted(self) -> list[int]:
        """As of `Places`."""
        granted, self._granted = self._granted, []
        return granted

    def set_limit(self, limit: int, queue: int, /) -> None:
        """As of `Places`."""
        self._limit, self._queue = limit, queue
        self._advance()

    def _advance(self) -> None:
        while self._waiting and self._running < self._limit:
            ticket, _ = self._waiting.popitem(last=False)
            self._running += 1
            self._granted.append(ticket)
