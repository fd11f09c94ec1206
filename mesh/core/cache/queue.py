"""The order of loads: what a call waits for, then what others wait for, oldest wish first; then the rest, most recently used first."""

from __future__ import annotations

import heapq
from enum import IntEnum

from mesh.core.cache.copies import Copy

SPARE = 64
"""Void entries that are kept in any case, so that a short queue is not sorted again and again."""


class Rank(IntEnum):
    """How soon a copy is loaded; less is sooner."""

    CALL = 0
    """An inference call waits for it."""
    AWAITED = 1
    """Somebody else does: a user who asked for it, an alias in transition, another pod that hands it over."""
    BACKGROUND = 2
    """Nobody does."""


def rank(copy: Copy) -> Rank:
    """How soon a copy is to be loaded, by who waits for it now."""
    if not copy.waiting:
        return Rank.BACKGROUND
    return Rank.CALL if copy.urgent else Rank.AWAITED


Entry = tuple[Rank, int, int, Copy]


class LoadQueue:
    """Copies that want a loading slot.

    A copy that comes to matter more is filed anew at once (`promote`); one that matters less is when its turn would come.
    """

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._filed: dict[Copy, Entry | None] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._filed)

    @property
    def entries(self) -> int:
        """What is kept for the order, void entries included."""
        return len(self._heap)

    def push(self, copy: Copy, *, held: bool = False) -> None:
        """Takes in a queued copy; one that is `held` gets no turn before its `release`."""
        self._filed[copy] = None
        if not held:
            self._file(copy)

    def release(self, copy: Copy) -> None:
        """Lets a copy have its turn that was held."""
        if copy in self._filed:
            self._file(copy)

    def promote(self, copy: Copy) -> None:
        """Files a copy again that may matter more now than when it was filed."""
        entry = self._filed[copy]
        if entry is not None and rank(copy) < entry[0]:
            self._file(copy)

    def withdraw(self, copy: Copy) -> None:
        """Takes out a copy that is queued no more. Its entries go when they surface, or when such entries prevail."""
        del self._filed[copy]
        if len(self._heap) > 2 * len(self._filed) + SPARE:
            self._heap = [entry for entry in self._heap if self._filed.get(entry[3]) is entry]
            heapq.heapify(self._heap)

    def first(self, *, background: bool = True) -> Copy | None:
        """The copy to load next, which stays queued; with `background` off, only one that somebody waits for."""
        while self._heap:
            entry = self._heap[0]
            filed, _, _, copy = entry
            valid = self._filed.get(copy) is entry
            if valid and filed is rank(copy):
                return copy if background or filed is not Rank.BACKGROUND else None
            heapq.heappop(self._heap)
            if valid:
                # Its callers left: the load goes on, behind those that somebody waits for.
                self._file(copy)
        return None

    def _file(self, copy: Copy) -> None:
        """Makes an entry for a copy; an older one is void from now on."""
        self._count += 1
        now = rank(copy)
        entry = (now, -copy.last_used if now is Rank.BACKGROUND else self._count, self._count, copy)
        self._filed[copy] = entry
        heapq.heappush(self._heap, entry)
