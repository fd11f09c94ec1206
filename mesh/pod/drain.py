"""A pod that ends hands its models over: each is served here until its replacement on another pod answers (reference 9.5)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from mesh.core.cache.copies import SERVING, Copy
from mesh.core.errors import MeshError
from mesh.core.events import PodLeaves
from mesh.core.ids import ModelId, PodId
from mesh.core.policy import HOUR
from mesh.core.registry.edits import RemoveCopy
from mesh.core.registry.transitions import Living
from mesh.pod.conductor import Conductor
from mesh.pod.loads import Loads
from mesh.pod.travel import Travels
from mesh.store.registry import Registry

log = logging.getLogger(__name__)

AT_A_TIME = 10
"""Models that are handed over, or written about, at the same time (reference 0.2, TASK_THREADS)."""
OVERLAP = 0.5
"""Seconds in which both copies stand in the record although nobody calls: pods that have not seen the new one yet would find none."""
LONGEST_OVERLAP = 5.0
"""Seconds in which the new copy and then the old one should have answered a call."""
RECENTLY = HOUR
"""A model used longer ago is loaded elsewhere too, but not waited for (reference 0.2, CUTOFF_AGE_MS)."""


class _Overlap:
    """The time in which two copies of a model serve."""

    def __init__(self) -> None:
        self.called = False
        self.new_answered = False
        self.over = asyncio.Event()

    async def end(self) -> None:
        """Returns when the old copy answered after the new one did, or when there are no calls that could show it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(OVERLAP):
                await self.over.wait()
        if self.called:
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_OVERLAP - OVERLAP):
                    await self.over.wait()


class Drain:
    """The end of a pod's part in the mesh; sees which copies answer meanwhile."""

    def __init__(self, conductor: Conductor, registry: Registry, loads: Loads, travels: Travels) -> None:
        self._conductor, self._registry, self._loads = conductor, registry, loads
        self._living = Living(conductor.pod.id, registry.instances)
        self._overlaps: dict[ModelId, _Overlap] = {}
        travels.witness = self

    def answered_here(self, model: ModelId) -> None:
        """The old copy answered a call."""
        if (overlap := self._overlaps.get(model)) is not None:
            overlap.called = True
            if overlap.new_answered:
                overlap.over.set()

    def answered_elsewhere(self, model: ModelId) -> None:
        """The new copy answered a call."""
        if (overlap := self._overlaps.get(model)) is not None:
            overlap.called = overlap.new_answered = True

    @property
    def alone(self) -> bool:
        """Whether no other pod stays."""
        return all(record.shutting_down for _, record in self._conductor.pod.pods.others())

    async def run(self, limit: float) -> None:
        """Hands over all that serves here, what users want kept first, then the most recently used.

        After `limit` seconds what is left ends with the pod.
        The pod has told the others that it leaves, so nothing new comes.
        """
        self._conductor.tell(PodLeaves())
        await self._deregister(await self.hand_over(limit))

    async def hand_over(self, limit: float) -> list[Copy]:
        """Has other pods serve all that serves here, in that order; what of it this pod's records still show after `limit` seconds.

        Nothing new must come meanwhile.
        """
        serving = sorted(
            (copy for copy in self._conductor.pod.cache.current.values() if copy.state in SERVING),
            key=lambda copy: (not self._kept(copy), -copy.last_used),
        )
        if self.alone or not serving:
            return serving
        log.info("handing over", extra={"models": len(serving)})
        turns = asyncio.Semaphore(AT_A_TIME)
        try:
            async with asyncio.timeout(limit), asyncio.TaskGroup() as group:
                for copy in serving:
                    group.create_task(self._hand_over(copy, turns))
        except TimeoutError:
            log.warning("not everything is handed over in time", extra={"limit_s": limit})
        return serving

    async def _hand_over(self, copy: Copy, turns: asyncio.Semaphore) -> None:
        """Has a replacement loaded and, once it serves, takes this copy from the record.

        One that users want kept is waited for however long it was not used, and goes before what is merely in use elsewhere.
        """
        kept = self._kept(copy)
        recent = kept or self._conductor.now() - copy.last_used < RECENTLY
        last_used = self._conductor.now() if kept else copy.last_used
        async with turns:
            try:
                await self._loads.ensure(copy.id.model, last_used=last_used, wait=recent, avoid=self._no_replacements(copy.id.model))
            except MeshError as error:
                log.warning("not handed over; it is served here to the end", extra={"model": copy.id.model, "cause": error.message})
                return
        if recent:
            overlap = self._overlaps[copy.id.model] = _Overlap()
            await overlap.end()
        await self._deregister([copy])

    def _kept(self, copy: Copy) -> bool:
        bounds = self._conductor.pod.bounds.of(copy.id.model)
        return bounds.pinned or bounds.least > 0

    def _no_replacements(self, model: ModelId) -> frozenset[PodId]:
        """This pod, and the other holders as long as they are fewer than the model's minimum."""
        pod, record = self._conductor.pod, self._registry.models.get(model)
        others = self._living.stay(record.copies if record is not None else ()) - {pod.id}
        return frozenset({pod.id}) | (others if len(others) < pod.bounds.of(model).least else frozenset())

    async def _deregister(self, copies: list[Copy]) -> None:
        """Takes copies from their models' records, some at a time; one that is taken already stays so."""
        for begin in range(0, len(copies), AT_A_TIME):
            try:
                await asyncio.gather(*map(self._take_out, copies[begin : begin + AT_A_TIME]))
            except MeshError as error:
                log.warning("the registry still shows copies of this pod; others know that it is gone", extra={"cause": error.message})
                return

    async def _take_out(self, copy: Copy) -> None:
        model, me = copy.id.model, self._conductor.pod.id
        record = self._registry.models.get(model)
        if record is not None and me in record.copies:
            await self._registry.change(RemoveCopy(model, me, copy.created, copy.last_used, self._conductor.now()))
