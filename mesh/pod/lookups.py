"""Names that this pod does not know are looked for in the store: another pod may have registered them a moment ago."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable

from mesh.core.errors import StoreUnavailable
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import ReadAlias
from mesh.core.registry.edits import Edit, ReadModel
from mesh.store.registry import Registry

AGAIN = 1.0
"""Seconds for which a name that the store does not have, or a store that does not answer, is not asked for again. What is registered
meanwhile shows in the mirror as soon as it is followed that far."""
MOST = 10_000
"""Names remembered as unknown."""


class Lookups:
    """One read of the store for each unknown name, however many ask for it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._running: dict[Hashable, asyncio.Task[None]] = {}
        self._unknown: OrderedDict[Hashable, float] = OrderedDict()
        self._away: tuple[float, str] | None = None

    async def model(self, model: ModelId) -> bool:
        """Whether there is such a model, and the mirror shows it now.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        if model not in self._registry.models:
            await self._read(ReadModel(model))
        return model in self._registry.models

    async def alias(self, alias: AliasId) -> bool:
        """As `model`, of an alias."""
        if alias not in self._registry.aliases:
            await self._read(ReadAlias(alias))
        return alias in self._registry.aliases

    async def _read(self, edit: ReadModel | ReadAlias) -> None:
        now = asyncio.get_running_loop().time()
        if self._unknown.get(edit, now) > now:
            return
        if (trouble := self._registry.trouble) is not None:
            raise _away(edit, trouble.message)
        if self._away is not None and self._away[0] > now:
            raise _away(edit, self._away[1])
        task = self._running.get(edit)
        if task is None:
            task = self._running[edit] = asyncio.get_running_loop().create_task(self._ask(edit))
            task.add_done_callback(lambda done: self._over(edit, done))
        try:
            await asyncio.shield(task)
        except StoreUnavailable as error:
            raise _away(edit, error.message) from None

    async def _ask(self, edit: Edit) -> None:
        await self._registry.change(edit)

    def _over(self, edit: ReadModel | ReadAlias, done: asyncio.Task[None]) -> None:
        """A name is unknown for a moment even if it was found: should its mirror's entry go in that moment, nobody has to ask again."""
        del self._running[edit]
        until = done.get_loop().time() + AGAIN
        error = None if done.cancelled() else done.exception()
        if isinstance(error, StoreUnavailable):
            self._away = (until, error.message)
        elif error is None:
            self._away = None
            self._unknown[edit] = until
            self._unknown.move_to_end(edit)
            while len(self._unknown) > MOST or next(iter(self._unknown.values())) <= until - AGAIN:
                self._unknown.popitem(last=False)


def _away(edit: ReadModel | ReadAlias, why: str) -> StoreUnavailable:
    name = f"model {edit.model}" if isinstance(edit, ReadModel) else f"vmodel {edit.alias}"
    return StoreUnavailable(f"{name} is not known to this pod, and whether it exists cannot be asked: {why}")
