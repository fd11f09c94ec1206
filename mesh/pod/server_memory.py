"""Watches what memory the model server really holds, and has it begin anew when it leaks and users want that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mesh.core.cache.leaks import RECYCLE, Leaks, Recycling, Sample
from mesh.core.errors import MeshError
from mesh.core.explaining.decisions import Decision, Kind
from mesh.core.ids import ModelId
from mesh.core.instructions import Instruction, UnloadModel
from mesh.core.units import Millis, Units, bytes_of
from mesh.pod.conductor import Conductor
from mesh.runtime.process import RuntimeProcess
from mesh.telemetry import catalogue
from mesh.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

AGAIN = Millis(600_000)
"""ms before a recycling is tried again that failed, which is more than that it was not this pod's turn."""

Json = dict[str, Any]


class ServerMemory:
    """Of one pod.

    Args:
        process: is asked; a runtime that does not offer it is asked once.
        leaks: what is known, and the limit.
        interval: seconds from one look to the next; not above 0: none.
        recycle: has the server begin anew; with a word, why it is left alone for now. MeshError: it did not work.
    """

    def __init__(
        self,
        conductor: Conductor,
        process: RuntimeProcess,
        leaks: Leaks,
        metrics: Metrics,
        interval: float,
        recycle: Callable[[], Awaitable[str]],
    ) -> None:
        self._conductor, self._process, self._leaks, self._metrics = conductor, process, leaks, metrics
        self._interval, self._recycle = interval, recycle
        self._unloads = 0
        self._unknown = "it is not measured (MESH_RUNTIME_MEMORY_INTERVAL_MS)" if interval <= 0 else "it was not measured yet"
        self._at = Millis(0)
        self._not_before = Millis(0)
        self._recycling = False
        self._recycled = 0
        self._put_off = ""
        conductor.watch(self._ordered)
        metrics.read(catalogue.SERVER_HELD, lambda: None if self._unknown or leaks.sample is None else leaks.sample.held)
        metrics.read(catalogue.SERVER_UNUSED, lambda: None if self._unknown else leaks.unused)

    async def keep(self) -> None:
        """Works until it is cancelled, or the runtime turns out not to tell."""
        while self._interval > 0 and await self.look():
            await self._recycle_if_due()
            await asyncio.sleep(self._interval)

    async def look(self) -> bool:
        """Measures once; whether there is a point in doing so again."""
        before = self._models()
        held = await self._process.memory()
        if held is None:
            self._unknown = "the runtime does not tell it (mesh.runtime.v1.RuntimeProcess)"
            return False
        self._unknown = held.unknown
        if held.bytes is not None:
            # What loads or unloads meanwhile may be held or not: it counts as held by models.
            self._leaks.seen(Sample(held.process, held.bytes, max(before, self._models()), self._unloads))
            self._at = self._conductor.now()
        return True

    async def _recycle_if_due(self) -> None:
        grounds = self._leaks.grounds()
        if self._unknown:
            return
        if grounds.again() != RECYCLE:
            self._put_off = ""
            return
        if self._conductor.now() < self._not_before:
            return
        if not self._conductor.pod.cache.watched:
            self._wait("the runtime has no health service (grpc.health.v1), so nobody would learn that it is back")
            return
        if self._conductor.pod.cache.paused or self._conductor.pod.leaving:
            return
        self._recycling = True
        try:
            why = await self._recycle()
        except MeshError as error:
            self._not_before = Millis(self._conductor.now() + AGAIN)
            why = error.message
        finally:
            self._recycling = False
        if why:
            self._wait(why)
        else:
            self._done(grounds)

    def _wait(self, why: str) -> None:
        if why != self._put_off:
            log.warning("the model server leaks memory and is not recycled: %s", why, extra={"unused_bytes": self._leaks.unused})
        self._put_off = why

    def _done(self, grounds: Recycling) -> None:
        now = self._conductor.now()
        decision = Decision(Kind.RECYCLE, ModelId(""), now, RECYCLE, grounds.reason(), evidence=grounds)
        self._conductor.pod.cache.decisions.note(decision)
        self._metrics.count(catalogue.RECYCLES, 1)
        self._recycled += 1
        self._put_off = ""
        log.info("the model server was recycled", extra={"unused_bytes": grounds.unused})

    def told(self) -> Json:
        """For `explain`: sizes in bytes; `state` is `unknown`, or the trend of what is held and not used, with `why` in words."""
        leaks = self._leaks
        if self._unknown or leaks.sample is None:
            return {"state": "unknown", "why": self._unknown}
        return {
            "state": leaks.trend.value,
            "why": leaks.told(),
            "held_bytes": leaks.sample.held,
            "empty_bytes": leaks.empty,
            "models_bytes": leaks.sample.models,
            "unused_bytes": leaks.unused,
            "at_ms": self._at,
            "recycle_at_bytes": leaks.limit or None,
            "recycled": self._recycled,
            "recycling": self._recycling,
            "put_off": self._put_off or None,
        }

    def _models(self) -> int:
        """Bytes of the models that load, serve or leave."""
        space = self._conductor.pod.cache.space
        return bytes_of(Units(space.granted + space.leaving))

    def _ordered(self, instruction: Instruction) -> None:
        self._unloads += isinstance(instruction, UnloadModel)
