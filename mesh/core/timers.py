"""When things are due, without a timer of their own: the conductor keeps one, set to `next_due`."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

from mesh.core.units import Millis

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """One due time a key; setting it again replaces it."""

    def __init__(self) -> None:
        self._due: dict[K, Millis] = {}
        self._heap: list[tuple[Millis, int, K]] = []
        self._count = 0

    def set(self, key: K, due: Millis) -> None:
        """Notes when `key` is due."""
        self._count += 1
        self._due[key] = due
        heapq.heappush(self._heap, (due, self._count, key))

    def drop(self, key: K) -> None:
        """Forgets `key`."""
        self._due.pop(key, None)

    def next_due(self) -> Millis | None:
        """The earliest due time."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: Millis) -> list[K]:
        """Keys that are due, earliest first; they are forgotten."""
        taken = []
        while (due := self.next_due()) is not None and due <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            taken.append(key)
        return taken
