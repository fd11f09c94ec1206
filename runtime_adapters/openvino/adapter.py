"""OpenVINO Model Server behind the SPI."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import AdapterError
from runtime_adapters.openvino import layout
from runtime_adapters.openvino.batches import Batches
from runtime_adapters.openvino.client import Client
from runtime_adapters.openvino.config import ConfigFile
from runtime_adapters.openvino.reloads import Reloads
from runtime_adapters.openvino.settings import CONFIG_FILE, OpenVinoSettings
from runtime_adapters.paths import folder_name
from runtime_adapters.settings import Settings
from runtime_adapters.storage import tree

FOLDER = "_ovms_models"
"""Below the root of model files; each model has a folder here, which the server's configuration names."""
METHODS: Mapping[str, tuple[int, ...]] = {
    "inference.GRPCInferenceService/ModelInfer": (1,),
    "inference.GRPCInferenceService/ModelMetadata": (1,),
    "inference.GRPCInferenceService/ModelReady": (1,),
    "tensorflow.serving.PredictionService/Predict": (1, 1),
}
"""What passes, with the path to the model's name: field 1, or for TensorFlow Serving's call field 1 (name) of field 1 (model_spec)."""


class OpenVinoAdapter:
    """Loads models into one OpenVINO Model Server by its configuration file."""

    def __init__(self, settings: Settings, own: OpenVinoSettings) -> None:
        self.name = "OVMS"
        self.methods = METHODS
        self.folder = settings.root.absolute() / FOLDER
        self.address = f"127.0.0.1:{settings.runtime_port}"
        self._own = own
        self._file = ConfigFile((own.config_file or settings.root / CONFIG_FILE).absolute())
        self._client = Client(self.address, own.data_address)
        self._reloads = Reloads(Batches({}, own.quiet, own.longest), self._file, self._client, own.reload_timeout)

    async def start(self) -> None:
        """Read what an earlier life had listed, which the server still serves; make the file if there is none.

        Raises:
            OSError: the disk refuses.
        """
        models = await asyncio.to_thread(self._file.restore)
        self._reloads = Reloads(Batches(models, self._own.quiet, self._own.longest), self._file, self._client, self._own.reload_timeout)

    async def live(self, timeout: float) -> None:
        """Return if the server answers within `timeout` seconds."""
        await self._client.grpc.live(timeout)

    async def disconnected(self) -> None:
        """Return when the connection to the server is lost, and its list is emptied."""
        await self._client.grpc.disconnected()
        await self._reloads.lost()

    async def ready(self) -> bool:
        """Whether the server tells its configuration, and so can change it."""
        await self._client.models()
        return True

    async def version(self) -> str:
        """The server's version."""
        return await self._client.grpc.version()

    def prepare(self, model: LocalModel) -> None:
        """Make the folder of a model."""
        try:
            layout.build(self._folder(model.id), model)
        except AdapterError as error:
            raise error.within("Failed to load Model due to adapter error") from None

    def discard(self, model_id: str) -> None:
        """Remove the folder of a model."""
        tree.remove(self._folder(model_id))

    async def load(self, model_id: str, timeout: float) -> None:
        """List the prepared folder, with whatever else is asked for at the same time; `timeout` in seconds."""
        try:
            await self._reloads.load(model_id, str(self._folder(model_id)), timeout)
        except AdapterError as error:
            raise error.within("Failed to load model due to error") from None

    async def unload(self, model_id: str) -> None:
        """Take a model from the list; returns when the server has nothing of it any more."""
        try:
            await self._reloads.unload(model_id)
        except AdapterError as error:
            raise error.within("Failed to unload model from OVMS") from None

    async def unload_all(self) -> None:
        """Empty the list."""
        await self._reloads.clear()

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._reloads.close()
        await self._client.close()

    def _folder(self, model_id: str) -> Path:
        return self.folder / folder_name(model_id)
