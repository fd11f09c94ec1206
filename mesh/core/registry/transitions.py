"""What brings an alias from its active to its target model without calls noticing (reference 1.9, and its author's intention).

The target is to have as many ready copies as the active model has copies, on pods that live and stay. A copy on a pod that is gone, or
on a router of another kind, serves no call from here and does not count; one on a pod that is leaving is about to be replaced and does
not count either. Where there is no room for as many, calls go to the target with what it has, at least one copy.

While its target loads, an active model that was evicted stays what calls go to: it loads on demand, and the target may turn out to be
broken. Only one that failed to load itself gives way at once, unless the target failed too. One that has no copy at all gives way as
well where no pod has room for a model that was not called for so long: either would load on demand, and the target is the one asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelRecord


@dataclass(frozen=True, slots=True)
class Switch:
    """Send calls to the target; `missing` copies are fewer than the active model has."""

    missing: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """Have one more copy loaded, on another pod than these."""

    avoid: frozenset[PodId] = frozenset()


@dataclass(frozen=True, slots=True)
class Wait:
    """Until something changes."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """The target has no copy and gets none."""


Step = Switch | Load | Wait | Blocked


@dataclass(frozen=True, slots=True)
class Orders:
    """What was done so far.

    Attributes:
        outstanding: holders of the target that each copy under way was ordered to avoid.
        more: whether another copy may be ordered: False after one that could not be had.
        proven: a copy was seen to serve, whatever the record shows.
        no_room: the one that could not be had found no pod with room for it; nothing is known against the model.
    """

    outstanding: tuple[frozenset[PodId], ...] = ()
    more: bool = True
    proven: bool = False
    no_room: bool = False


Models = Mapping[ModelId, ModelRecord]


@dataclass(frozen=True, slots=True)
class Living:
    """The pods that live, as `me` sees them; `me` does whatever the registry shows."""

    me: PodId
    instances: Mapping[PodId, InstanceRecord]

    def serve(self, pods: Iterable[PodId]) -> frozenset[PodId]:
        """Those whose copies serve calls from here."""
        return frozenset(pod for pod in pods if pod == self.me or ((record := self.instances.get(pod)) is not None and record.endpoint))

    def stay(self, pods: Iterable[PodId]) -> frozenset[PodId]:
        """Those of them that are not about to leave."""
        return frozenset(pod for pod in self.serve(pods) if pod not in self.instances or not self.instances[pod].shutting_down)


def next_step(alias: AliasRecord, models: Models, living: Living, orders: Orders) -> Step:
    """What to do for an alias in transition."""
    active, target = models.get(alias.active), models.get(alias.target)
    if target is None:
        return Wait()
    holders = living.stay(target.copies)
    ready = len(holders & target.ready.keys()) or int(orders.proven)
    wanted = max(1, len(living.stay(active.copies))) if active is not None else 0
    if ready >= wanted:
        return Switch()
    if active is not None and _broken(active, living) and not target.failed:
        return Switch(wanted)
    if not ready:
        if orders.outstanding:
            return Wait()
        if orders.more:
            return Load()
        idle = active is not None and not active.copies
        return Switch() if orders.no_room and idle and not target.failed else Blocked()
    if orders.more and len(holders) < wanted and all(holders - avoided for avoided in orders.outstanding):
        return Load(holders)
    if orders.outstanding or len(holders) > ready:
        return Wait()
    return Switch(wanted - ready)


def grounds(alias: AliasRecord, models: Models, living: Living) -> tuple[object, ...]:
    """What speaks for trying a blocked transition again, once it is another than before."""
    active, target = models.get(alias.active), models.get(alias.target)
    failed = frozenset(target.failed.items()) if target is not None else None
    # Copies that only come say nothing: those of the attempts that failed still show for a moment.
    holders = living.stay(target.ready) if target is not None else None
    return failed, holders, living.stay(living.instances), active is not None and _broken(active, living)


def _broken(active: ModelRecord, living: Living) -> bool:
    """Whether the active model serves nobody because it could not be loaded."""
    return bool(active.failed) and not living.serve(active.copies)
