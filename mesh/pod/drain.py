"""A pod that ends hands its models over: each is served here until its replacement on another pod answers (reference 9.5)."""

from __future__ import annotations

import asyncio
import logging

from mesh.core.copies import SERVING, Copy
from mesh.core.edits import RemoveCopy
from mesh.core.errors import MeshError
from mesh.core.events import PodLeaves
from mesh.core.policy import HOUR
from mesh.pod.conductor import Conductor
from mesh.pod.loads import Loads
from mesh.store.registry import Registry

log = logging.getLogger(__name__)

AT_A_TIME = 10
"""Models that are handed over at the same time (reference 0.2, TASK_THREADS)."""
OVERLAP = 0.5
"""Seconds in which calls go to the old copy and to the new one, before the old one is taken from the record: pods that have not seen the
new one yet would find none."""
RECENTLY = HOUR
"""A model used longer ago is loaded elsewhere too, but not waited for (reference 0.2, CUTOFF_AGE_MS)."""


class Drain:
    """The end of a pod's part in the mesh."""

    def __init__(self, conductor: Conductor, registry: Registry, loads: Loads) -> None:
        self._conductor, self._registry, self._loads = conductor, registry, loads

    @property
    def alone(self) -> bool:
        """Whether no other pod stays."""
        return all(record.shutting_down for _, record in self._conductor.pod.pods.others())

    async def run(self, limit: float) -> None:
        """Hands over all that serves here, the most recently used first; after `limit` seconds what is left ends with the pod.

        The pod has told the others that it leaves, so nothing new comes.
        """
        self._conductor.tell(PodLeaves())
        serving = sorted(
            (copy for copy in self._conductor.pod.cache.current.values() if copy.state in SERVING), key=lambda copy: -copy.last_used
        )
        if self.alone or not serving:
            await self._deregister(serving)
            return
        log.info("handing over", extra={"models": len(serving)})
        turns = asyncio.Semaphore(AT_A_TIME)
        try:
            async with asyncio.timeout(limit), asyncio.TaskGroup() as group:
                for copy in serving:
                    group.create_task(self._hand_over(copy, turns))
        except TimeoutError:
            log.warning("not everything is handed over in time", extra={"limit_s": limit})
        await self._deregister(serving)

    async def _hand_over(self, copy: Copy, turns: asyncio.Semaphore) -> None:
        """Has a replacement loaded and, once it serves, takes this copy from the record."""
        pod = self._conductor.pod
        recent = self._conductor.now() - copy.last_used < RECENTLY
        async with turns:
            try:
                await self._loads.ensure(copy.id.model, last_used=copy.last_used, wait=recent, avoid=frozenset({pod.id}))
            except MeshError as error:
                log.warning("not handed over; it is served here to the end", extra={"model": copy.id.model, "cause": error.message})
                return
        if recent:
            await asyncio.sleep(OVERLAP)
        await self._deregister([copy])

    async def _deregister(self, copies: list[Copy]) -> None:
        """Takes copies from their models' records; one that is taken already stays so."""
        me, now = self._conductor.pod.id, self._conductor.now()
        for copy in copies:
            record = self._registry.models.get(copy.id.model)
            if record is None or me not in record.copies:
                continue
            try:
                await self._registry.change(RemoveCopy(copy.id.model, me, copy.created, copy.last_used, now))
            except MeshError as error:
                log.warning("the registry still shows copies of this pod; others know that it is gone", extra={"cause": error.message})
                return
