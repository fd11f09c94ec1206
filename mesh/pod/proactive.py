"""Has models loaded into free space before they are called, on the pod that leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from mesh.core.errors import MeshError
from mesh.core.explaining.decisions import Decision, Kind
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.transitions import Living
from mesh.core.scaling.proactive import Early, Filling
from mesh.pod.census import Census
from mesh.pod.conductor import Conductor
from mesh.pod.leading import Lead
from mesh.pod.loads import Loads
from mesh.store.registry import Registry

log = logging.getLogger(__name__)

FIRST = 120.0
"""Seconds after the start of a pod, or after it came to lead, before the first look: models that are called go first (reference 6.1)."""

PART = 250
"""Models looked at in one go; a millisecond or two, as each record has to be read."""

PACE = 0.05
"""Seconds between two orders. That a pod has taken a load on is waited for, not its end; the loads themselves wait for calls' loads."""


class ProactiveKeeper:
    """Works while this pod leads."""

    def __init__(self, registry: Registry, conductor: Conductor, loads: Loads, census: Census, interval: float) -> None:
        """Args:
        interval: seconds from the end of a run to the next; not above 0: none.
        """
        self._registry, self._conductor, self._loads, self._census = registry, conductor, loads, census
        self._interval = interval
        self._living = Living(conductor.pod.id, registry.instances)
        self._lead = Lead(registry)

    async def keep(self) -> None:
        """Works until it is cancelled."""
        while self._interval > 0:
            await self._lead.wait()
            await asyncio.sleep(min(FIRST, self._interval))
            while self._registry.leads:
                await self.fill()
                await asyncio.sleep(self._interval)

    async def fill(self) -> None:
        """One run."""
        pods = self._pods()
        if not pods or self._census.loaded == self._census.managed:
            return
        pod = self._conductor.pod
        filling = Filling(pods, pod.constraints, pod.cache.policy.default_size, self._conductor.now())
        await self._offer_all(filling)
        loaded = 0
        for early in filling.chosen():
            if not self._registry.leads:
                return
            loaded += await self._load(early)
            await asyncio.sleep(PACE)
        if loaded:
            log.info("models are loaded into free space", extra={"models": loaded})

    async def _offer_all(self, filling: Filling) -> None:
        names, models, last = self._census.names, self._registry.models, ""
        while part := names.after(last, PART):
            last = part[-1]
            for name in part:
                record = models.get(ModelId(name))
                if record is not None:
                    filling.offer(ModelId(name), record)
            await asyncio.sleep(0)

    async def _load(self, early: Early) -> bool:
        """Has a model loaded unless somebody did meanwhile; whether a pod took it on."""
        pod, record = self._conductor.pod, self._registry.models.get(early.model)
        if record is None or self._living.stay(record.copies):
            return False
        now = self._conductor.now()
        pod.cache.decisions.note(Decision(Kind.SCALE_UP, early.model, now, early.again(), early.reason(), evidence=early))
        try:
            await self._loads.ensure(early.model, last_used=early.last_used)
        except MeshError as error:
            log.debug("not loaded early", extra={"model": early.model, "cause": error.message})
            return False
        return True

    def _pods(self) -> Mapping[PodId, InstanceRecord]:
        """Pods that may be given models, as they last told of themselves."""
        return {pod: record for pod, record in self._registry.instances.items() if record.endpoint and not record.shutting_down}
