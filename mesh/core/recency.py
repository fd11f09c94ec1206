"""Which copy was used longest ago, settled only when somebody asks."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from mesh.core.copies import SERVING, Copy
from mesh.core.units import Millis


class Recency:
    """Serving copies by last use.

    A use costs one assignment to `copy.last_used`; an entry that turns out to be outdated is filed again when the oldest is
    asked for. Copies of equal age keep the order in which they became ready.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[Millis, int, Copy]] = []
        self._count = 0
        self._alive = 0

    def __len__(self) -> int:
        """Entries, those of copies that serve no more included."""
        return len(self._heap)

    def add(self, copy: Copy) -> None:
        """Files a copy that serves from now on."""
        self._count += 1
        self._alive += 1
        copy.order = self._count
        heapq.heappush(self._heap, (copy.last_used, copy.order, copy))

    def drop(self) -> None:
        """Notes that one filed copy serves no more; its entry goes when it surfaces, or when such entries prevail."""
        self._alive -= 1
        if len(self._heap) > 2 * self._alive + 64:
            self._heap = [entry for entry in self._heap if entry[2].state in SERVING]
            heapq.heapify(self._heap)

    def oldest(self) -> Copy | None:
        """The serving copy used longest ago."""
        self._settle()
        return self._heap[0][2] if self._heap else None

    def victim(self, spared: Copy | None = None) -> Copy | None:
        """The copy to evict: the oldest idle one; if none is idle, the one whose last call began longest ago."""
        aside: list[tuple[Millis, int, Copy]] = []
        busy: Copy | None = None
        found: Copy | None = None
        while found is None:
            self._settle()
            if not self._heap:
                break
            copy = self._heap[0][2]
            if copy is not spared and copy.calls == 0:
                found = copy
            else:
                busy = busy or (copy if copy is not spared else None)
                aside.append(heapq.heappop(self._heap))
        self._restore(aside)
        return found or busy

    def _settle(self) -> None:
        """Makes the top of the heap a serving copy filed under its real last use."""
        heap = self._heap
        while heap:
            filed, order, copy = heap[0]
            if copy.state not in SERVING:
                heapq.heappop(heap)
            elif copy.last_used > filed:
                heapq.heapreplace(heap, (copy.last_used, order, copy))
            else:
                return

    def _restore(self, entries: Iterable[tuple[Millis, int, Copy]]) -> None:
        for entry in entries:
            heapq.heappush(self._heap, entry)
