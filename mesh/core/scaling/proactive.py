"""Which models are loaded into free space before anybody calls them (reference 6.9.3).

The pod that leads looks at all models now and then. Those that were used last go first, as many as fill half of the space that is free, the
last eighth of a cache left alone. Where that is little, a twentieth of all may be had by replacing what has not been used for much longer;
ModelMesh means to do so too, but never does where no pod has free space.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import to_json
from mesh.core.ids import ModelId, PodId
from mesh.core.placement.constraints import Constraints
from mesh.core.policy import HOUR, UNKNOWN_AGE, is_far
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis, Units

NAME = "proactive"
"""What the JSON calls the function."""

SPARED = 8
"""This part (an eighth) of each cache is not filled early (reference 6.9)."""

LOADS_A_THREAD = 50
"""Loads that a pod may have under way for each that it does at a time (reference 6.9)."""

REPLACED = 20
"""At most this part (a twentieth) of a partition is replaced in one run (reference 6.9)."""

NEWER = Millis(HOUR // 3)
"""A model replaces another that was used earlier by this, or by a third of the cache's age, at least (reference 6.9)."""

FEW, SOME = 3, 10
"""With fewer copies than the first a size is guessed, up to the second it is half guessed (reference 6.9)."""

MOST = 4_000
"""Loads of a partition in one run: what is chosen is put in order in one go, and they are begun over minutes."""

MOST_FAILURES = 2
"""A model that failed on so many pods is not loaded early (reference 6.9)."""


@dataclass(frozen=True, slots=True)
class Early:
    """What is decided by whether a model is loaded early.

    Attributes:
        last_used: of the model.
        rank: how many candidates of its partition were used later.
        free: loads that fit into half of what is free.
        total: loads in one run.
        lru_time: when the least recently used copy of the partition was used; NEVER if there is none.
        size: estimate of a model's.
    """

    model: ModelId
    last_used: Millis
    rank: int
    free: int
    total: int
    lru_time: Millis
    now: Millis
    size: Units

    @property
    def needed(self) -> Millis:
        """How recently it has to have been used to replace another."""
        return Millis(self.lru_time + max((self.now - self.lru_time) // 3, NEWER))

    def again(self) -> str:
        """`load` or `leave`."""
        replaces = self.rank < self.total and self.lru_time < NEVER and self.last_used > self.needed
        return "load" if self.rank < self.free or replaces else "leave"

    def reason(self) -> str:
        """In words."""
        if self.rank < self.free:
            return f"there is free space for {self.free} models, and {self.rank} others were used later"
        return "it was used later than what it replaces, by a third of the cache's age or more"

    def candidates(self) -> Sequence[Candidate]:
        """The model itself."""
        score: dict[str, object] = {"rank": self.rank, "unused_ms": self.now - self.last_used, "free": self.free, "total": self.total}
        return [Candidate(self.model, self.again() == "load", score)]

    def would_change(self) -> Sequence[str]:
        """What would have left it where it is."""
        return [f"{self.free} other models used later", "pods without free space", "a call of it, which loads it in any case"]

    def inputs(self) -> dict[str, object]:
        """As JSON; times in epoch milliseconds, sizes in units of 8 KiB."""
        return to_json(NAME, self)


@dataclass(slots=True)
class _Partition:
    """Pods that the same types of models may be loaded on.

    Attributes:
        heap: the candidates used last, the earliest of them first.
    """

    pods: tuple[PodId, ...]
    size: Units
    free: int
    total: int
    lru_time: Millis
    heap: list[tuple[Millis, ModelId]] = field(default_factory=list)

    def offer(self, model: ModelId, last_used: Millis) -> None:
        entry = last_used, model
        if len(self.heap) < self.total:
            heapq.heappush(self.heap, entry)
        elif self.total:
            heapq.heappushpop(self.heap, entry)


class Filling:
    """One run: models are offered one by one, then what is to be loaded is told. Memory goes with what may be loaded, not with models."""

    def __init__(self, pods: Mapping[PodId, InstanceRecord], constraints: Constraints, default_size: Units, now: Millis) -> None:
        """Args:
        pods: those that live, stay and can be called, this one among them.
        default_size: of a model, where nothing is known.
        """
        self._pods, self._constraints, self._default, self._now = pods, constraints, default_size, now
        self._by_type: dict[str, _Partition] = {}
        self._partitions: dict[tuple[PodId, ...], _Partition] = {}

    def offer(self, model: ModelId, record: ModelRecord) -> None:
        """Considers a model; one that a living pod has, or that fails, is none."""
        if len(record.failed) >= MOST_FAILURES or any(pod in self._pods for pod in record.copies):
            return
        kind = record.info.type
        partition = self._by_type.get(kind)
        if partition is None:
            partition = self._by_type[kind] = self._partition(kind)
        far = is_far(record.last_used, self._now)
        partition.offer(model, Millis(self._now - UNKNOWN_AGE) if far else record.last_used)

    def chosen(self) -> Iterator[Early]:
        """What is to be loaded, of each partition what was used last first; space that several partitions share is given away once."""
        given: dict[PodId, int] = {}
        for partition in sorted(self._partitions.values(), key=lambda one: (-one.free, one.lru_time, one.pods)):
            free = self._room(partition.pods, partition.size, given) // partition.size
            self._give(partition, free * partition.size, given)
            for rank, (last_used, model) in enumerate(sorted(partition.heap, reverse=True)):
                early = Early(model, last_used, rank, free, partition.total, partition.lru_time, self._now, partition.size)
                if early.again() == "load":
                    yield early

    def _partition(self, kind: str) -> _Partition:
        names = tuple(sorted(pod for pod, record in self._pods.items() if self._constraints.fits(kind, record.labels)))
        partition = self._partitions.get(names)
        if partition is None:
            records = [self._pods[pod] for pod in names]
            size = self._estimate(records)
            free = self._room(names, size, {}) // size
            total = min(MOST, max(free, sum(record.capacity for record in records) // (REPLACED * size)))
            lru_time = min((record.lru_time for record in records), default=NEVER)
            partition = self._partitions[names] = _Partition(names, size, free, total, lru_time)
        return partition

    def _estimate(self, records: Iterable[InstanceRecord]) -> Units:
        """Size of a model, the better known the more there are."""
        count = used = 0
        for record in records:
            count, used = count + record.count, used + record.used
        if count < FEW:
            return self._default
        average = max(1, used // count)
        return Units(average if count > SOME else (average + self._default) // 2)

    def _room(self, pods: Iterable[PodId], size: Units, given: Mapping[PodId, int]) -> int:
        """Units that may be filled on some pods."""
        return sum(max(0, self._half(self._pods[pod], size) - given.get(pod, 0)) for pod in pods)

    def _half(self, record: InstanceRecord, size: Units) -> int:
        """Half of what is free on a pod, and can be loaded in one run."""
        loads = LOADS_A_THREAD * record.load_threads - record.loads_in_progress
        return max(0, min(record.capacity - record.used - record.capacity // SPARED, loads * size)) // 2

    def _give(self, partition: _Partition, units: int, given: dict[PodId, int]) -> None:
        """Notes where what is ordered will go: the pods with most space first, as placement has it."""
        left = {pod: self._half(self._pods[pod], partition.size) - given.get(pod, 0) for pod in partition.pods}
        for pod in sorted(partition.pods, key=lambda pod: -left[pod]):
            taken = max(0, min(units, left[pod]))
            given[pod] = given.get(pod, 0) + taken
            units -= taken
