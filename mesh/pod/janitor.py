"""Has what the janitor finds put right, now and then, with pauses for other work."""

from __future__ import annotations

import asyncio
import logging
import random

from mesh.core.errors import StoreUnavailable, Unknown
from mesh.core.explaining.decisions import Decision, Kind
from mesh.core.ids import ModelId
from mesh.core.registry.janitor import Janitor, Order, Repair, deleted
from mesh.core.registry.mentions import Mentions
from mesh.core.registry.records import ModelRecord
from mesh.pod.conductor import Conductor
from mesh.store.registry import Registry

log = logging.getLogger(__name__)


class JanitorKeeper:
    """Works on every pod, for what is its own; and on the leader for what is nobody's."""

    def __init__(self, registry: Registry, conductor: Conductor, mentions: Mentions, interval: float) -> None:
        """Args:
        interval: seconds between two looks.
        """
        self._registry, self._conductor, self._interval = registry, conductor, interval
        self._janitor = Janitor(conductor.pod, registry.models, mentions, random.random())

    def model_changed(self, model: ModelId, record: ModelRecord | None) -> None:
        """To be told of every model there is, and of every change."""
        self._janitor.model_changed(model, record, self._conductor.now())

    async def keep(self) -> None:
        """Works until it is cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.info("the registry is looked over later", extra={"cause": error.message})

    async def sweep(self) -> None:
        """One look at all.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        leads = self._registry.leads and not self._registry.read_only
        for orders in self._janitor.sweep(self._conductor.now(), leads=leads):
            for order in orders:
                await self._carry_out(order)
            await asyncio.sleep(0)

    async def _carry_out(self, order: Order) -> None:
        if isinstance(order, Repair):
            pod, now, why = self._conductor.pod, self._conductor.now(), order.why
            reason = "the record did not say what is true of the copy here, and is written again"
            log.info(reason, extra={"model": why.model})
            pod.cache.decisions.note(Decision(Kind.REPAIR, why.model, now, why.again(), reason, evidence=why))
            self._conductor.tell(order.event)
            return
        refusal = await self._registry.change(order)
        if isinstance(refusal, Unknown):
            self._conductor.tell(deleted(order.model))
