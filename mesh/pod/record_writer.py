"""Writes of a pod's copies into the models' records: in order for each model, and made good when the store answers again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

from mesh.core.errors import MeshError, StoreUnavailable
from mesh.core.events import EditDone, EditFailed, EditRefused
from mesh.core.ids import ModelId
from mesh.core.instructions import ChangeRecord
from mesh.pod.conductor import Conductor
from mesh.pod.tasks import Tasks
from mesh.store.registry import Registry

log = logging.getLogger(__name__)

PAUSE = (1.0, 3.0)
"""Seconds between two looks at whether the store answers again; drawn, so that not all pods write at the same moment."""


class RecordWriter:
    """Carries out `ChangeRecord`; the outcome goes back as an event.

    What the store did not take is not written later as it was ordered, for much may have happened since: then the record is told what is
    true of this pod's copy (`Pod.settled`).
    """

    def __init__(self, conductor: Conductor, registry: Registry, pause: tuple[float, float] = PAUSE) -> None:
        self._conductor, self._registry, self._pause = conductor, registry, pause
        self._writes: dict[ModelId, asyncio.Task[None]] = {}
        self._tasks = Tasks()
        self._missed: dict[ModelId, None] = {}
        self._settling = False

    def write(self, order: ChangeRecord) -> None:
        """Begins a write. Those of one model reach the registry in the order in which they were decided."""
        self._in_turn(order.edit.model, lambda: self._change(order))

    async def stop(self) -> None:
        """Ends everything that runs."""
        await self._tasks.stop()

    async def _change(self, order: ChangeRecord) -> None:
        model = order.edit.model
        try:
            if (trouble := self._registry.trouble) is not None:
                # A load does not wait for a store that is known to be away.
                raise StoreUnavailable(trouble.message)
            refusal = await self._registry.change(order.edit)
        except MeshError as error:
            log.warning("registry not written", extra={"model": model, "cause": error.message})
            self._miss(model)
            if order.copy is not None:
                self._conductor.tell(EditFailed(order.copy, error))
            return
        if order.copy is not None:
            self._conductor.tell(EditRefused(order.copy, refusal) if refusal else EditDone(order.copy))

    # What the store did not take

    def _miss(self, model: ModelId) -> None:
        self._missed[model] = None
        if not self._settling:
            self._settling = True
            self._tasks.begin(self._settle_all(), "writing what the registry missed")

    async def _settle_all(self) -> None:
        while self._missed:
            await asyncio.sleep(random.uniform(*self._pause))
            if self._registry.trouble is not None:
                continue
            for model in list(self._missed):
                del self._missed[model]
                await asyncio.wait([self._in_turn(model, lambda model=model: self._settle(model))])  # type: ignore[misc] # default
                if model in self._missed:
                    break
        self._settling = False

    async def _settle(self, model: ModelId) -> None:
        edit = self._conductor.pod.settled(model)
        if edit is None:
            return
        try:
            refusal = await self._registry.change(edit)
        except MeshError as error:
            log.info("registry still not written", extra={"model": model, "cause": error.message})
            self._missed[model] = None
            return
        if refusal is not None:
            log.warning("the registry does not show what is true of a copy here", extra={"model": model, "cause": refusal.message})

    # Tasks

    def _in_turn(self, model: ModelId, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Begins a write of a model's record once the one before is over."""
        before = self._writes.get(model)
        task = self._writes[model] = self._tasks.begin(_after(before, work), f"writing the record of {model}")
        task.add_done_callback(lambda done: self._writes.pop(model) if self._writes.get(model) is done else None)
        return task


async def _after(before: asyncio.Task[None] | None, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if before is not None:
        await asyncio.wait([before])
    await work()
