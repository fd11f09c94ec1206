"""Feeds one event at a time to the core, has its instructions carried out, and keeps the core's one timer and its waiting callers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from mesh.core.cache.copies import Copy
from mesh.core.errors import MeshError
from mesh.core.events import Event, LoadWanted, TimePassed
from mesh.core.ids import ModelId
from mesh.core.instructions import Instruction, ReleaseWaiters
from mesh.core.pod import Pod
from mesh.core.units import Millis
from mesh.pod.clock import Clock

Handed = Copy | MeshError | None
"""What a waiting caller gets: a copy on which it counts as a call, an error, or None: look again."""


class Hands(Protocol):
    """Carries out instructions; outcomes come back through `Conductor.tell`."""

    def carry_out(self, instruction: Instruction) -> None:
        """Begins what is to be done, without waiting for it."""
        ...


class Conductor:
    """The pod's mind and its surroundings in step."""

    def __init__(self, pod: Pod, clock: Clock) -> None:
        self.pod = pod
        self._clock = clock
        self._hands: Hands | None = None
        self._watchers: list[Callable[[Instruction], None]] = []
        self._events: deque[Event] = deque()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due: Millis | None = None
        self._down = asyncio.Event()
        self._waiting: dict[ModelId, dict[asyncio.Future[Handed], None]] = {}

    def use(self, hands: Hands) -> None:
        """Names who carries out instructions."""
        self._hands = hands

    def watch(self, watcher: Callable[[Instruction], None]) -> None:
        """Has each instruction told to a spectator."""
        self._watchers.append(watcher)

    def now(self) -> Millis:
        """The time that decisions are made by."""
        return self._clock.now()

    def tell(self, event: Event) -> None:
        """Takes an event; one that comes up while another is handled waits its turn."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                for instruction in self.pod.handle(self._events.popleft(), self._clock.now()):
                    self._carry_out(instruction)
        finally:
            self._busy = False
            self._set_timer()
            if self.pod.cache.down:
                self._down.set()
            else:
                self._down.clear()

    async def goes_down(self, within: float) -> bool:
        """Whether the runtime is known to be down now, or becomes so within some seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._down.wait()
        return self._down.is_set()

    def leave(self, copy: Copy) -> None:
        """Ends a call on a copy."""
        event = self.pod.leave(copy)
        if event is not None:
            self.tell(event)

    async def have_loaded(self, wanted: LoadWanted) -> Copy | None:
        """Has a model loaded and waits; the copy was entered and is to be left. None: it is not coming, look again.

        Raises:
            MeshError: the load failed or was refused.
        """
        future: asyncio.Future[Handed] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(wanted.model, {})[future] = None
        self.tell(wanted)
        try:
            handed = await future
        except asyncio.CancelledError:
            self._withdraw(wanted.model, future)
            raise
        if isinstance(handed, MeshError):
            # One error object would gather the tracebacks of all who waited.
            raise type(handed)(handed.message)
        return handed

    def _withdraw(self, model: ModelId, future: asyncio.Future[Handed]) -> None:
        waiting = self._waiting.get(model, {})
        if future in waiting:
            del waiting[future]
            if not waiting:
                del self._waiting[model]
            self.pod.stop_waiting(model)
        elif not future.cancelled() and isinstance(copy := future.result(), Copy):
            self.leave(copy)

    def _carry_out(self, instruction: Instruction) -> None:
        for watcher in self._watchers:
            watcher(instruction)
        if isinstance(instruction, ReleaseWaiters):
            self._release(instruction)
        else:
            assert self._hands is not None
            self._hands.carry_out(instruction)

    def _release(self, release: ReleaseWaiters) -> None:
        copy = self.pod.cache.copy(release.copy) if release.copy is not None else None
        for future in self._waiting.pop(release.model, ()):
            if not future.done():
                future.set_result(copy if copy is not None else release.error)
            elif copy is not None:
                # Its caller left in this very moment, yet was counted as entering.
                self.leave(copy)

    def _set_timer(self) -> None:
        due = self.pod.next_due()
        if due == self._timer_due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due, self._timer = due, None
        if due is not None:
            pause = max(0, due - self._clock.now()) / 1000
            self._timer = asyncio.get_running_loop().call_later(pause, self._time_passed)

    def _time_passed(self) -> None:
        self._timer_due = self._timer = None
        self.tell(TimePassed())

    def stop(self) -> None:
        """Ends the timer and the waiting."""
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._waiting.values():
            for future in waiting:
                future.cancel()
        self._waiting.clear()
