"""Calls on a copy whose runtime takes only so many at a time (`limitModelConcurrency`, reference 6.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary

from mesh.core.cache.copies import Copy
from mesh.core.errors import QueueFull
from mesh.telemetry import traces
from mesh.telemetry.metrics import Metrics

PER_MINUTE = 60
"""A pod that is busy with one call all the time counts as one with 1000 calls a minute, tenths of a percent of its time: 60 ms are one."""


def _at_once() -> None:
    """Nothing to give back where nothing is limited."""


class Turns:
    """A fair line before each copy, of bounded length; how long each call takes on the runtime is kept with its copy.

    Args:
        limited: whether the runtime limits calls at all.
        longest: calls running and queued on one copy; 0 is max(16, 8 x its concurrency), negative is unlimited.

    Attributes:
        spent: ms of calls on the runtime, ever.
    """

    def __init__(self, metrics: Metrics, *, limited: bool, longest: int) -> None:
        self._metrics, self.limited, self._longest = metrics, limited, longest
        self._lines: WeakKeyDictionary[Copy, asyncio.Semaphore] = WeakKeyDictionary()
        self.spent = 0.0

    @property
    def busyness(self) -> int:
        """A count that grows by 1000 a minute for each call that runs all the time."""
        return int(self.spent / PER_MINUTE)

    async def take(self, copy: Copy) -> Callable[[], None]:
        """Waits for a turn; what gives it back.

        Raises:
            QueueFull: the line is full.
        """
        if not self.limited:
            return _at_once
        concurrency = max(1, copy.concurrency)
        longest = self._longest or max(16, 8 * concurrency)
        if 0 < longest < copy.calls:
            raise QueueFull(f"Model queue overload: {copy.calls} calls run or wait on this copy of {copy.id.model}")
        line = self._lines.setdefault(copy, asyncio.Semaphore(concurrency))
        time = asyncio.get_running_loop().time
        begun = time()
        with traces.span("queue", model=copy.id.model, **{"mesh.of": "calls"}):
            await line.acquire()
        started = time()
        self._metrics.queue_delay((started - begun) * 1000, copy.id.model)

        def give_back() -> None:
            took = (time() - started) * 1000
            copy.timed, copy.busy = copy.timed + 1, copy.busy + took
            self.spent += took
            line.release()

        return give_back
