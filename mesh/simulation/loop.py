"""An event loop whose time jumps to the next timer, and processes in it that can be killed."""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar
from weakref import WeakSet

T = TypeVar("T")

MOST_AT_ONCE = 1_000_000
"""Callbacks run at one moment of simulated time before it counts as spinning."""


class StuckError(RuntimeError):
    """Nothing will ever happen again, or time does not pass any more."""


class Process:
    """What runs together and ends together: all tasks and timers begun in its context. Once it is killed none of them runs again."""

    def __init__(self, name: str) -> None:
        self.name, self.alive = name, True
        self.context = Context()
        self.context.run(_PROCESS.set, self)
        self.tasks: WeakSet[asyncio.Task[Any]] = WeakSet()

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs something as part of the process."""
        return asyncio.get_running_loop().create_task(work, context=self.context.copy())

    def kill(self) -> None:
        """As `kill -9`: nothing is cleaned up."""
        self.alive = False
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined] # known to asyncio alone


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs what is ready; when nothing is, it is the time of the next timer. Nothing outside of it is ever waited for."""

    _ready: deque[events.Handle]
    _scheduled: list[events.TimerHandle]
    _timer_cancelled_count: int

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._at_once = 0

    def time(self) -> float:
        """Simulated seconds since the loop was made."""
        return self._now

    def create_task(self, coro: Any, *, name: object = None, context: Context | None = None) -> asyncio.Task[Any]:
        """As asyncio's; the task is noted with its process."""
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)
        process = context.get(_PROCESS) if context is not None else _PROCESS.get()
        if process is not None:
            process.tasks.add(task)
        return task

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        self._drop_cancelled()
        if not ready:
            if not scheduled:
                raise StuckError("nothing is ready and no timer is set: whoever waits here waits for ever")
            if scheduled[0].when() > self._now:
                self._now, self._at_once = scheduled[0].when(), 0
        while scheduled and scheduled[0].when() <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined] # known to asyncio alone
            ready.append(timer)
        self._at_once += len(ready)
        if self._at_once > MOST_AT_ONCE:
            raise StuckError(f"{self._at_once} callbacks ran at {self._now:.3f} s and there are more, the next of them {ready[0]!r}")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                process = handle._context.get(_PROCESS)  # type: ignore[attr-defined] # known to asyncio alone
                if process is None or process.alive:
                    handle._run()

    def _drop_cancelled(self) -> None:
        """Cancelled timers at the front, and all of them when they prevail."""
        scheduled = self._scheduled
        if self._timer_cancelled_count > 100 and self._timer_cancelled_count * 2 > len(scheduled):
            scheduled[:] = [handle for handle in scheduled if not handle._cancelled]
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined] # known to asyncio alone

    def _write_to_self(self) -> None:
        """There are no other threads to be woken by."""

    def _process_events(self, event_list: Any) -> None:
        """There are no sockets."""


NEUTRAL = Context()
"""Of what belongs to no process: the network, the store, the world."""


def later(seconds: float, act: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
    """Has something happen that no process's end prevents."""
    return asyncio.get_running_loop().call_later(seconds, act, *args, context=NEUTRAL)
