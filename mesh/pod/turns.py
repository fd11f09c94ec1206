"""Calls on a copy whose runtime takes only so many at a time (`limitModelConcurrency`, reference 6.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

from mesh.core.copies import Copy
from mesh.core.errors import QueueFull
from mesh.telemetry.metrics import Metrics


def _at_once() -> None:
    """Nothing to give back where nothing is limited."""


class Turns:
    """A fair line before each copy, of bounded length.

    Args:
        limited: whether the runtime limits calls at all.
        longest: calls running and queued on one copy; 0 is max(16, 8 x its concurrency), negative is unlimited.
    """

    def __init__(self, metrics: Metrics, *, limited: bool, longest: int) -> None:
        self._metrics, self._limited, self._longest = metrics, limited, longest
        self._lines: WeakKeyDictionary[Copy, asyncio.Semaphore] = WeakKeyDictionary()

    async def take(self, copy: Copy) -> Callable[[], None]:
        """Waits for a turn; what gives it back.

        Raises:
            QueueFull: the line is full.
        """
        if not self._limited:
            return _at_once
        concurrency = max(1, copy.concurrency)
        longest = self._longest or max(16, 8 * concurrency)
        if 0 < longest < copy.calls:
            raise QueueFull(f"Model queue overload: {copy.calls} calls run or wait on this copy of {copy.id.model}")
        line = self._lines.setdefault(copy, asyncio.Semaphore(concurrency))
        begun = asyncio.get_running_loop().time()
        await line.acquire()
        self._metrics.queue_delay((asyncio.get_running_loop().time() - begun) * 1000, copy.id.model)
        return line.release
