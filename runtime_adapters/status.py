"""What `runtimeStatus` answers: that everything is purged, how much memory there is for models, and which methods there are."""

from __future__ import annotations

import asyncio
import logging

from mesh.protocols import model_runtime_pb2 as spi
from runtime_adapters.adapter import Adapter
from runtime_adapters.errors import AdapterError
from runtime_adapters.health import Health
from runtime_adapters.models import Models
from runtime_adapters.settings import Settings

log = logging.getLogger(__name__)

START_WAIT = 1.0
"""Seconds that an answer waits for the server to come up; the router asks every two seconds."""

Response = spi.RuntimeStatusResponse


class Status:
    """Answers `runtimeStatus`; calls that overlap share one purge."""

    def __init__(self, settings: Settings, adapter: Adapter, models: Models, health: Health) -> None:
        self._settings = settings
        self._adapter = adapter
        self._models = models
        self._health = health
        self._running: asyncio.Task[spi.RuntimeStatusResponse] | None = None

    async def answer(self) -> spi.RuntimeStatusResponse:
        """STARTING while the server is not up; else purge and READY. FAILING if no number of tries can help."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._answer())
        return await asyncio.shield(self._running)

    async def _answer(self) -> spi.RuntimeStatusResponse:
        settings = self._settings
        if settings.capacity <= 0:
            log.error(
                "no memory is left for models: CONTAINER_MEM_REQ_BYTES is %d and MEM_BUFFER_BYTES takes %d of it",
                settings.memory_request,
                settings.memory_buffer,
            )
            return Response(status=Response.FAILING)
        # Before the watch has taken the server as up, it is yet to purge; READY must come after that.
        if not await self._health.until_serving(START_WAIT):
            return Response(status=Response.STARTING)
        try:
            if not await self._adapter.ready():
                return Response(status=Response.STARTING)
            await self._models.purge()
            version = await self._adapter.version()
        except AdapterError as error:
            log.info("not ready yet: %s", error)
            return Response(status=Response.STARTING)
        except OSError as error:
            log.exception("model folders cannot be cleared: %s", error)
            return Response(status=Response.FAILING)
        log.info("ready", extra={"capacity": settings.capacity, "version": version})
        return self._ready(version)

    def _ready(self, version: str) -> spi.RuntimeStatusResponse:
        settings = self._settings
        methods = {name: Response.MethodInfo(idInjectionPath=path) for name, path in self._adapter.methods.items()}
        return Response(
            status=Response.READY,
            capacityInBytes=settings.capacity,
            maxLoadingConcurrency=settings.loading_concurrency,
            modelLoadingTimeoutMs=settings.load_timeout,
            defaultModelSizeInBytes=settings.default_size,
            runtimeVersion=version or settings.runtime_version,
            methodInfos=methods,
            limitModelConcurrency=settings.model_concurrency > 0,
            allowAnyMethod=False,
        )
