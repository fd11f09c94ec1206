"""MLServer behind the SPI."""

from __future__ import annotations

from pathlib import Path

import grpc

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import AdapterError, RuntimeRefused
from runtime_adapters.mlserver import layout
from runtime_adapters.mlserver.client import Client
from runtime_adapters.paths import folder_name
from runtime_adapters.v2_adapter import V2Adapter

FOLDER = "_mlserver_models"
"""Below the root of model files; MLServer is started with this folder as its model repository."""
SERVICE = "inference.GRPCInferenceService"
METHODS = {f"{SERVICE}/{method}": (1,) for method in ("ModelInfer", "ModelMetadata", "ModelStreamInfer", "ModelReady")}
"""What passes to MLServer; the model's name is field 1 of each request."""
UNLOAD_ATTEMPTS = 3


class MLServerAdapter(V2Adapter):
    """Loads models into one MLServer by folders with a `model-settings.json` each."""

    def __init__(self, root: Path, port: int) -> None:
        address = f"127.0.0.1:{port}"
        self._client = Client(address)
        super().__init__("MLServer", self._client, address, root / FOLDER, METHODS)

    def prepare(self, model: LocalModel) -> None:
        """Make the folder of a model."""
        try:
            layout.build(self._folder(model.id), model)
        except AdapterError as error:
            raise error.within("Failed to load Model due to adapter error") from None

    def discard(self, model_id: str) -> None:
        """Remove the folder of a model."""
        layout.remove(self._folder(model_id))

    async def load(self, model_id: str, timeout: float) -> None:
        """Load the prepared folder; `timeout` in seconds."""
        try:
            await self._client.load(model_id, timeout)
            # A model class whose load() answers False makes MLServer answer OK all the same.
            if not await self._client.model_ready(model_id):
                raise RuntimeRefused("the model was loaded but says that it is not ready", grpc.StatusCode.INTERNAL)
        except AdapterError as error:
            raise error.within("Failed to load Model due to MLServer runtime error") from None

    async def unload(self, model_id: str) -> None:
        """Unload a model, and again if it shows up after that, as one does whose load was cancelled at its very end."""
        try:
            for _ in range(UNLOAD_ATTEMPTS):
                await self._client.unload(model_id)
                if not await self._client.model_ready(model_id):
                    return
            raise RuntimeRefused(f"model {model_id} is still ready after {UNLOAD_ATTEMPTS} unloads", grpc.StatusCode.INTERNAL)
        except AdapterError as error:
            raise error.within("Failed to unload model from MLServer") from None

    async def unload_all(self) -> None:
        """Unload every model that MLServer lists."""
        for name in await self._client.known():
            await self._client.unload(name)

    def _folder(self, model_id: str) -> Path:
        return self.folder / folder_name(model_id)
