"""This pod's part in a registry that others see too: it cleans up after its former life, tells how it is, restores what a reset lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from mesh.core.edits import ClearFailure, Edit, RemoveCopy, RestoreAlias, RestoreModel
from mesh.core.errors import MeshError
from mesh.core.ids import AliasId, ModelId
from mesh.core.instances import NEVER, InstanceRecord
from mesh.core.records import AliasRecord, ModelRecord
from mesh.core.units import Millis
from mesh.pod.conductor import Conductor
from mesh.settings import Settings
from mesh.store.registry import Registry

log = logging.getLogger(__name__)

PERIOD = 40.0
"""Seconds between looks at whether the pod's record has changed (reference 0.2, INSTANCE_REC_PUBLISH_FREQ_MS)."""


class Membership:
    """One pod among others."""

    def __init__(self, registry: Registry, conductor: Conductor, settings: Settings) -> None:
        self._registry, self._conductor, self._settings = registry, conductor, settings
        self._started = conductor.now()
        self._published: InstanceRecord | None = None
        self._restoring: set[asyncio.Task[None]] = set()
        registry.listen_to_losses(self._lost)

    async def begin(self) -> None:
        """Takes this pod out of the records that its former life stands in: the runtime starts empty. Then publishes the pod.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        me, now = self._conductor.pod.id, self._conductor.now()
        for model, record in list(self._registry.models.items()):
            if me in record.copies:
                await self._registry.change(RemoveCopy(model, me, record.copies[me], record.last_used, now))
            if me in record.failed:
                await self._registry.change(ClearFailure(model, me))
        await self._publish()

    async def keep(self) -> None:
        """Publishes changes until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            try:
                await self._publish()
            except MeshError as error:
                log.warning("the pod's record is not written", extra={"cause": error.message})

    async def _publish(self) -> None:
        record = self._record()
        if record != self._published:
            await self._registry.publish(self._conductor.pod.id, record)
            self._published = record

    def _record(self) -> InstanceRecord:
        cache, settings = self._conductor.pod.cache, self._settings
        oldest = cache.recency.oldest()
        return InstanceRecord(
            start_time=self._started,
            location=settings.location or settings.pod_address,
            zone=settings.zone,
            labels=tuple(settings.labels),
            lru_time=Millis(oldest.last_used) if oldest else NEVER,
            count=len(cache.current),
            capacity=cache.policy.room,
            used=cache.space.granted,
            load_threads=cache.policy.slots,
            loads_in_progress=cache.slots_used + len(cache.queue),
        )

    def _lost(self, models: Mapping[ModelId, ModelRecord], aliases: Mapping[AliasId, AliasRecord]) -> None:
        log.warning("the registry was reset; what it lost is written again", extra={"models": len(models), "aliases": len(aliases)})
        task = asyncio.get_running_loop().create_task(self._restore(dict(models), dict(aliases)))
        self._restoring.add(task)
        task.add_done_callback(self._restoring.discard)

    async def _restore(self, models: Mapping[ModelId, ModelRecord], aliases: Mapping[AliasId, AliasRecord]) -> None:
        edits: list[Edit] = [
            *(RestoreModel(model, record) for model, record in models.items()),
            *(RestoreAlias(alias, record) for alias, record in aliases.items()),
        ]
        for edit in edits:
            try:
                await self._registry.change(edit)
            except MeshError as error:
                log.error("not restored after a reset of the registry", extra={"edit": repr(edit), "cause": error.message})

    async def stop(self) -> None:
        """Ends what is under way."""
        for task in list(self._restoring):
            task.cancel()
        await asyncio.gather(*self._restoring, return_exceptions=True)
