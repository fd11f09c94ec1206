"""What the pod knows, as JSON for people and programs that ask: models, aliases, the pod itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mesh.core.cache.copies import GRANTED, Copy
from mesh.core.explaining.status import standing
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.edits import is_call
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.failed_loads import FailedLoads
from mesh.core.scaling.bounds import bounds_to_json
from mesh.core.traffic import versions
from mesh.core.traffic.reading import policy_to_json
from mesh.core.units import Millis, Units, bytes_of
from mesh.pod.census import Census
from mesh.pod.conductor import Conductor
from mesh.pod.explaining import Explanations
from mesh.pod.management import Management
from mesh.store.registry import Registry

Json = dict[str, Any]

SCAN = 250
"""Models, or aliases, looked at for one page: no view holds the event loop for long, however few of them it is to show."""

FOREIGN = "of another kind"
"""State of a pod with a router of ModelMesh, and of its copies: it is never called."""


class Facts:
    """Views of the pod's state; asking changes nothing."""

    def __init__(self, conductor: Conductor, registry: Registry, management: Management, census: Census) -> None:
        self._conductor, self._registry, self._management, self._census = conductor, registry, management, census
        self.explanations = Explanations(conductor, registry, census, self)
        self.wanted: Callable[[], Json] = lambda: {"runtimes": []}
        """How many pods each runtime wants, and why."""
        self.memory: Callable[[], Json] = lambda: {"state": "unknown", "why": "it is not measured"}
        """What memory the model server really holds."""
        self.accesses: Callable[[int], Json] = lambda after: {"entries": [], "next": after}
        """Calls and loads after the one of a number (`Accesses.page`)."""

    def pod(self) -> Json:
        """This pod: memory in bytes, times in epoch milliseconds."""
        pod = self._conductor.pod
        cache = pod.cache
        oldest = cache.recency.oldest()
        return {
            "id": pod.id,
            "labels": list(pod.labels),
            "capacity_bytes": bytes_of(cache.policy.capacity),
            "used_bytes": bytes_of(cache.space.granted),
            "leaving_bytes": bytes_of(cache.space.leaving),
            "free_bytes": bytes_of(cache.space.free),
            "models": sum(copy.state in GRANTED for copy in cache.current.values()),
            "oldest_used_ms": oldest.last_used if oldest else None,
            "loading": cache.slots_used,
            "queue": len(cache.queue),
            "runtime": "lost" if cache.paused else "ready",
            "memory": self.memory(),
            "registry": self._store(),
        }

    def _store(self) -> Json:
        """Whether the registry answers; if not, since when, and whether what is known comes from a snapshot (epoch milliseconds)."""
        trouble = self._registry.trouble
        if trouble is None:
            return {"state": "ready"}
        state = "away, started from a snapshot" if trouble.snapshot else "away"
        return {"state": state, "since_ms": trouble.since, "snapshot_ms": trouble.snapshot or None, "cause": trouble.message}

    def pods(self) -> Json:
        """All pods that live, by id, as they last told of themselves: memory in bytes, times in epoch milliseconds."""
        return {"pods": [self._pod(pod, record) for pod, record in sorted(self._registry.instances.items())]}

    def _pod(self, pod: PodId, record: InstanceRecord) -> Json:
        pods = self._conductor.pod.pods
        state = "shutting down" if record.shutting_down else "not answering" if pods.aside(pod) else "ready"
        if record.recycling and state == "ready":
            state = "recycling its model server"
        return {
            "id": pod,
            "state": state if record.endpoint else FOREIGN,
            "endpoint": record.endpoint or None,
            "version": record.version,
            "started_ms": record.start_time,
            "location": record.location,
            "zone": record.zone,
            "labels": list(record.labels),
            "capacity_bytes": bytes_of(record.capacity),
            "used_bytes": bytes_of(record.used),
            "free_bytes": bytes_of(Units(max(0, record.capacity - record.used))),
            "models": record.count,
            "oldest_used_ms": record.lru_time if 0 < record.lru_time < NEVER else None,
            "loading": record.loads_in_progress,
            "loads_at_a_time": record.load_threads,
            "rpm": record.rpm,
            "leads": pod == self._registry.leader,
        }

    def models(self, after: str = "", limit: int = 1000, part: str = "", pod: str = "", state: str = "") -> Json:
        """A page of models by id, without their stories.

        Args:
            after: the `next` of the page before. A page may be short, even empty, before the last, which has None there.
            limit: models at most.
            part: only ids with this text in them.
            pod: only models with a copy there.
            state: only models in this state (`ModelState`).
        """
        names = self._census.names
        page: list[Json] = []
        last = after
        for name in map(ModelId, names.after(after, SCAN)):
            last = name
            if part in name and (not pod or self._is_at(name, PodId(pod))):
                summary = self._summary(name)
                if state in ("", summary["state"]):
                    page.append(summary)
                    if len(page) == limit:
                        break
        return {"models": page, "total": len(names), "next": None if names.is_last(last) else last}

    def copies(self, after: str = "", until: str = "") -> Json:
        """This pod's own copies, of models whose id is greater than `after` and not greater than `until`; empty means no bound."""
        cache = self._conductor.pod.cache
        found = [copy for copies in (cache.current, cache.leaving) for copy in copies.values() if copy.id.model > after]
        return {"copies": [{"model": copy.id.model, **self._copy(copy)} for copy in found if not until or copy.id.model <= until]}

    def model(self, name: str) -> Json | None:
        """One model with its story; None if there is none."""
        model = ModelId(name)
        if model not in self._registry.models:
            return None
        story = [{"at_ms": line.at, "text": line.text} for line in self._conductor.pod.story(model)]
        return {**self._summary(model), "story": story}

    def aliases(self, after: str = "", limit: int = 1000) -> Json:
        """A page of aliases by name; `after`, `limit` and `next` as of `models`."""
        names = self._census.aliases
        page = names.after(after, min(limit, SCAN))
        return {"aliases": [self.alias(name) for name in page], "next": page[-1] if page and not names.is_last(page[-1]) else None}

    def alias(self, name: str) -> Json | None:
        """One alias; None if there is none."""
        record = self._registry.aliases.get(AliasId(name))
        if record is None:
            return None
        return {
            "id": name,
            "active": record.active,
            "target": record.target,
            "owner": record.owner,
            "failed": record.failed,
            "cause": record.cause or None,
            "bounds": bounds_to_json(record.bounds),
            "versions": [
                {
                    "number": one.version.number,
                    "model": one.version.model,
                    "since_ms": one.version.at or None,
                    "percent": one.percent,
                    "stable": one.stable,
                    "next": one.next,
                }
                for one in versions.standing(record)
            ],
            "traffic": policy_to_json(record.policy),
        }

    def _summary(self, model: ModelId) -> Json:
        pod, record = self._conductor.pod, self._registry.models[model]
        copy, failure = pod.copy(model), pod.cache.failures.of(model)
        leaving = pod.cache.leaving.get(model)
        status = self._management.status(model)
        now, window = self._conductor.now(), pod.cache.policy.failure_counts
        stands = standing(status, FailedLoads.of(record, (), now, window, failure.retry_at if failure else Millis(0)))
        failures = [
            {"pod": where, "message": record.failures.get(where, ""), "at_ms": at, "retry_at_ms": None}
            for where, at in record.failed.items()
            if where != pod.id
        ]
        if failure is not None:
            failures.append({"pod": pod.id, "message": failure.error.message, "at_ms": failure.at, "retry_at_ms": failure.retry_at})
        return {
            "id": model,
            "type": record.info.type,
            "path": record.info.path,
            "key": record.info.key,
            "state": status.state.name,
            "status_word": stands.word.value,
            "status": {"since_ms": stands.since or None, "retry_at_ms": stands.retry_at, "why": stands.why or None},
            "errors": list(status.errors),
            "copies": [self._copy(each) for each in (copy, leaving) if each is not None] + self._copies_elsewhere(record),
            "failures": failures,
            "refs": record.refs,
            "last_used_ms": copy.used() if copy else record.last_used,
            "called": not record.uncalled or (copy is not None and is_call(copy.last_used, copy.created)),
        }

    def _is_at(self, model: ModelId, pod: PodId) -> bool:
        """Whether a living pod has a copy, one on its way out included."""
        mine, pods = self._conductor.pod, self._registry.instances
        if pod == mine.id:
            return mine.copy(model) is not None or model in mine.cache.leaving
        return pod in pods and pod in self._registry.models[model].copies

    def _copies_elsewhere(self, record: ModelRecord) -> list[Json]:
        """Copies of other pods, as the registry shows them; those of pods that are gone do not count."""
        me, pods = self._conductor.pod.id, self._registry.instances

        def state(pod: PodId) -> str:
            # A router of another kind does not say when a load ended.
            return "ready" if pod in record.ready else "loading" if pods[pod].endpoint else FOREIGN

        return [
            {"pod": pod, "state": state(pod), "since_ms": record.ready.get(pod, wanted)}
            for pod, wanted in record.copies.items()
            if pod != me and pod in pods
        ]

    def _copy(self, copy: Copy) -> Json:
        return {
            "pod": self._conductor.pod.id,
            "state": copy.state.value,
            "since_ms": copy.since,
            "last_used_ms": copy.used(),
            "called": is_call(copy.last_used, copy.created),
            "weight_bytes": bytes_of(copy.weight),
            "calls": copy.running,
            "waiting": copy.waiting,
        }
