"""Which loads and unloads go into which reload of the server's list: events in, instructions out, no I/O and no clock.

The server takes models from one list, all at once. So orders that come close together share a reload, and there is one at a time; those
that come meanwhile wait for the next. Each order is answered by what the server then says of its own model, and by nothing else: a
model that fails does not fail the others, and an unload is over when the server has nothing of the model any more. The latest order
about a model counts; an earlier one that is not done is told so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

import grpc

from runtime_adapters.errors import AdapterError, RuntimeRefused, Unreachable
from runtime_adapters.openvino import statuses
from runtime_adapters.openvino.statuses import Statuses

LOOK_PERIOD = 0.1
"""Seconds between two looks at models that the server had not finished when its reload was answered."""

# Events


@dataclass(frozen=True)
class LoadAsked:
    """Somebody waits, under the name `ticket`, for a model to serve from `folder`."""

    ticket: int
    model: str
    folder: str


@dataclass(frozen=True)
class UnloadAsked:
    """Somebody waits for the server to have nothing of a model."""

    ticket: int
    model: str


@dataclass(frozen=True)
class ClearAsked:
    """Somebody waits for the server to have no model at all."""

    ticket: int


@dataclass(frozen=True)
class Left:
    """Somebody does not wait any more. A load is given up by that; an unload is carried out all the same."""

    ticket: int


@dataclass(frozen=True)
class TimePassed:
    """The time of the latest `WakeAt` has come."""


@dataclass(frozen=True)
class Reloaded:
    """A reload ended. `statuses` is None if the server did not tell what it has now; `trouble` is what it complained of.

    `over` is false if the server never answered, and so may be at work on the list, or not have begun with it.
    """

    statuses: Statuses | None
    trouble: AdapterError | None = None
    over: bool = True


@dataclass(frozen=True)
class Looked:
    """A look ended; None if the server did not answer."""

    statuses: Statuses | None


@dataclass(frozen=True)
class ServerLost:
    """The server is gone, and its models with it."""

    trouble: AdapterError


Event: TypeAlias = LoadAsked | UnloadAsked | ClearAsked | Left | TimePassed | Reloaded | Looked | ServerLost

# Instructions


@dataclass(frozen=True)
class Reload:
    """List these models, name → folder, and have the server read the list; tell `Reloaded`."""

    models: Mapping[str, str]


@dataclass(frozen=True)
class Look:
    """Ask the server what it has; tell `Looked`."""


@dataclass(frozen=True)
class WakeAt:
    """Tell `TimePassed` at this time; an earlier `WakeAt` is void."""

    time: float


@dataclass(frozen=True)
class Answer:
    """Done, or why not."""

    ticket: int
    error: AdapterError | None = None


Instruction: TypeAlias = Reload | Look | WakeAt | Answer


class _Kind(Enum):
    LOAD = auto()
    UNLOAD = auto()
    CLEAR = auto()


class _Phase(Enum):
    WAITING = auto()  # for a reload
    RUNNING = auto()  # its reload is under way
    SETTLING = auto()  # its reload is over, and the server still at work


@dataclass
class _Order:
    ticket: int
    kind: _Kind
    model: str
    phase: _Phase = _Phase.WAITING


class Batches:
    """The machine. `quiet` and `longest`, in seconds: a reload begins when nothing was asked for in `quiet`, or the first waits `longest`.

    `models` is what was listed before.
    """

    def __init__(self, models: Mapping[str, str], quiet: float, longest: float) -> None:
        self.wanted = dict(models)
        """The models that the server is to have, name → folder."""
        self._quiet = quiet
        self._longest = longest
        self._orders: dict[int, _Order] = {}
        self._seen: Statuses = {}
        self._busy = False
        self._listed = dict(models)  # what the latest reload listed
        self._first: float | None = None  # when the first that waits came
        self._due: float | None = None
        self._look: float | None = None
        self._out: list[Instruction] = []

    def may_have(self, model: str) -> bool:
        """Whether the server may have something of a model."""
        return model in self.wanted or statuses.held(self._seen.get(model, ()))

    def state(self, model: str) -> str:
        """What the server last said of a model, for messages."""
        versions = self._seen.get(model, ())
        return ", ".join(f"version {one.number} is {one.state}" for one in versions) or "it said nothing of it"

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """What has to be done about an event, in order. `now` in seconds of any clock that does not go back."""
        match event:
            case LoadAsked(ticket, model, folder):
                self._supersede({model}, "load")
                self.wanted[model] = folder
                self._order(_Order(ticket, _Kind.LOAD, model), now)
            case UnloadAsked(ticket, model):
                self._supersede({model}, "unload")
                self.wanted.pop(model, None)
                self._order(_Order(ticket, _Kind.UNLOAD, model), now)
            case ClearAsked(ticket):
                self._supersede({order.model for order in self._orders.values()}, "unload of all models")
                self.wanted.clear()
                self._order(_Order(ticket, _Kind.CLEAR, ""), now)
            case Left(ticket):
                self._leave(ticket, now)
            case TimePassed():
                self._begin(now)
            case Reloaded(found, trouble, over):
                self._reloaded(found, trouble, over, now)
            case Looked(found):
                self._busy = False
                if found is not None:
                    self._settle(found, None, now)
            case ServerLost(trouble):
                self._lost(trouble)
        return self._instructions(now)

    # Orders

    def _order(self, order: _Order, now: float) -> None:
        self._orders[order.ticket] = order
        self._schedule(now)

    def _supersede(self, models: set[str], by: str) -> None:
        """Ends loads of these models, and unloads of them unless they are unloaded again: those who wait for the same wait together."""
        for order in list(self._orders.values()):
            if order.model in models and (order.kind is _Kind.LOAD or (order.kind is _Kind.UNLOAD and by == "load")):
                what = "load" if order.kind is _Kind.LOAD else "unload"
                text = f"the {what} of model {order.model} was superseded by a later {by}"
                self._answer(order, RuntimeRefused(text, grpc.StatusCode.ABORTED))

    def _leave(self, ticket: int, now: float) -> None:
        order = self._orders.pop(ticket, None)
        if order and order.kind is _Kind.LOAD:
            self.wanted.pop(order.model, None)
        if order:
            self._correct(now)

    def _answer(self, order: _Order, error: AdapterError | None = None) -> None:
        del self._orders[order.ticket]
        self._out.append(Answer(order.ticket, error))

    # Reloads

    def _schedule(self, now: float) -> None:
        """Puts the next reload off until it is quiet, within what the first is ready to wait."""
        self._first = now if self._first is None else self._first
        self._due = min(now + self._quiet, self._first + self._longest)

    def _begin(self, now: float) -> None:
        if self._busy:
            return
        if self._due is not None and now >= self._due:
            self._busy = True
            self._first = self._due = self._look = None
            for order in self._orders.values():
                if order.phase is _Phase.WAITING:
                    order.phase = _Phase.RUNNING
            self._listed = dict(self.wanted)
            self._out.append(Reload(self._listed))
        elif self._look is not None and now >= self._look:
            self._busy = True
            self._look = None
            self._out.append(Look())

    def _reloaded(self, found: Statuses | None, trouble: AdapterError | None, over: bool, now: float) -> None:
        self._busy = False
        if found is not None:
            if not over:
                self._repeat(found, now)
            self._settle(found, trouble, now)
            return
        for order in list(self._orders.values()):
            if order.phase is not _Phase.WAITING:
                self._fail(order, trouble or AdapterError("OVMS did not say which models it has"))
        self._correct(now)

    def _repeat(self, found: Statuses, now: float) -> None:
        """What was in a reload that was not answered is in the next, but for models that serve already.

        Nothing else of its word is final: it may not have come to a model that is to be loaded, and may still load one that is not.
        """
        for order in self._orders.values():
            if order.phase is _Phase.RUNNING and not (order.kind is _Kind.LOAD and statuses.serves(found.get(order.model, ()))):
                order.phase = _Phase.WAITING
                self._schedule(now)

    def _settle(self, found: Statuses, trouble: AdapterError | None, now: float) -> None:
        """Answers each order of the batch for which the server's word is final."""
        self._seen = found
        for order in list(self._orders.values()):
            if order.phase is _Phase.WAITING:
                continue
            order.phase = _Phase.SETTLING
            versions = found.get(order.model)
            if order.kind is not _Kind.LOAD:
                if not self._holds(order):
                    self._answer(order)
            elif versions is None:
                because = f": {trouble.message}" if trouble else ""
                self._fail(order, AdapterError(f"OVMS does not list the model after a reload{because}"))
            elif statuses.serves(versions):
                self._answer(order)
            elif not statuses.comes(versions):
                self._fail(order, RuntimeRefused(statuses.failure(versions), grpc.StatusCode.UNKNOWN))
        self._correct(now)

    def _correct(self, now: float) -> None:
        """Takes what failed out of the list, soon: the unload that follows a failed load joins that reload."""
        if self._listed != self.wanted:
            self._schedule(now)

    def _holds(self, order: _Order) -> bool:
        """Whether the server still has what an unload is to rid it of."""
        if order.kind is _Kind.UNLOAD:
            return statuses.held(self._seen.get(order.model, ()))
        return any(statuses.held(versions) for model, versions in self._seen.items() if model not in self.wanted)

    def _fail(self, order: _Order, error: AdapterError) -> None:
        """Each order gets an error object of its own: whoever receives it may add to its message."""
        if order.kind is _Kind.LOAD:
            self.wanted.pop(order.model, None)
        own = Unreachable(error.message) if isinstance(error, Unreachable) else RuntimeRefused(error.message, error.status)
        self._answer(order, own)

    def _lost(self, trouble: AdapterError) -> None:
        self.wanted.clear()
        self._seen = {}
        self._listed = {}
        self._first = self._due = self._look = None
        for order in list(self._orders.values()):
            self._fail(order, trouble)

    def _instructions(self, now: float) -> list[Instruction]:
        out, self._out = self._out, []
        settling = any(order.phase is _Phase.SETTLING for order in self._orders.values())
        if settling and not self._busy and self._look is None:
            self._look = now + LOOK_PERIOD
        times = [time for time in (self._due, self._look if settling else None) if time is not None]
        if times and not self._busy:
            out.append(WakeAt(min(times)))
        return out
