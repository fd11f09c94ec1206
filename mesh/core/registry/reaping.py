"""What pods leave behind in models' records when they die: forgotten seconds after their leases ended (reference 6.9 takes 10 to 24 min).

A lease ends long after its pod does, so the grace that follows is short. Where half of the pods are gone at once it is the way to them,
or the store, that failed more likely than they, and they may be back in a moment with all that they hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass

from mesh.core.errors import MeshError
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import to_json
from mesh.core.ids import ModelId, PodId
from mesh.core.policy import SECOND
from mesh.core.registry.edits import Transaction
from mesh.core.registry.mentions import named
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis

NAME = "forgetting"
"""What the JSON calls the function."""

GRACE = Millis(3 * SECOND)
"""A pod that restarts under its id, or whose lease was lost and renewed, is there again within this."""

GRACE_OF_MANY = Millis(60 * SECOND)
"""The same if many pods are gone at once: more than two leases, so that all that can come back has."""

TOGETHER = 25
"""Models whose records are written in one transaction; etcd takes 128 operations."""


@dataclass(frozen=True, slots=True)
class Absence:
    """What is decided by whether a pod that records name is forgotten.

    Attributes:
        since: when it was first seen to be gone, by a pod that led all the time since.
        gone: pods that records name and that are gone, this one among them.
        living: pods that live.
    """

    pod: PodId
    since: Millis
    now: Millis
    gone: int
    living: int

    @property
    def grace(self) -> Millis:
        """How long it has to be gone."""
        return GRACE_OF_MANY if self.gone > 1 and self.gone >= self.living else GRACE

    def again(self) -> str:
        """`forget` or `wait`."""
        return "forget" if self.now - self.since >= self.grace else "wait"

    def candidates(self) -> Sequence[Candidate]:
        """The pod itself."""
        return [Candidate(self.pod, self.again() == "forget", {"gone_ms": self.now - self.since, "grace_ms": self.grace})]

    def would_change(self) -> Sequence[str]:
        """What would have kept its copies in the records."""
        return [f"the record of pod {self.pod} in the registry, which ends with its lease, had come back within {self.grace // SECOND} s"]

    def inputs(self) -> dict[str, object]:
        """As JSON; times in epoch milliseconds."""
        return to_json(NAME, self)


class Absences:
    """Pods that records name and that do not live, and since when."""

    def __init__(self) -> None:
        self._since: dict[PodId, Millis] = {}

    def forget(self) -> None:
        """Begins anew: who did not lead, or could not see the store, cannot say since when a pod is gone."""
        self._since.clear()

    def look(self, named_pods: Iterable[PodId], living: Set[PodId], now: Millis) -> list[Absence]:
        """Pods whose time is over."""
        gone = sorted(pod for pod in named_pods if pod not in living)
        self._since = {pod: self._since.get(pod, now) for pod in gone}
        absences = (Absence(pod, since, now, len(gone), len(living)) for pod, since in self._since.items())
        return [absence for absence in absences if absence.again() == "forget"]


@dataclass(frozen=True, slots=True)
class ForgetPods:
    """Takes pods that are gone out of models' records: their copies, and their failures, which count no more toward a model's tries.

    The pods' own records are read in the same transaction, so one that comes back in this very moment keeps what it has.
    """

    models: tuple[ModelId, ...]
    pods: frozenset[PodId]

    def apply(self, records: Transaction) -> MeshError | None:
        """Never refuses."""
        for model in self.models:
            record = records.model(model)
            if record is None:
                continue
            gone = {pod for pod in sorted(named(record) & self.pods) if records.instance(pod) is None}
            if gone:
                records.put_model(model, without(record, gone))
        return None


def without(record: ModelRecord, pods: Set[PodId]) -> ModelRecord:
    """A record that names these pods no more."""
    parts = {"copies": record.copies, "ready": record.ready, "failed": record.failed, "failures": record.failures}
    return record.with_(**{name: {pod: value for pod, value in part.items() if pod not in pods} for name, part in parts.items()})


def in_parts(models: Iterable[ModelId], size: int = TOGETHER) -> Iterator[tuple[ModelId, ...]]:
    """So many models at a time."""
    every = list(models)
    for begin in range(0, len(every), size):
        yield tuple(every[begin : begin + size])
