"""The order of loads: what somebody waits for first, oldest wish first; then the rest, most recently used first."""

from __future__ import annotations

import heapq

from mesh.core.copies import Copy, State


class LoadQueue:
    """Copies that want a loading slot."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Copy]] = []
        self._count = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, copy: Copy) -> None:
        """Files a queued copy."""
        self._size += 1
        self._file(copy)

    def promote(self, copy: Copy) -> None:
        """Files a copy again that somebody waits for now; the older entry is void."""
        self._file(copy)

    def withdraw(self) -> None:
        """Notes that one filed copy is queued no more; its entries are passed over."""
        self._size -= 1

    def pop(self) -> Copy | None:
        """The next copy to load; it must leave the state `queued` at once, which withdraws it."""
        while self._heap:
            rank, _, _, copy = heapq.heappop(self._heap)
            if copy.state is not State.QUEUED:
                continue
            if rank == 0 and not copy.waiting:
                # Its callers left: the load goes on, behind those that somebody waits for.
                self._file(copy)
                continue
            return copy
        return None

    def _file(self, copy: Copy) -> None:
        self._count += 1
        if copy.waiting:
            heapq.heappush(self._heap, (0, self._count, self._count, copy))
        else:
            heapq.heappush(self._heap, (1, -copy.last_used, self._count, copy))
