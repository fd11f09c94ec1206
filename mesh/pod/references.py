"""Numbers of references that are wrong in the registry, put right by the pod that leads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from mesh.core.errors import StoreUnavailable
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.listing import Listing
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.registry.references import References
from mesh.core.registry.shelf import Shelf
from mesh.pod.clock import Clock
from mesh.store.registry import Registry
from mesh.store.tables import in_order

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two looks at what is wrong."""
PART, REST = 50, 0.002
"""Names that are looked at at a time, a millisecond's work, and seconds between."""
SPARED = 1000
"""Names whose references stay from then on, for the garbage collector: 2 ms of its work at most, as names lie anywhere in memory. It counts
lists, not what is in them: after as many as it lets come, it would go through the names of a thousand leaves at once."""


class ReferenceKeeper:
    """Follows all models and aliases while this pod leads, and corrects what is wrong.

    Args:
        registry, clock: of the pod.
        spare: hides from the garbage collector what is there and stays.
    """

    def __init__(self, registry: Registry, clock: Clock, spare: Callable[[], None] = lambda: None) -> None:
        self._registry, self._clock, self._spare = registry, clock, spare
        self._references: References | None = None
        registry.listen(self._model_changed, self._alias_changed)

    def _model_changed(self, model: ModelId, _record: ModelRecord | None) -> None:
        if self._references is not None:
            self._references.model_changed(model, self._clock.now())

    def _alias_changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        if self._references is not None:
            self._references.alias_changed(alias, record, self._clock.now())

    async def keep(self) -> None:
        """Works until it is cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.correct()
            except StoreUnavailable as error:
                log.info("references are corrected later", extra={"cause": error.message})

    async def count(self) -> References:
        """All references, from then on kept per change. Only who leads needs them: they are counted when it begins to, little by little."""
        if self._references is None:
            found = self._references = References(self._registry.models)
            # A million aliases are looked at one by one. What changes meanwhile is told as well.
            for number, part in enumerate(in_parts(in_order(self._registry.aliases)), 1):
                for name in part:
                    found.alias_changed(AliasId(name), self._registry.aliases.get(AliasId(name)), self._clock.now())
                if number % (SPARED // PART) == 0:
                    self._spare()
                await asyncio.sleep(REST)
            for part in in_parts(in_order(self._registry.models)):
                for name in part:
                    found.model_changed(ModelId(name), self._clock.now())
                await asyncio.sleep(REST)
        return self._references

    async def correct(self) -> None:
        """Puts right what has been wrong for long enough.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if not self._registry.leads or self._registry.read_only:
            self._references = None
            return
        references = await self.count()
        for correction in references.corrections(self._clock.now()):
            log.warning(
                "a model's number of references was wrong",
                extra={"model": correction.model, "counted": correction.seen, "aliases": sorted(correction.aliases)},
            )
            await self._registry.change(correction)


def in_parts(names: Shelf | Listing) -> Iterator[list[str]]:
    """Names in order, some at a time, while they come and go."""
    last = ""
    while part := names.after(last, PART):
        yield part
        last = part[-1]
