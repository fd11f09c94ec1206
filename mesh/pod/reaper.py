"""What dead pods left in models' records, taken out by the pod that leads."""

from __future__ import annotations

import asyncio
import logging

from mesh.core.errors import StoreUnavailable
from mesh.core.explaining.decisions import Decision, Kind
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.mentions import Mentions
from mesh.core.registry.reaping import Absence, Absences, ForgetPods, in_parts
from mesh.pod.conductor import Conductor
from mesh.pod.leading import Lead
from mesh.store.registry import Registry

log = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds between looks at which pods are named and gone: a walk over pods, not over models, and nothing is written if there are none."""

PAUSE = 0.025
"""Seconds between two transactions: a thousand records a second at most."""


class Reaper:
    """Works while this pod leads and the registry may be written."""

    def __init__(self, registry: Registry, conductor: Conductor, mentions: Mentions) -> None:
        self._registry, self._conductor, self._mentions = registry, conductor, mentions
        self._absences = Absences()
        self._lead = Lead(registry)
        registry.listen_to_leadership(lambda _leads: self._absences.forget())

    async def keep(self) -> None:
        """Works until it is cancelled."""
        while True:
            await self._lead.wait()
            await asyncio.sleep(LOOK)
            try:
                await self.reap()
            except StoreUnavailable as error:
                self._absences.forget()
                log.info("what dead pods left in the registry is forgotten later", extra={"cause": error.message})

    async def reap(self) -> None:
        """Forgets the pods that have been gone for long enough.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        registry = self._registry
        if not registry.leads or registry.read_only:
            self._absences.forget()
            return
        living = registry.instances.keys() | {self._conductor.pod.id}
        absences = {absence.pod: absence for absence in self._absences.look(self._mentions.pods, living, self._conductor.now())}
        models: dict[ModelId, None] = {}
        for pod in absences:
            models.update(dict.fromkeys(self._mentions.of(pod)))
        if models:
            log.info("forgetting pods that are gone", extra={"pods": sorted(absences), "models": len(models)})
        for part in in_parts(models):
            if not registry.leads:
                return
            await self._forget(part, absences)
            await asyncio.sleep(PAUSE)

    async def _forget(self, models: tuple[ModelId, ...], absences: dict[PodId, Absence]) -> None:
        named = {model: [pod for pod in absences if model in self._mentions.of(pod)] for model in models}
        refusal = await self._registry.change(ForgetPods(models, frozenset(absences)))
        if refusal is not None:
            log.warning("what dead pods left is not forgotten", extra={"models": len(models), "cause": refusal.message})
            return
        pod = self._conductor.pod
        for model, pods in named.items():
            for gone in pods:
                if model in self._mentions.of(gone):
                    continue
                reason = f"pod {gone} is gone: its copy or failure is taken out of the model's record"
                pod.cache.stories.tell(model, self._conductor.now(), reason)
                pod.cache.decisions.note(Decision(Kind.REPAIR, model, self._conductor.now(), "forget", reason, evidence=absences[gone]))
