"""Keeping as many copies as users asked for: which model lacks one, and when another may be ordered.

One pod decides for all. What counts are copies on pods that live and stay, those that still load included, whatever else stands in the
record. An order that failed is repeated after a pause that doubles, so a broken model or a full mesh costs a try now and then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import to_json
from mesh.core.ids import ModelId, PodId
from mesh.core.policy import SECOND
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import Bounds
from mesh.core.timers import Timers
from mesh.core.units import Millis

NAME = "minimum"
"""What the JSON calls the function."""

FIRST_PAUSE, LONGEST_PAUSE = Millis(2 * SECOND), Millis(300 * SECOND)
"""Until an order that failed is repeated; doubled each time."""

START = Millis(120 * SECOND)
"""A mesh whose pods all started within this has just been started."""

ENOUGH, ORDER, WAIT = "enough", "order", "wait"


@dataclass(frozen=True, slots=True)
class Stock:
    """What is decided by whether one more copy is ordered.

    Attributes:
        wanted: copies that there are to be.
        why: what asks for them.
        holders: pods that have one or load it, that live and stay.
        places: pods that could have one, the holders among them.
        unseen: orders under way that no record shows yet.
        again_at: no order before this time.
    """

    model: ModelId
    wanted: int
    why: str
    holders: tuple[PodId, ...]
    places: int
    unseen: int
    now: Millis
    again_at: Millis

    @property
    def short(self) -> bool:
        """Whether a copy is missing that some pod could have."""
        return len(self.holders) < min(self.wanted, self.places)

    def again(self) -> str:
        """`enough`, `order` one more, or `wait`."""
        if not self.short:
            return ENOUGH
        return WAIT if self.unseen or self.now < self.again_at else ORDER

    def reason(self) -> str:
        """In words."""
        return f"{self.why}: {self.wanted} wanted, {len(self.holders)} on pods that live and stay"

    def candidates(self) -> Sequence[Candidate]:
        """The holders there are."""
        return [Candidate(pod, False, {}, "it has a copy, or loads it") for pod in self.holders]

    def would_change(self) -> Sequence[str]:
        """What would have made it unnecessary."""
        return [
            f"{self.wanted - len(self.holders)} more copies on other pods",
            f"a minimum of {len(self.holders)} copies (mesh scale --min)",
        ]

    def inputs(self) -> dict[str, object]:
        """As JSON; times in epoch milliseconds."""
        return to_json(NAME, self)


@dataclass(slots=True)
class _Trouble:
    """Orders of a model that failed in a row."""

    failures: int = 0
    again_at: Millis = Millis(0)


class Minimum:
    """What is to be remembered of bounded models between two looks."""

    def __init__(self) -> None:
        self._orders: dict[ModelId, list[frozenset[PodId]]] = {}
        self._trouble: dict[ModelId, _Trouble] = {}
        self._cut: set[ModelId] = set()
        self._held: set[ModelId] = set()
        self._preloading: set[ModelId] = set()
        self._preloaded: set[ModelId] = set()
        self.timers: Timers[ModelId] = Timers()

    # What is told

    def bounded(self, model: ModelId, bounds: Bounds, *, known: bool = False) -> None:
        """A model's bounds are these now. One that is to be preloaded is loaded once for it.

        Args:
            known: it had them before this pod could see, so it was loaded then.
        """
        if not bounds.preload:
            self._preloaded.discard(model)
            self._preloading.discard(model)
        elif model not in self._preloaded:
            self._preloaded.add(model)
            if not known:
                self._preloading.add(model)
        if not bounds.pinned:
            self._held.discard(model)

    def mesh_started(self) -> None:
        """Nothing is loaded yet: what is to be preloaded is."""
        self._preloading |= self._preloaded

    def gone(self, model: ModelId) -> None:
        """A model is not registered any more, or not bounded."""
        for table in (self._cut, self._held, self._preloading, self._preloaded):
            table.discard(model)
        self._trouble.pop(model, None)
        self.timers.drop(model)

    def ordered(self, model: ModelId, holders: frozenset[PodId]) -> None:
        """A copy is ordered beside these."""
        self._orders.setdefault(model, []).append(holders)

    def done(self, model: ModelId, holders: frozenset[PodId], now: Millis, *, loaded: bool) -> None:
        """An order came to its end."""
        orders = self._orders[model]
        orders.remove(holders)
        if not orders:
            del self._orders[model]
        if loaded:
            self._trouble.pop(model, None)
            self.timers.drop(model)
            return
        trouble = self._trouble.setdefault(model, _Trouble())
        trouble.again_at = Millis(now + min(FIRST_PAUSE << min(trouble.failures, 32), LONGEST_PAUSE))
        trouble.failures += 1
        self.timers.set(model, trouble.again_at)

    def pod_came(self) -> list[ModelId]:
        """There is a new place: the models that had none, or that wanted more copies than there were places."""
        for trouble in self._trouble.values():
            trouble.again_at = Millis(0)
        return [*self._trouble, *sorted(self._cut - self._trouble.keys())]

    # What is asked

    def look(self, model: ModelId, bounds: Bounds, loaded: bool, holders: Iterable[PodId], places: int, now: Millis) -> Stock:
        """How a model stands; that it was loaded, or is, is remembered.

        Args:
            model, bounds: which, and what is asked for.
            loaded: its record names a pod that had it loaded, be it a dead one: a pinned model is to stay so.
            holders: pods that have it or load it, that live and stay.
            places: pods that could have it.
            now: the time.
        """
        has = tuple(sorted(holders))
        if bounds.pinned and loaded:
            self._held.add(model)
        if has:
            self._preloading.discard(model)
        wanted, why = bounds.least, "minimum"
        if not wanted and model in self._held:
            wanted, why = 1, "pinned"
        elif not wanted and model in self._preloading:
            wanted, why = 1, "preload"
        if wanted > places:
            self._cut.add(model)
        else:
            self._cut.discard(model)
        trouble = self._trouble.get(model)
        unseen = sum(not set(has) - beside for beside in self._orders.get(model, ()))
        return Stock(model, wanted, why, has, places, unseen, now, trouble.again_at if trouble else Millis(0))

    @property
    def preloading(self) -> list[ModelId]:
        """Models that are to be loaded once, and were not yet."""
        return sorted(self._preloading)


def just_started(instances: Mapping[PodId, InstanceRecord], now: Millis) -> bool:
    """Whether no pod is older than `START`."""
    return all(now - record.start_time < START for record in instances.values())
