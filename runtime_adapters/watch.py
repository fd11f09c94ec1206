"""Watches the model server and says so through `grpc.health.v1`.

A connection that is lost means a server that is gone, and is told at once. Silence does not: MLServer answers nothing while it loads a
model or runs a long prediction, so only silence beyond a limit, with no load in progress, counts as down. Whoever sees NOT_SERVING and
then SERVING takes all models for lost; therefore everything is purged in between, which makes that true.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from runtime_adapters.adapter import Adapter
from runtime_adapters.errors import AdapterError, Late
from runtime_adapters.health import Health
from runtime_adapters.models import Models

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between two questions to a server that answers."""
PERIOD_DOWN = 0.25
"""Seconds between two questions to a server that does not."""
PATIENCE = 1.0
"""Seconds that one question may take."""


class Watch:
    """Keeps `health` true to the model server behind `adapter`. `silence_limit` in seconds."""

    def __init__(self, adapter: Adapter, models: Models, health: Health, silence_limit: float) -> None:
        self._adapter = adapter
        self._models = models
        self._health = health
        self._silence_limit = silence_limit
        self._server = f"{adapter.name} at {adapter.address}"

    async def run(self, opened: asyncio.Event) -> None:
        """Watch until cancelled. `opened` is set once the first answer, or its absence, shows in `health`.

        A server that already answers is taken as it is, with its models: this process restarted, not the server.
        """
        lost = asyncio.create_task(self._adapter.disconnected())
        try:
            if await self._problem() is None:
                self._health.set(True)
            opened.set()
            while True:
                if self._health.serving:
                    reason = await self._until_lost(lost)
                    self._health.set(False)
                    self._models.interrupt()
                    log.warning("%s is down: %s", self._server, reason)
                lost = await self._until_back(lost)
                self._health.set(True)
                log.info("%s is up", self._server)
        finally:
            lost.cancel()
            with suppress(asyncio.CancelledError):
                await lost

    async def _until_lost(self, lost: asyncio.Task[None]) -> str:
        """Return why the server counts as down."""
        clock = asyncio.get_running_loop().time
        heard = clock()
        while not lost.done():
            try:
                await self._adapter.live(PATIENCE)
                heard = clock()
            except Late:
                if self._models.loading:
                    heard = clock()
                elif clock() - heard > self._silence_limit:
                    return f"no answer for {self._silence_limit:g} s"
            except AdapterError as error:
                return str(error)
            await asyncio.wait([lost], timeout=PERIOD)
        return "connection lost"

    async def _until_back(self, lost: asyncio.Task[None]) -> asyncio.Task[None]:
        """Return once the server answers and is purged; the result watches the connection that this was seen on."""
        told = ""
        while True:
            if lost.done():
                lost = asyncio.create_task(self._adapter.disconnected())
            problem = await self._problem() or await self._purge()
            if problem is None and not lost.done():
                return lost
            if problem and problem != told:
                log.info("waiting for %s: %s", self._server, problem)
                told = problem
            await asyncio.sleep(PERIOD_DOWN)

    async def _problem(self) -> str | None:
        try:
            await self._adapter.live(PATIENCE)
        except AdapterError as error:
            return str(error)
        return None

    async def _purge(self) -> str | None:
        try:
            await self._models.purge()
        except (AdapterError, OSError) as error:
            return f"purge failed: {error}"
        return None
