"""One copy of a model in this pod: its states and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from mesh.core.errors import LoadFailed
from mesh.core.ids import CopyId
from mesh.core.registry.records import ModelInfo
from mesh.core.scaling.rates import Usage
from mesh.core.units import Millis, Units


class State(Enum):
    """What a copy is; `rules.RULES` says how it gets from one to the next."""

    REGISTERING = "registering"
    """Its pod is being written into the model's record."""
    QUEUED = "queued"
    """Wants a loading slot."""
    CLAIMING = "claiming"
    """Has a slot, wants room."""
    LOADING = "loading"
    """The runtime loads it."""
    SIZING = "sizing"
    """Serves; the runtime is asked for its size."""
    READY = "ready"
    """Serves."""
    DRAINING = "draining"
    """Takes no new calls; the last ones run."""
    UNLOADING = "unloading"
    """The runtime gives its memory back."""
    GONE = "gone"
    """Events about it are dropped."""


COMING = frozenset({State.REGISTERING, State.QUEUED, State.CLAIMING, State.LOADING})
SERVING = frozenset({State.SIZING, State.READY})
EXPECTED = COMING - {State.LOADING}
GRANTED = frozenset({State.LOADING, *SERVING})
LEAVING = frozenset({State.DRAINING, State.UNLOADING})
HOLDING_A_SLOT = frozenset({State.CLAIMING, State.LOADING, State.SIZING})


class Account(Protocol):
    """Calls on a copy that begin and end without this pod's `enter` and `leave`: those of the express lane."""

    @property
    def calls(self) -> int:
        """Under way now."""
        ...

    @property
    def waiting(self) -> int:
        """In line for a turn on it."""
        ...

    @property
    def last_used(self) -> int:
        """When one last began, in milliseconds since the epoch; 0 for never."""
        ...


@dataclass(slots=True, eq=False, weakref_slot=True)
class Copy:
    """One try to have a model here.

    Attributes:
        weight: predicted, then learned.
        last_used: a use is one assignment; order is settled only when somebody asks for the oldest.
        created: when it was wanted; the time that stands in the model's record.
        since: when it came into its state.
        urgent: an inference call wants it.
        registered: whether the registry answered.
        predicted: whether its size was guessed, or will not be.
        calls: running on it now, or in line for a turn.
        waiting: callers that wait for it.
        due: when `TimePassed` concerns it: the end of draining, the next try of an unload, the end of doubt.
        doubt: a failure that counts unless the runtime turns out to be lost.
        tries: of its unload.
        concurrency: calls that the runtime takes at a time; 0 is any number.
        begun: calls that began on it since the last rate tick.
        timed, busy: calls whose time on the runtime was taken since then, and that time in ms, where the runtime limits concurrency.
        usage: what rate ticks remember of it; None before the first one that saw it in use.
        account: calls on it that are not among `calls`; None if there are no such.
    """

    id: CopyId
    info: ModelInfo
    weight: Units
    last_used: Millis
    created: Millis
    since: Millis
    state: State = State.REGISTERING
    urgent: bool = False
    registered: bool = False
    predicted: bool = False
    calls: int = 0
    waiting: int = 0
    due: Millis | None = None
    doubt: LoadFailed | None = None
    tries: int = 0
    loaded_at: Millis = Millis(0)
    concurrency: int = 0
    order: int = 0
    begun: int = 0
    timed: int = 0
    busy: float = 0.0
    usage: Usage | None = None
    account: Account | None = None

    @property
    def running(self) -> int:
        """All calls on it now, those that wait for a turn among them."""
        return self.calls if self.account is None else self.calls + self.account.calls + self.account.waiting

    def used(self) -> Millis:
        """Brings `last_used` up to date, and answers it."""
        if self.account is not None:
            self.last_used = max(self.last_used, Millis(self.account.last_used))
        return self.last_used

    def __repr__(self) -> str:
        return f"{self.id} {self.state.value} {self.weight}u calls={self.running} waiting={self.waiting}"
