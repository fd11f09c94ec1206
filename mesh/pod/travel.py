"""Brings calls to copies: here, or on another pod; waits for loads, heals what the runtime forgot, goes on where something failed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

from mesh.core.cache.copies import Copy
from mesh.core.errors import Code, DeadlineExceeded, MeshError, Overloaded, Unknown
from mesh.core.events import LoadWanted, RuntimeForgot
from mesh.core.explaining.diary import Diary
from mesh.core.ids import ModelId
from mesh.core.routing.hops import Hop
from mesh.core.routing.journey import Journey
from mesh.core.routing.neighbourhood import Neighbourhood
from mesh.core.routing.steps import CALL, Forward, Purpose, Refuse, Serve, View, WaitFor
from mesh.core.units import Millis
from mesh.pod.admission import Admission
from mesh.pod.conductor import Conductor
from mesh.pod.lookups import Lookups
from mesh.pod.targets import Named
from mesh.pod.turns import Turns
from mesh.pod.underway import Underway
from mesh.telemetry import traces
from mesh.telemetry.metrics import Metrics
from mesh.wire.answers import error_of, not_here
from mesh.wire.call import REQUEST_ID, Call, RuntimeStatus

T = TypeVar("T")

VERDICT = 0.5
"""Seconds in which a runtime that did not answer a call turns out to be down, if it is."""
BELIEVED = Millis(60_000)
"""ms in which "not found" is an answer of a copy that said so when it was loaded for the call: something else is missing, a version."""


End = Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], None]
"""Ends something as the `__exit__` of a context does."""


@dataclass(slots=True, eq=False)
class Way(Generic[T]):
    """How one call is made.

    Attributes:
        here: on a copy of this pod.
        there: by passing it on.
        size: request bytes kept while it waits.
        keep: takes over what ends with the use of a copy, for a call that outlasts its first answer.
        may_repeat: whether the call can still be made on another copy.
        request: set when it was made: the id under which `explain` knows of it; empty for a plain hit.
    """

    here: Callable[[Copy], Awaitable[T]]
    there: Callable[[Hop], Awaitable[T]]
    size: int
    keep: Callable[[End], None] | None = None
    may_repeat: Callable[[], bool] = lambda: True
    request: str = ""


class Witness(Protocol):
    """Sees which copies answer."""

    def answered_here(self, model: ModelId) -> None:
        """This pod's copy answered a call."""
        ...

    def answered_elsewhere(self, model: ModelId) -> None:
        """Another pod's copy answered a call that came in here."""
        ...


class _Use:
    """One call on a copy that it entered: counted and known to be under way until it ends.

    Attributes:
        give_back: ends its turn, once it has one.
        lasts: whether the call goes on after this context; somebody else calls `end` then.
    """

    __slots__ = ("_conductor", "_copy", "_pods", "_running", "give_back", "lasts")

    def __init__(self, copy: Copy, conductor: Conductor, pods: Neighbourhood, underway: Underway) -> None:
        self._copy, self._conductor, self._pods, self._running = copy, conductor, pods, underway.on(copy)
        self.give_back: Callable[[], None] | None = None
        self.lasts = False

    def __enter__(self) -> _Use:
        self._pods.began(self._pods.me)
        self._running.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.lasts:
            self.end(kind, error, trace)

    def end(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leaves the copy. Errors as of `Underway.on`."""
        if self.give_back is not None:
            self.give_back()
        try:
            self._running.__exit__(kind, error, trace)
        finally:
            self._pods.ended(self._pods.me)
            self._conductor.leave(self._copy)


class Travels:
    """The ways of all calls of one pod."""

    def __init__(self, conductor: Conductor, view: View, lookups: Lookups, admission: Admission, turns: Turns, metrics: Metrics) -> None:
        self._conductor, self._view, self._lookups = conductor, view, lookups
        self._admission, self.turns, self._metrics = admission, turns, metrics
        self._underway = Underway()
        conductor.watch(self._underway.watch)
        self._denied: WeakKeyDictionary[Copy, Millis] = WeakKeyDictionary()
        self.calls = 0
        """Calls that began on a copy here, ever."""
        self.witness: Witness | None = None
        """Told of answers while this pod hands its models over."""

    async def go(self, call: Call, named: Named, way: Way[T]) -> T:
        """Makes a call on some copy of its model.

        Raises:
            RuntimeStatus: the runtime's answer.
            MeshError: no copy gave an answer.
        """
        plain = call.hop is None and not named.alias and not call.balanced and call.attempt is None
        tried = call.attempt if call.attempt is not None and call.attempt.model == named.model else None
        first = None if tried is None else tried.pod or self._view.pods.me
        purpose = CALL if plain else Purpose(call.hop, named.alias, call.balanced, first=first)
        journey = Journey(named.model, self._view, purpose, call)
        answered: RuntimeStatus | None = None
        while True:
            step = journey.next(self._conductor.now(), random.randrange)
            if isinstance(step, Refuse) and isinstance(step.error, Unknown) and await self._lookups.model(named.model):
                continue
            try:
                if isinstance(step, WaitFor):
                    copy = await self._wait(step.wanted, call, way.size)
                    if copy is None:
                        continue
                    step = Serve(copy)
                done = await self._take(step, journey, call, way)
                if done is not None:
                    way.request = journey.request
                    return done[0]
            except RuntimeStatus as status:
                busy = status.code is Code.RESOURCE_EXHAUSTED and journey.failed(step, Overloaded(status.details), self._conductor.now())
                if not busy or not way.may_repeat():
                    raise _under(journey, status) from None
                answered = status
            except MeshError as error:
                if not journey.failed(step, error, self._conductor.now()) or not way.may_repeat():
                    error.request = journey.request
                    raise _under(journey, answered) if answered else error from None

    def refused(self, call: Call, model: str, error: MeshError) -> None:
        """Remembers a call of a client that was refused, unless that is remembered already."""
        if call.hop is None and not error.request:
            diary = Diary(ModelId(model), self._view, CALL, call)
            diary.refused(error, self._conductor.now(), None)
            error.request = diary.request

    async def _take(self, step: Refuse | Forward | Serve, journey: Journey, call: Call, way: Way[T]) -> tuple[T] | None:
        """The call's result; None if another copy is to be looked for."""
        if isinstance(step, Serve):
            return await self._use(step.copy, journey, call, way)
        if isinstance(step, Refuse):
            raise step.error
        if step.holder is None:
            with self._admission.hold(way.size):
                result = await way.there(step.hop)
        else:
            result = await way.there(step.hop)
        if self.witness is not None:
            self.witness.answered_elsewhere(step.hop.model)
        return (result,)

    # On a copy here

    async def _use(self, copy: Copy, journey: Journey, call: Call, way: Way[T]) -> tuple[T] | None:
        self.calls += 1
        with _Use(copy, self._conductor, self._view.pods, self._underway) as use:
            try:
                use.give_back = await self.turns.take(copy)
                result = await way.here(copy)
            except RuntimeStatus as status:
                error = error_of(call.method, status) or status
                if not journey.again(down=error is not status):
                    # What a copy says that was loaded for this very call is the runtime's answer.
                    if not_here(status):
                        self._denied[copy] = self._conductor.now()
                    raise error from None
                await self._judge(call, copy, status)
                if not way.may_repeat():
                    raise error from None
                return None
            if self.witness is not None:
                self.witness.answered_here(copy.id.model)
            if way.keep is not None:
                use.lasts = True
                way.keep(use.end)
            return (result,)

    async def _judge(self, call: Call, copy: Copy, status: RuntimeStatus) -> None:
        """Returns if the call may be made again: the runtime does not know the copy, or has just gone down.

        Raises:
            RuntimeStatus: it is an answer.
            MeshError: the runtime did not answer, and is not known to be down.
        """
        error = error_of(call.method, status)
        if error is not None:
            if self._conductor.pod.cache.watched and await self._conductor.goes_down(VERDICT):
                return
            raise error from None
        denied = self._denied.get(copy)
        if not not_here(status) or (denied is not None and self._conductor.now() - denied < BELIEVED):
            raise status
        # Noted before the copy is left, so that no other call enters it.
        self._conductor.tell(RuntimeForgot(copy.id))

    async def _wait(self, wanted: LoadWanted, call: Call, size: int) -> Copy | None:
        loop = asyncio.get_running_loop()
        begun, rest = loop.time(), remaining(call)
        limit = self._conductor.pod.cache.policy.longest_wait / 1000 if rest is None else rest
        try:
            with self._admission.hold(size), traces.waits(wanted.model):
                async with asyncio.timeout(limit):
                    copy = await self._conductor.have_loaded(wanted)
        except TimeoutError:
            raise DeadlineExceeded(f"model {wanted.model} was not loaded within {limit:.3g} s; the load goes on") from None
        self._metrics.cache_miss((loop.time() - begun) * 1000, wanted.model)
        return copy


def _under(journey: Journey, status: RuntimeStatus) -> RuntimeStatus:
    """A runtime's answer to a call that was no plain hit names the call, so that it can be asked what was decided for it."""
    if journey.request:
        status.trailers = (*status.trailers, (REQUEST_ID, journey.request))
    return status


def remaining(call: Call) -> float | None:
    """Seconds that are left of a call's time; None if it has no deadline."""
    return None if call.deadline is None else max(0.0, call.deadline - asyncio.get_running_loop().time())
