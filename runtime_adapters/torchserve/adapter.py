"""TorchServe behind the SPI."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import AdapterError, Late, RuntimeRefused, Unreachable
from runtime_adapters.server_process import NotVisibleError, ServerProcess
from runtime_adapters.settings import Settings
from runtime_adapters.torchserve import bridge, layout
from runtime_adapters.torchserve.bridge import Bridge
from runtime_adapters.torchserve.client import Client
from runtime_adapters.torchserve.settings import Registration, TorchServeSettings

FOLDER = "_torchserve_models"
"""Below the root of model files: TorchServe's configuration, and in `store` the archives."""
METHODS = {f"{bridge.NATIVE}/{method}": (1,) for method in ("Predictions", "StreamPredictions")} | {
    f"{bridge.V2}/{method}": (1,) for method in ("ModelInfer", "ModelMetadata", "ModelReady")
}
"""What passes; the model's name is field 1 of each request."""
UNLOAD_ATTEMPTS = 3
MEASUREMENTS = 16
"""Times that a model's memory is asked for while it is not known; where it is TorchServe that measures, it does so every ten seconds."""
PAUSE = 1.0
"""Seconds between them."""
HEADROOM = 1.1
"""A worker's memory grows a little with its first calls."""


class TorchServeAdapter:
    """Registers archives with one TorchServe, configures it, and serves the data port in front of it."""

    def __init__(self, settings: Settings, own: TorchServeSettings) -> None:
        self.name = "TorchServe"
        self.methods: Mapping[str, tuple[int, ...]] = METHODS
        self.folder = settings.root.absolute() / FOLDER / "store"
        self.address = f"127.0.0.1:{settings.runtime_port}"
        self._management_port = settings.runtime_port
        self._own = own
        self._process = ServerProcess(settings.runtime_port)
        self._registration = Registration(max(1, settings.model_concurrency), own.batch_size, own.batch_delay)
        self._client = Client(self.address, f"127.0.0.1:{own.grpc_port}")
        self.bridge = Bridge(self._client, f"http://127.0.0.1:{own.http_port}", self.folder, own.listen)

    async def start(self) -> None:
        """Write TorchServe's configuration, which it waits for, and open the data port.

        Raises:
            OSError: the disk refuses, or the data endpoint is taken.
        """
        ports = (self._management_port, self._own.grpc_port, self._own.http_port)
        await asyncio.to_thread(layout.write_properties, self.folder.parent, self.folder, *ports)
        await self.bridge.start()

    async def live(self, timeout: float) -> None:
        """Return if TorchServe answers within `timeout` seconds."""
        await self._client.live(timeout)

    async def disconnected(self) -> None:
        """Return when the connection to TorchServe is lost."""
        await self._client.disconnected()

    async def ready(self) -> bool:
        """Whether TorchServe takes loads."""
        return await self._client.ready()

    async def version(self) -> str:
        """Its gRPC tells no version; the image's tag stands for it."""
        return ""

    def prepare(self, model: LocalModel) -> None:
        """Link the archive of a model into the store."""
        try:
            layout.build(self.folder, model)
        except AdapterError as error:
            raise error.within("Failed to load Model due to adapter error") from None

    def discard(self, model_id: str) -> None:
        """Remove the link of a model."""
        layout.remove(self.folder, model_id)

    async def load(self, model_id: str, timeout: float) -> None:
        """Register the prepared archive and wait for its workers; `timeout` in seconds."""
        self.bridge.forget(model_id)
        try:
            await self._client.load(model_id, layout.file_name(model_id), self._registration, timeout)
        except AdapterError as error:
            raise error.within("Failed to load model due to TorchServe register error") from None

    async def measure(self, model_id: str) -> int | None:
        """Bytes of memory of the model's workers, and a tenth more; None if neither this adapter nor TorchServe can tell it in time."""
        for attempt in range(MEASUREMENTS):
            if attempt:
                await asyncio.sleep(PAUSE)
            try:
                workers = (await self._client.describe(model_id)).get("workers", ())
            except (Unreachable, Late, RuntimeRefused):
                return None
            if used := await self._used(workers):
                return int(used * HEADROOM)
        return None

    async def _used(self, workers: Sequence[Mapping[str, Any]]) -> int:
        """Bytes, counted as all of the server's memory is; 0 if that is not known yet.

        TorchServe's own figure stands in where its processes cannot be seen. It has pages of files in it, which all workers share.
        """
        pids = [int(worker.get("pid") or 0) for worker in workers]
        try:
            return await asyncio.to_thread(self._process.part, pids) if pids else 0
        except NotVisibleError:
            used = [int(worker.get("memoryUsage") or 0) for worker in workers]
            return sum(used) if all(used) else 0

    async def unload(self, model_id: str) -> None:
        """Unregister a model, and again if it shows up after that, as one does whose registration was still under way."""
        self.bridge.forget(model_id)
        try:
            for _ in range(UNLOAD_ATTEMPTS):
                await self._client.unload(model_id)
                if model_id not in await self._client.known():
                    return
            raise RuntimeRefused(f"model {model_id} is still registered after {UNLOAD_ATTEMPTS} tries", grpc.StatusCode.INTERNAL)
        except AdapterError as error:
            raise error.within("Failed to unload model from TorchServe") from None

    async def unload_all(self) -> None:
        """Unregister every model that TorchServe lists."""
        for name in await self._client.known():
            await self._client.unload(name)
            self.bridge.forget(name)

    async def close(self) -> None:
        """Close the data port and the connections to TorchServe."""
        await self.bridge.stop()
        await self._client.close()
