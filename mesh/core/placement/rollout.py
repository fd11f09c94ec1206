"""Which pods are about to be replaced by a rolling update (reference 9.6), so that nothing new goes to them.

Nobody tells a router of an update; it shows in the pods that come and go. A Deployment names its pods `…<hash of the replica set>-<five
characters>`, and a pod's id is the end of that name. Pods with other names, of a StatefulSet or of a local mesh, are never held outdated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.core.ids import PodId
from mesh.core.placement.constraints import Labels
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis

START_COUNTS = Millis(600_000)
"""A newer replica set whose last pod started less than this ago replaces the older ones (reference 9.6)."""

START_COUNTS_WHILE_CHANGING = Millis(1_200_000)
CHANGE_COUNTS = Millis(900_000)
"""Started less than the first ago, it still does as long as the older set lost or got a pod within the second (reference 9.6)."""

_HASH = 6
_ID = 12
"""Of an id's twelve characters the first six end the replica set's hash; a dash follows."""


@dataclass(slots=True)
class _ReplicaSet:
    """Pods made by one version of a Deployment: when the first and the last of them started, and when one last came or went."""

    began: Millis
    latest: Millis
    changed: Millis
    pods: set[PodId] = field(default_factory=set)

    def add(self, pod: PodId, start: Millis) -> None:
        self.pods.add(pod)
        self.began = min(self.began, start)
        self.latest = max(self.latest, start)
        self.changed = max(self.changed, start)


class Rollout:
    """Follows the replica sets of the mesh, each among the pods with the same labels.

    A set that got a pod since the newest one began is in use and not being replaced: two versions side by side.
    """

    def __init__(self) -> None:
        self._sets: dict[tuple[Labels, str], _ReplicaSet] = {}
        self._home: dict[PodId, tuple[Labels, str]] = {}
        self._outdated: frozenset[PodId] = frozenset()
        self._until = Millis(0)

    def seen(self, pod: PodId, record: InstanceRecord, now: Millis) -> None:
        """A pod's record appeared or changed. A set's size and starts count its pods, however often their records change.

        A pod that says it is shutting down has left its set.
        """
        home = (record.labels, pod[:_HASH])
        if self._home.get(pod) not in (home, None) or record.shutting_down:
            self.gone(pod, now)
        if record.shutting_down or len(pod) != _ID or pod[_HASH] != "-" or pod in self._home:
            return
        start = record.start_time
        self._home[pod] = home
        self._sets.setdefault(home, _ReplicaSet(start, start, start)).add(pod, start)
        self._until = Millis(0)

    def gone(self, pod: PodId, now: Millis) -> None:
        """A pod's record is gone."""
        home = self._home.pop(pod, None)
        if home is None:
            return
        left = self._sets[home]
        left.changed = now
        left.pods.discard(pod)
        if not left.pods:
            del self._sets[home]
        self._until = Millis(0)

    def outdated(self, now: Millis) -> frozenset[PodId]:
        """The pods that are likely being replaced; worked out again when a pod came or went, or a time ran out."""
        if now >= self._until:
            self._outdated, self._until = self._work_out(now)
        return self._outdated

    def _work_out(self, now: Millis) -> tuple[frozenset[PodId], Millis]:
        newest: dict[Labels, _ReplicaSet] = {}
        for (labels, _), one in self._sets.items():
            if labels not in newest or one.began > newest[labels].began:
                newest[labels] = one
        pods: set[PodId] = set()
        until = NEVER
        for (labels, _), one in self._sets.items():
            ends = _replaced_until(one, newest[labels])
            if now < ends:
                pods.update(one.pods)
                until = min(until, ends)
        return frozenset(pods), until


def _replaced_until(old: _ReplicaSet, new: _ReplicaSet) -> Millis:
    if old.latest >= new.began:
        return Millis(0)
    while_changing = min(new.latest + START_COUNTS_WHILE_CHANGING, old.changed + CHANGE_COUNTS)
    return Millis(max(new.latest + START_COUNTS, while_changing))
