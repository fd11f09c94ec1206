"""The pods that may hold models of a type, in sums (reference 5.6): scaling asks them whether there is room."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.core.ids import PodId
from mesh.core.placement.constraints import Constraints, Labels
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis, Units


@dataclass(frozen=True, slots=True)
class Subset:
    """Sums over some pods.

    Attributes:
        pods: how many.
        capacity: units of all.
        free: units free on those that are not full; what a full pod has left is no room.
        lru_time: when the least recently used model of all was used; NEVER without any.
    """

    pods: int = 0
    capacity: int = 0
    free: int = 0
    lru_time: Millis = NEVER

    @property
    def free_percent(self) -> int:
        """Rounded down."""
        return self.free * 100 // self.capacity if self.capacity else 0

    def age(self, now: Millis) -> Millis:
        """ms since the use of the least recently used model; 0 without any."""
        return Millis(max(0, now - self.lru_time) if self.lru_time < NEVER else 0)

    def __add__(self, other: Subset) -> Subset:
        return Subset(
            *(self.pods + other.pods, self.capacity + other.capacity, self.free + other.free), Millis(min(self.lru_time, other.lru_time))
        )


NOBODY = Subset()


class Cluster:
    """All pods that stay and can be called, summed up by the labels that they have."""

    def __init__(self, pods: Iterable[tuple[PodId, InstanceRecord]], size: Units) -> None:
        """Args:
        pods: each with its latest figures.
        size: assumed of a model; with less space than its loads at a time take, a pod counts as full.
        """
        self._kinds: dict[Labels, Subset] = {}
        for _, record in pods:
            if record.endpoint and not record.shutting_down:
                one = Subset(1, record.capacity, _room(record, size), record.lru_time if record.lru_time > 0 else NEVER)
                self._kinds[record.labels] = self._kinds.get(record.labels, NOBODY) + one

    def of(self, model_type: str, constraints: Constraints) -> Subset:
        """The pods that may hold models of a type."""
        return sum((subset for labels, subset in self._kinds.items() if constraints.fits(model_type, labels)), NOBODY)


def _room(record: InstanceRecord, size: Units) -> int:
    free = record.capacity - record.used
    return free if free >= max(size, min(size * record.load_threads, record.capacity // 20)) else 0
