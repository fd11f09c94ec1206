"""Has the copies loaded that users asked for, whatever the load: one pod does it for all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from mesh.core.errors import MeshError
from mesh.core.explaining.decisions import Decision, Kind
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.policy import AGE_ON_LOAD
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.mentions import Mentions
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.registry.transitions import Living
from mesh.core.scaling.minimum import ORDER, START, Minimum, Stock, just_started
from mesh.core.traffic.versions import weighted
from mesh.core.units import Millis
from mesh.pod.conductor import Conductor
from mesh.pod.leading import leads_ours
from mesh.pod.tasks import Tasks
from mesh.store.registry import Registry
from mesh.store.tables import noted

log = logging.getLogger(__name__)

SETTLE = 1.0
"""Seconds until a change is looked at: loads that others have ordered by then, as a drain or a registration does, show in the records."""

AT_A_TIME = 10
"""Copies that are ordered at the same time (reference 0.2, TASK_THREADS)."""

PART = 100
"""Models looked at before other work gets its turn."""


class Loader(Protocol):
    """Has models loaded; `mesh.pod.loads.Loads` is one."""

    async def ensure(self, model: ModelId, *, last_used: Millis, wait: bool, avoid: frozenset[PodId]) -> object:
        """Returns when a copy serves on a pod that is not to be avoided; raises a MeshError if there is none."""
        ...


class MinimumKeeper:
    """Follows bounded models on every pod, and orders copies while this one leads. Of models without bounds it knows nothing."""

    def __init__(self, registry: Registry, conductor: Conductor, loads: Loader, mentions: Mentions) -> None:
        """Args:
        mentions: told of every change before this is.
        """
        self._registry, self._conductor, self._loads, self._mentions = registry, conductor, loads, mentions
        self._living = Living(conductor.pod.id, registry.instances)
        self._minimum = Minimum()
        self._tasks = Tasks()
        self._orders = 0
        self._changed: dict[ModelId, None] = {}
        self._wake = asyncio.Event()
        self._staying = {pod: not record.shutting_down for pod, record in registry.instances.items()}
        self._born = conductor.now()
        self._fresh = False
        self._served: dict[AliasId, frozenset[ModelId]] = {}
        for alias, record in noted(registry.aliases):
            self._alias_changed(alias, record, known=True)
        registry.listen(self._model_changed, self._alias_changed)
        registry.listen_to_instances(self._instance_changed)
        registry.listen_to_leadership(lambda _leads: self._look_at_all())

    # What is told; the pod's bounds were told before

    def _alias_changed(self, alias: AliasId, record: AliasRecord | None, *, known: bool = False) -> None:
        bounds = self._conductor.pod.bounds
        self._look_again(self._served.pop(alias, ()))
        if record is None:
            return
        if served := frozenset(model for model in (record.active, *weighted(record)) if model in bounds.bounded):
            self._served[alias] = served
            for model in served:
                self._minimum.bounded(model, bounds.kept(model), known=known)
            self._look_again(served)

    def _model_changed(self, model: ModelId, _record: ModelRecord | None) -> None:
        if model in self._conductor.pod.bounds.bounded:
            self._look_at(model)

    def _instance_changed(self, pod: PodId, record: InstanceRecord | None) -> None:
        """Pods tell of themselves often; what matters is that they come, leave and go."""
        before, stays = self._staying.pop(pod, False), record is not None and not record.shutting_down
        if stays:
            self._staying[pod] = True
        if stays == before:
            return
        bounded = self._conductor.pod.bounds.bounded
        self._look_again([model for model in self._mentions.of(pod) if model in bounded])
        if stays:
            self._look_again(self._minimum.pod_came())

    def _look_at_all(self) -> None:
        self._look_again(self._conductor.pod.bounds.bounded)

    def _look_again(self, models: Iterable[ModelId]) -> None:
        self._changed.update(dict.fromkeys(models))
        self._wake.set()

    def _look_at(self, model: ModelId) -> None:
        self._changed[model] = None
        self._wake.set()

    # The work

    async def keep(self) -> None:
        """Works until it is cancelled."""
        try:
            while True:
                await self._pause()
                await asyncio.sleep(SETTLE)
                self._notice_a_new_mesh()
                await self._look_over()
        finally:
            await self._tasks.stop()

    async def _pause(self) -> None:
        """Until something changed, an order may be repeated, or the mesh may turn out to be new."""
        due, now = self._minimum.timers.next_due(), self._conductor.now()
        limit = None if due is None else max(0, due - now) / 1000
        if not self._fresh and now - self._born < START:
            limit = 5.0 if limit is None else min(limit, 5.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._wake.wait()
        self._wake.clear()

    def _notice_a_new_mesh(self) -> None:
        """A mesh that was just started preloads; records of its former life may outlive that by a lease, so it may show a little late."""
        now = self._conductor.now()
        if not self._fresh and now - self._born < START and self._staying and just_started(self._registry.instances, now):
            self._fresh = True
            self._minimum.mesh_started()
            self._look_again(self._minimum.preloading)

    async def _look_over(self) -> None:
        """Looks at what changed. A pod that does not act remembers what it sees, and looks at all when it comes to lead."""
        for model in self._minimum.timers.take_due(self._conductor.now()):
            self._changed[model] = None
        act = leads_ours(self._registry, self._living)
        models, self._changed = list(self._changed), {}
        places: dict[str, int] = {}
        for number, model in enumerate(models):
            if number % PART == PART - 1:
                await asyncio.sleep(0)
            if act and self._orders >= AT_A_TIME:
                # The end of an order wakes.
                self._changed.update(dict.fromkeys(models[number:]))
                return
            stock = self._stock(model, places)
            if stock is not None and act and stock.again() == ORDER:
                self._order(stock)

    def _stock(self, model: ModelId, places: dict[str, int]) -> Stock | None:
        """How a model stands; `places` gathers how many pods could have a model of each type."""
        bounds, record = self._conductor.pod.bounds, self._registry.models.get(model)
        if record is None or model not in bounds.bounded:
            self._minimum.gone(model)
            return None
        kind = record.info.type
        if kind not in places:
            places[kind] = self._places(kind)
        holders = self._living.stay(record.copies)
        return self._minimum.look(model, bounds.kept(model), bool(record.ready), holders, places[kind], self._conductor.now())

    def _places(self, kind: str) -> int:
        pod = self._conductor.pod
        pods = self._living.stay(self._registry.instances) | (frozenset() if pod.leaving else {pod.id})
        return sum(pod.constraints.refusal(kind, self._labels(one)) is None for one in pods)

    def _labels(self, pod: PodId) -> tuple[str, ...]:
        record = self._registry.instances.get(pod)
        return tuple(self._conductor.pod.labels) if record is None else record.labels

    def _order(self, stock: Stock) -> None:
        pod, holders = self._conductor.pod, frozenset(stock.holders)
        pod.cache.decisions.note(Decision(Kind.SCALE_UP, stock.model, stock.now, ORDER, stock.reason(), evidence=stock))
        pod.cache.stories.tell(stock.model, stock.now, f"one more copy is ordered; {stock.reason()}")
        self._minimum.ordered(stock.model, holders)
        self._orders += 1
        self._tasks.begin(self._load(stock, holders), f"loading a copy of {stock.model}")
        # Further copies of the model are ordered once this one shows in the record, which is told.

    async def _load(self, stock: Stock, holders: frozenset[PodId]) -> None:
        record = self._registry.models.get(stock.model)
        aged = Millis(self._conductor.now() - AGE_ON_LOAD)
        # What users want kept goes before what is merely in use; what is only to be loaded early does not.
        preload = Millis(max(record.last_used if record else 0, aged))
        last_used = preload if stock.why == "preload" else self._conductor.now()
        loaded = False
        try:
            await self._loads.ensure(stock.model, last_used=last_used, wait=True, avoid=holders)
            loaded = True
        except MeshError as error:
            log.info("a copy that users want is not loaded", extra={"model": stock.model, "why": stock.why, "cause": error.message})
        finally:
            self._orders -= 1
            self._minimum.done(stock.model, holders, self._conductor.now(), loaded=loaded)
            self._look_at(stock.model)
