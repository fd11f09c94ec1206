"""Calls on a copy whose runtime takes only so many at a time (`limitModelConcurrency`, reference 6.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from mesh.core.cache.copies import Copy
from mesh.core.errors import QueueFull
from mesh.core.ids import ModelId
from mesh.pod.places import Own, Places
from mesh.telemetry import traces
from mesh.telemetry.metrics import Calls, Metrics

if TYPE_CHECKING:
    import mesh_lane

PER_MINUTE = 60
"""A pod that is busy with one call all the time counts as one with 1000 calls a minute, tenths of a percent of its time: 60 ms are one."""
ANY = 2**32 - 1
"""Calls that wait where there is no limit on them; the lane counts to no more."""


def _at_once() -> None:
    """Nothing to give back where nothing is limited."""


@dataclass(slots=True, eq=False)
class _Waiter:
    ticket: int
    turn: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class _Line:
    """A copy's places, and this plane's calls that have some or wait for one."""

    places: Places
    concurrency: int
    running: int = 0
    waiting: dict[int, _Waiter] = field(default_factory=dict)

    def grant(self) -> None:
        """Lets those go on whose turn has come."""
        for ticket in self.places.granted():
            waiter = self.waiting.pop(ticket)
            self.running += 1
            # Who was cancelled gives the place back when it comes to know.
            if not waiter.turn.done():
                waiter.turn.set_result(None)

    def leave(self) -> None:
        """A call's turn is over."""
        self.running -= 1
        self.places.give_back()
        if self.waiting:
            self.grant()

    async def wait(self, ticket: int) -> None:
        """Returns with the turn of a call that stands in line."""
        waiter = _Waiter(ticket, asyncio.get_running_loop().create_future())
        self.waiting[ticket] = waiter
        try:
            await waiter.turn
        except asyncio.CancelledError:
            if self.waiting.pop(waiter.ticket, None) is None:
                self.leave()
            else:
                self.places.give_up(waiter.ticket)
                self.grant()
            raise

    def move(self, places: mesh_lane.Copy) -> None:
        """Calls that run or wait do so at other places from now on, which nobody has entered yet."""
        waiting, self.waiting, self.places = self.waiting, {}, places
        places.adopt(self.running)
        for waiter in waiting.values():
            waiter.ticket = places.ask()
            self.waiting[waiter.ticket] = waiter


class Turns:
    """A fair line before each copy, of bounded length; how long each call takes on the runtime is kept with its copy.

    With an express lane the line is that of the lane's account of the copy, in which the calls of both planes stand.

    Args:
        limited: whether the runtime limits calls at all.
        longest: calls running and queued on one copy; 0 is max(16, 8 x its concurrency), negative is unlimited.

    Attributes:
        spent: ms of calls on the runtime, ever.
    """

    def __init__(self, metrics: Metrics, *, limited: bool, longest: int) -> None:
        self._metrics, self.limited, self._longest = metrics, limited, longest
        self._lines: WeakKeyDictionary[Copy, _Line] = WeakKeyDictionary()
        self._awaited: set[_Line] = set()
        self.spent = 0.0

    @property
    def busyness(self) -> int:
        """A count that grows by 1000 a minute for each call that runs all the time."""
        return int(self.spent / PER_MINUTE)

    def limits(self, copy: Copy) -> tuple[int, int]:
        """Calls that a copy takes at a time, and how many may wait; 0 and 0 if it takes any number."""
        if not self.limited:
            return 0, 0
        concurrency = max(1, copy.concurrency)
        longest = self._longest or max(16, 8 * concurrency)
        if longest < 0:
            return concurrency, ANY
        limit = min(concurrency, longest)
        return limit, min(longest - limit, ANY)

    async def take(self, copy: Copy) -> Callable[[], None]:
        """Waits for a turn; what gives it back.

        Raises:
            QueueFull: the line is full.
        """
        if not self.limited:
            return _at_once
        line = self._line(copy)
        time = asyncio.get_running_loop().time
        begun, ticket = time(), line.places.ask()
        if ticket < 0:
            raise QueueFull(f"Model queue overload: {copy.running} calls run or wait on this copy of {copy.id.model}")
        with traces.span("queue", model=copy.id.model, **{"mesh.of": "calls"}):
            if ticket:
                await self._wait(line, ticket)
            else:
                line.running += 1
        started = time()
        self._metrics.queue_delay((started - begun) * 1000, copy.id.model)

        def give_back() -> None:
            took = (time() - started) * 1000
            copy.timed, copy.busy = copy.timed + 1, copy.busy + took
            self.spent += took
            line.leave()

        return give_back

    async def _wait(self, line: _Line, ticket: int) -> None:
        self._awaited.add(line)
        try:
            await line.wait(ticket)
        finally:
            if not line.waiting:
                self._awaited.discard(line)

    def _line(self, copy: Copy) -> _Line:
        line = self._lines.get(copy)
        if line is None:
            line = self._lines[copy] = _Line(Own(*self.limits(copy)), copy.concurrency)
        elif line.concurrency != copy.concurrency:
            line.concurrency = copy.concurrency
            line.places.set_limit(*self.limits(copy))
            line.grant()
        return line

    # With an express lane

    def share(self, copy: Copy, account: mesh_lane.Copy) -> None:
        """From now on calls on a copy stand in the line of the lane's account of it, which the lane has not entered yet."""
        if self.limited:
            self._line(copy).move(account)

    def heard(self) -> None:
        """The lane has news: the turns of some may have come."""
        for line in self._awaited:
            line.grant()

    def count(self, model: ModelId, account: mesh_lane.Copy, copy: Copy | None) -> None:
        """Takes over the times of the lane's calls on a copy; None for one that is gone."""
        if not self.limited:
            return
        calls, microseconds, waits, waited = account.times()
        if any(waits):
            self._metrics.queue_delays(Calls(waits, waited / 1000), model)
        self.spent += microseconds / 1000
        if copy is not None:
            # Where the limit changed, the lane goes by it from here on.
            self._line(copy)
            copy.timed, copy.busy = copy.timed + calls, copy.busy + microseconds / 1000
