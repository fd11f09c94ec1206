"""Which pods are worth a look when a copy is placed: of a thousand, the best of the right kind and some in their turn.

A choice among all pods rates each, which takes milliseconds of a thousand. Here pods are kept in order of their latest figures, by their
labels, so that a choice rates some twenty: with the best of all among them, whatever is as good as these is as good as the best. The
others come in turn, so that a burst goes round over all that are equal. A mesh of few pods is looked at as a whole.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence, Set
from operator import itemgetter

from mesh.core.ids import PodId
from mesh.core.placement.constraints import Constraints, Labels
from mesh.core.registry.instances import InstanceRecord

FEW = 24
"""A mesh with no more pods is looked at as a whole."""
BEST = 4
"""Places that are looked at because they are the best of the kinds that a type prefers, and as many of all that may hold it; of each
version of the router."""
ROUND = 4
"""Places that are looked at because it is their turn."""

_Ranked = tuple[bool, int, int, int, int, int, PodId]
"""The order of desirability, as far as a pod's own record tells; the pod is the last of it."""


_Kind = tuple[Labels, int]
"""Labels and version of a pod."""


class _Group:
    """Pods of a kind: in the order of desirability, and by id."""

    __slots__ = ("pods", "ranked", "version")

    def __init__(self, version: int) -> None:
        self.version = version
        self.ranked: list[_Ranked] = []
        self.pods: list[PodId] = []


class Places:
    """All pods that stay and can be called, kept per change of one."""

    def __init__(self) -> None:
        self._groups: dict[_Kind, _Group] = {}
        self._ranks: dict[PodId, tuple[_Kind, _Ranked]] = {}
        self._kinds: dict[str, tuple[list[_Group], list[_Group]]] = {}
        self._constraints: Constraints | None = None

    def __len__(self) -> int:
        return len(self._ranks)

    def changed(self, pod: PodId, record: InstanceRecord | None) -> None:
        """A pod came, changed or went."""
        before = self._ranks.pop(pod, None)
        stays = record is not None and bool(record.endpoint) and not record.shutting_down
        after = ((record.labels, record.version), _rank(pod, record)) if record is not None and stays else None
        if before is not None:
            self._drop(pod, *before, stays=after is not None and after[0] == before[0])
        if after is None:
            return
        self._ranks[pod] = after
        kind, rank = after
        if kind not in self._groups:
            self._groups[kind] = _Group(kind[1])
            self._kinds.clear()
        group = self._groups[kind]
        insort(group.ranked, rank)
        at = bisect_left(group.pods, pod)
        if at == len(group.pods) or group.pods[at] != pod:
            group.pods.insert(at, pod)

    def worth(self, model_type: str, constraints: Constraints, unwanted: Set[PodId], turn: int) -> list[PodId]:
        """Pods to choose from.

        Args:
            model_type, constraints: what pods have to have, and had better have.
            unwanted: pods that are left out.
            turn: whose turn it is: any number, one more with each choice.
        """
        favoured, fitting = self._of_type(model_type, constraints)
        found = [*_in_turn(favoured or fitting, turn), *_best(favoured, unwanted), *_best(fitting, unwanted)]
        return [pod for pod in dict.fromkeys(found) if pod not in unwanted] if unwanted else list(dict.fromkeys(found))

    def _drop(self, pod: PodId, kind: _Kind, rank: _Ranked, *, stays: bool) -> None:
        group = self._groups[kind]
        del group.ranked[bisect_left(group.ranked, rank)]
        if not stays:
            del group.pods[bisect_left(group.pods, pod)]
        if not group.ranked and not stays:
            del self._groups[kind]
            self._kinds.clear()

    def _of_type(self, model_type: str, constraints: Constraints) -> tuple[list[_Group], list[_Group]]:
        """The groups that a type prefers, and all that it may go to."""
        if constraints is not self._constraints:
            self._constraints = constraints
            self._kinds.clear()
        known = self._kinds.get(model_type)
        if known is None:
            fitting = constraints.fitting(model_type)
            kinds = {labels for labels, _ in self._groups if fitting[labels]}
            favoured = constraints.favoured(model_type, kinds)
            groups = sorted(self._groups.items(), key=itemgetter(0))
            known = (
                [group for (labels, _), group in groups if labels in favoured],
                [group for (labels, _), group in groups if labels in kinds],
            )
            self._kinds[model_type] = known
        return known


def _rank(pod: PodId, record: InstanceRecord) -> _Ranked:
    free = record.capacity - record.used
    full = free * 20 < record.capacity
    return (full, record.lru_time if full else 0, record.count, -free, record.lru_time, record.rpm, pod)


def _best(groups: Sequence[_Group], unwanted: Set[PodId]) -> list[PodId]:
    """The best ones of some groups, of each version."""
    # So many of a group's first ones that enough are left of them.
    ahead = BEST + len(unwanted)
    firsts: dict[int, list[_Ranked]] = {}
    for group in groups:
        ranked = group.ranked[:ahead]
        if unwanted:
            ranked = [rank for rank in ranked if rank[-1] not in unwanted]
        firsts.setdefault(group.version, []).extend(ranked)
    return [rank[-1] for ranks in firsts.values() for rank in sorted(ranks)[:BEST]]


def _in_turn(groups: Sequence[_Group], turn: int) -> list[PodId]:
    """Those whose turn it is: some next to each other in the round of all."""
    found: list[PodId] = []
    count = sum([len(group.pods) for group in groups])
    wanted = min(ROUND, count)
    at, number = turn * ROUND % max(1, count), 0
    while len(found) < wanted:
        pods = groups[number % len(groups)].pods
        found += pods[at : at + wanted - len(found)]
        at, number = max(0, at - len(pods)), number + 1
    return found
