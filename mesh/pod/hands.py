"""Carries out what the core orders: calls of the runtime, changes of records. Every outcome goes back as an event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from mesh.core.events import (
    LoadSucceeded,
    SizeMeasured,
    SizePredicted,
    UnloadFailed,
    UnloadSucceeded,
)
from mesh.core.ids import CopyId
from mesh.core.instructions import Abandon, ChangeRecord, Instruction, LoadModel, MeasureSize, NoteEviction, PredictSize, UnloadModel
from mesh.core.policy import UNLOAD_RETRIES
from mesh.core.units import Millis, bytes_of
from mesh.pod.conductor import Conductor
from mesh.pod.record_writer import RecordWriter
from mesh.pod.tasks import Tasks
from mesh.runtime.spi import Spi
from mesh.store.registry import Registry
from mesh.telemetry import traces
from mesh.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class RuntimeHands:
    """Hands on a real runtime and registry; one task for each thing that takes time."""

    def __init__(self, conductor: Conductor, spi: Spi, registry: Registry, metrics: Metrics) -> None:
        self._conductor, self._spi, self._metrics = conductor, spi, metrics
        self._records = RecordWriter(conductor, registry)
        self._tasks = Tasks()
        self._calls: dict[CopyId, asyncio.Task[None]] = {}
        self.emptied: Callable[[CopyId], Awaitable[None]] | None = None
        """Waits for calls on a copy that another plane began."""

    def carry_out(self, instruction: Instruction) -> None:
        """Begins what is to be done."""
        match instruction:
            case ChangeRecord():
                self._records.write(instruction)
            case PredictSize(copy, _):
                self._begin(self._predict(instruction), copy)
            case LoadModel(copy, _):
                self._begin(self._load(instruction), copy)
            case MeasureSize(copy):
                self._begin(self._measure(copy), copy)
            case UnloadModel(copy, _):
                self._begin(self._unload(instruction), copy)
            case Abandon(copy):
                running = self._calls.pop(copy, None)
                if running is not None:
                    running.cancel()
            case NoteEviction(model, age, grown):
                self._metrics.evicted(age, model, reason="growth" if grown else "room")
                log.info("evicted", extra={"model": model, "age_ms": age})

    # The runtime

    async def _predict(self, order: PredictSize) -> None:
        event, offered = await self._spi.predict(order.copy, order.info)
        self._conductor.pod.predicts = self._conductor.pod.predicts and offered
        self._conductor.tell(SizePredicted(event.copy, event.size))

    async def _load(self, order: LoadModel) -> None:
        model, loop, waited = order.copy.model, asyncio.get_running_loop(), Millis(0)
        copy = self._conductor.pod.copy(model)
        if copy is not None:
            waited = Millis(self._conductor.now() - copy.created)
            self._metrics.loading_queue_delay(waited, model)
        begun = loop.time()
        event = await self._spi.load(order.copy, order.info)
        took = (loop.time() - begun) * 1000
        traces.loaded(model, waited, took)
        if isinstance(event, LoadSucceeded):
            self._metrics.load(took, model)
            if event.size is not None:
                self._metrics.model_size(bytes_of(event.size), model)
            log.info("loaded", extra={"model": model, "ms": round(took)})
        else:
            self._metrics.load_failed()
            log.warning("load failed", extra={"model": model, "ms": round(took), "cause": event.message})
        self._conductor.tell(event)

    async def _measure(self, copy: CopyId) -> None:
        begun = asyncio.get_running_loop().time()
        event: SizeMeasured = await self._spi.measure(copy)
        self._metrics.sizing((asyncio.get_running_loop().time() - begun) * 1000, copy.model)
        if event.size is not None:
            self._metrics.model_size(bytes_of(event.size), copy.model)
        self._conductor.tell(event)

    async def _unload(self, order: UnloadModel) -> None:
        model, loop = order.copy.model, asyncio.get_running_loop()
        if order.after:
            await asyncio.sleep(order.after / 1000)
        if self.emptied is not None:
            await self.emptied(order.copy)
        begun = loop.time()
        event: UnloadSucceeded | UnloadFailed = await self._spi.unload(order.copy)
        if isinstance(event, UnloadSucceeded):
            self._metrics.unload((loop.time() - begun) * 1000, model)
            log.info("unloaded", extra={"model": model})
        else:
            self._metrics.unload_attempt_failed()
            leaving = self._conductor.pod.cache.copy(order.copy)
            if leaving is not None and leaving.tries == UNLOAD_RETRIES:
                self._metrics.unload_failed()
            log.warning("unload failed", extra={"model": model, "cause": event.message})
        self._conductor.tell(event)

    # Tasks

    def _begin(self, work: Coroutine[Any, Any, None], copy: CopyId) -> None:
        task = self._tasks.begin(work, f"work of the runtime on {copy}")
        self._calls[copy] = task
        task.add_done_callback(lambda done: self._calls.pop(copy) if self._calls.get(copy) is done else None)

    async def stop(self) -> None:
        """Ends everything that runs."""
        await self._tasks.stop()
        await self._records.stop()
