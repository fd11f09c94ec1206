"""The pod's view of itself and the mesh in lines of text, for who asks for the status of a model named `***GETSTATE***` (reference 1.6)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice

from mesh.core.cache.copies import Copy
from mesh.core.ids import PodId
from mesh.core.placement.choice import Place, Rated, Wish
from mesh.core.placement.cluster import Cluster
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis, Units, bytes_of
from mesh.pod.conductor import Conductor
from mesh.store.registry import Registry

ASK, LOG = "***GETSTATE***", "***LOGCACHE***"
"""Names of no model (reference 1.6): the lines are the answer, or go to the log."""
MOST = 2_000
"""Copies told, the latest used ones: the answer has to fit into a message."""


class StateLines:
    """Writes the lines; asking changes nothing."""

    def __init__(self, conductor: Conductor, registry: Registry) -> None:
        self._conductor, self._registry = conductor, registry

    def lines(self) -> list[str]:
        """Lines of this pod begin with `CACHESTATE:`, those of the mesh with `CLUSTSTATE:`; sizes in bytes, times in UTC."""
        return [*(f"CACHESTATE: {line}" for line in self._own()), *(f"CLUSTSTATE: {line}" for line in self._mesh())]

    def _own(self) -> Iterable[str]:
        pod, now = self._conductor.pod, self._conductor.now()
        cache, record = pod.cache, self._registry.instances.get(pod.id)
        yield f"instance {pod.id} at {record.endpoint if record else 'an address not published yet'}, {_time(now)}"
        space = f"capacity={bytes_of(cache.policy.capacity)} used={bytes_of(cache.space.granted)} leaving={bytes_of(cache.space.leaving)}"
        yield f"{space} loading={cache.slots_used} queued={len(cache.queue)} runtime={'lost' if cache.paused else 'ready'}"
        if record is not None:
            yield f"record {_record(record, now)}"
        copies = sorted((*cache.current.values(), *cache.leaving.values()), key=lambda copy: -copy.last_used)
        yield f"{len(copies)} entries, latest used first:"
        yield from (_copy(copy, now) for copy in islice(copies, MOST))
        if len(copies) > MOST:
            yield f"and {len(copies) - MOST} more"

    def _mesh(self) -> Iterable[str]:
        pod, now, instances = self._conductor.pod, self._conductor.now(), self._registry.instances
        size = pod.cache.policy.default_size
        all_pods = Cluster(instances.items(), size).of("", pod.constraints)
        totals = f"{len(instances)} pods, capacity={bytes_of(Units(all_pods.capacity))} free={bytes_of(Units(all_pods.free))}"
        yield f"{totals} lru={_ago(all_pods.lru_time, now)} models={len(self._registry.models)} leader={self._registry.leader or 'nobody'}"
        yield "pods, best place for a further model first, (F) for full:"
        wish = Wish("", now, frozenset(), {}, size, pod.id)
        rated = [Rated(Place(PodId(other), record), wish, now, pod.cache.policy.churn_age) for other, record in instances.items()]
        for one in sorted(rated, key=lambda one: one.rank):
            yield f"{one.pod}{' (F)' if one.full else ''} {_record(one.record, now)}"


def _record(record: InstanceRecord, now: Millis) -> str:
    figures = f"models={record.count} used={bytes_of(record.used)}/{bytes_of(record.capacity)} lru={_ago(record.lru_time, now)}"
    loads = f"loading={record.loads_in_progress}/{record.load_threads} rpm={record.rpm} since={_time(record.start_time)}"
    labels = f"version={record.version} zone={record.zone or '-'} labels={','.join(record.labels) or '-'}"
    return f"{figures} {loads} {labels}{' shutting down' if record.shutting_down else ''}"


def _copy(copy: Copy, now: Millis) -> str:
    figures = f"state={copy.state.value} size={bytes_of(copy.weight)} used={_ago(copy.last_used, now)}"
    return f"{copy.id.model} {figures} calls={copy.running} waiting={copy.waiting} begun since the last rate tick={copy.begun}"


def _ago(at: Millis, now: Millis) -> str:
    return f"{(now - at) / 1000:.1f}s ago" if 0 < at < NEVER else "never"


def _time(at: Millis) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")
