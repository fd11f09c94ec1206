"""Calls on a copy whose runtime takes only so many at a time (`limitModelConcurrency`, reference 6.5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from mesh.core.copies import Copy
from mesh.core.errors import QueueFull
from mesh.telemetry.metrics import Metrics


class Turns:
    """A fair line before each copy, of bounded length.

    Args:
        longest: calls running and queued on one copy; 0 is max(16, 8 x its concurrency), negative is unlimited.
    """

    def __init__(self, longest: int, metrics: Metrics) -> None:
        self._longest, self._metrics = longest, metrics
        self._lines: WeakKeyDictionary[Copy, asyncio.Semaphore] = WeakKeyDictionary()

    @asynccontextmanager
    async def turn(self, copy: Copy) -> AsyncIterator[None]:
        """Waits for a turn and keeps it.

        Raises:
            QueueFull: the line is full.
        """
        concurrency = max(1, copy.concurrency)
        longest = self._longest or max(16, 8 * concurrency)
        if 0 < longest < copy.calls:
            raise QueueFull(f"Model queue overload: {copy.calls} calls run or wait on this copy of {copy.id.model}")
        line = self._lines.setdefault(copy, asyncio.Semaphore(concurrency))
        begun = asyncio.get_running_loop().time()
        async with line:
            self._metrics.queue_delay((asyncio.get_running_loop().time() - begun) * 1000, copy.id.model)
            yield
