"""Which copy was used longest ago, settled only when somebody asks."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from mesh.core.cache.copies import SERVING, Copy
from mesh.core.ids import ModelId
from mesh.core.units import Millis, Units

_Entry = tuple[Millis, int, Copy]


class Recency:
    """Serving copies by last use.

    A use costs one assignment to `copy.last_used`; an entry that turns out to be outdated is filed again when the oldest is
    asked for. Copies of equal age keep the order in which they became ready. A copy that may not be evicted is laid aside when it
    would be the oldest, so that a thousand of them do not stand before every search; `reconsider` files it again.

    Args:
        kept: whether a model's copy may not be evicted now; asked of the oldest only.
    """

    def __init__(self, kept: Callable[[ModelId], bool] = lambda _: False) -> None:
        self._kept = kept
        self._heap: list[_Entry] = []
        self._apart: dict[ModelId, Copy] = {}
        self._count = 0
        self._alive = 0

    def __len__(self) -> int:
        """Entries, those of copies that serve no more included."""
        return len(self._heap) + len(self._apart)

    def add(self, copy: Copy) -> None:
        """Files a copy that serves from now on."""
        self._count += 1
        self._alive += 1
        copy.order = self._count
        heapq.heappush(self._heap, (copy.last_used, copy.order, copy))

    def drop(self, copy: Copy) -> None:
        """Notes that a filed copy serves no more; its entry goes when it surfaces, or when such entries prevail."""
        self._alive -= 1
        if self._apart.get(copy.id.model) is copy:
            del self._apart[copy.id.model]
        if len(self._heap) > 2 * self._alive + 64:
            self._heap = [entry for entry in self._heap if entry[2].state in SERVING]
            heapq.heapify(self._heap)

    def reconsider(self, model: ModelId | None = None) -> None:
        """Looks again whether a model's copy may be evicted now; None: all of them."""
        for each in list(self._apart) if model is None else [model]:
            copy = self._apart.pop(each, None)
            if copy is not None:
                heapq.heappush(self._heap, (copy.last_used, copy.order, copy))

    def oldest(self) -> Copy | None:
        """The copy used longest ago of those that serve and may be evicted."""
        self._settle()
        return self._heap[0][2] if self._heap else None

    def victim(self, spared: Copy | None = None) -> Copy | None:
        """The copy to evict: the oldest idle one; if none is idle, the one whose last call began longest ago."""
        busy: Copy | None = None
        idle: Copy | None = None

        def found(copy: Copy) -> bool:
            nonlocal busy, idle
            if copy is not spared:
                idle = copy if copy.running == 0 else None
                busy = busy or copy
            return idle is not None

        self._walk(found)
        return idle or busy

    def eldest(self, count: int) -> list[Copy]:
        """So many copies that may be evicted, the oldest first."""
        shown: list[Copy] = []

        def enough(copy: Copy) -> bool:
            shown.append(copy)
            return len(shown) >= count

        self._walk(enough)
        return shown

    @property
    def serving(self) -> int:
        """Copies that serve."""
        return self._alive

    @property
    def kept(self) -> int:
        """Copies that were found that may not be evicted; all of them once `victim` answered None."""
        return len(self._apart)

    def kept_weight(self) -> Units:
        """Their weight."""
        return Units(sum(copy.weight for copy in self._apart.values()))

    def _walk(self, stop: Callable[[Copy], bool]) -> None:
        """Shows the copies that may be evicted, the oldest first, until `stop` says so."""
        passed: list[_Entry] = []
        while self._settle() and not stop(self._heap[0][2]):
            passed.append(heapq.heappop(self._heap))
        for entry in passed:
            heapq.heappush(self._heap, entry)

    def _settle(self) -> bool:
        """Makes the top of the heap a serving copy that may be evicted, filed under its real last use; whether there is one."""
        heap = self._heap
        while heap:
            filed, order, copy = heap[0]
            if copy.state not in SERVING:
                heapq.heappop(heap)
            elif copy.used() > filed:
                heapq.heapreplace(heap, (copy.last_used, order, copy))
            elif self._kept(copy.id.model):
                self._apart[copy.id.model] = heapq.heappop(heap)[2]
            else:
                return True
        return False
