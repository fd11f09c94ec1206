"""Numbers of references that are wrong in the registry, put right by the pod that leads."""

from __future__ import annotations

import asyncio
import logging

from mesh.core.errors import StoreUnavailable
from mesh.core.ids import AliasId, ModelId
from mesh.core.records import AliasRecord, ModelRecord
from mesh.core.references import References
from mesh.pod.clock import Clock
from mesh.store.registry import Registry

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two looks at what is wrong."""


class ReferenceKeeper:
    """Follows all models and aliases; corrects while this pod leads."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        self._registry, self._clock = registry, clock
        self._references = References(registry.models, registry.aliases, clock.now())
        registry.listen(self._model_changed, self._alias_changed)

    def _model_changed(self, model: ModelId, _record: ModelRecord | None) -> None:
        self._references.model_changed(model, self._clock.now())

    def _alias_changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        self._references.alias_changed(alias, record, self._clock.now())

    async def keep(self) -> None:
        """Works until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.correct()
            except StoreUnavailable as error:
                log.info("references are corrected later", extra={"cause": error.message})

    async def correct(self) -> None:
        """Puts right what has been wrong for long enough.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if not self._registry.leads or self._registry.read_only:
            return
        for correction in self._references.corrections(self._clock.now()):
            log.warning(
                "a model's number of references was wrong",
                extra={"model": correction.model, "counted": correction.seen, "aliases": sorted(correction.aliases)},
            )
            await self._registry.change(correction)
