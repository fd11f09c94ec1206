"""Triton behind the SPI."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import AdapterError, InvalidRequest, Late
from runtime_adapters.paths import MAX_FOLDER, folder_name
from runtime_adapters.storage import tree
from runtime_adapters.triton import layout
from runtime_adapters.triton.client import SERVICE, UNLOADING, Client
from runtime_adapters.v2_adapter import V2Adapter

log = logging.getLogger(__name__)

FOLDER = "_triton_models"
"""Below the root of model files; Triton is started with this folder as its model repository."""
METHODS = {
    f"{SERVICE}/{method}": (1,)
    for method in ("ModelInfer", "ModelStreamInfer", "ModelMetadata", "ModelReady", "ModelConfig", "ModelStatistics")
}
"""What passes to Triton; the model's name is field 1 of each request."""


class TritonAdapter(V2Adapter):
    """Loads models into one Triton that runs with `--model-control-mode=explicit`.

    Args:
        root: of the model files.
        port: of Triton's gRPC service on 127.0.0.1.
        unload_timeout: seconds until a model that was unloaded must be gone.
    """

    def __init__(self, root: Path, port: int, unload_timeout: float) -> None:
        address = f"127.0.0.1:{port}"
        self._client = Client(address)
        super().__init__("Triton", self._client, address, root / FOLDER, METHODS)
        self._unload_timeout = unload_timeout
        self._clinging: set[str] = set()  # what could not be unloaded: Triton tells of a model only as long as its folder is there

    def prepare(self, model: LocalModel) -> None:
        """Make the folder of a model, which Triton names it by."""
        try:
            if folder_name(model.id) != model.id:
                # Anything else would be another model to Triton: it knows a model by the name of its folder only.
                raise InvalidRequest(
                    f"Triton takes a model's name from a folder, so the id {model.id!r} may only have letters and digits of ASCII, '.', "
                    f"'_' and '-', must begin with a letter, a digit or '-', and be {MAX_FOLDER} bytes long at most"
                )
            layout.build(self.folder / model.id, model)
        except AdapterError as error:
            raise error.within("Failed to load Model due to adapter error") from None

    def discard(self, model_id: str) -> None:
        """Remove the folder of a model, once Triton does not hold it any more."""
        if model_id not in self._clinging:
            tree.remove(self.folder / folder_name(model_id))

    async def load(self, model_id: str, timeout: float) -> None:
        """Load the prepared folder; `timeout` in seconds."""
        try:
            await self._client.load(model_id, timeout)
        except AdapterError as error:
            raise error.within("Failed to load Model due to Triton runtime error") from None

    async def unload(self, model_id: str) -> None:
        """Unload a model; returns when Triton has given its memory back."""
        try:
            await self._client.unload(model_id, self._unload_timeout)
        except AdapterError as error:
            self._clinging.add(model_id)
            raise error.within("Failed to unload model from Triton") from None
        self._clinging.discard(model_id)

    async def unload_all(self) -> None:
        """Unload whatever Triton holds; returns when it is gone, or when Triton cannot get rid of it and serves it no more."""
        await asyncio.gather(*(self._give_up(name) for name in await self._client.held()))

    async def _give_up(self, name: str) -> None:
        try:
            await self.unload(name)
        except Late as error:
            # So it is for ever with a model whose process died; the name can be loaded again all the same.
            if (await self._client.held()).get(name, UNLOADING) != UNLOADING:
                raise
            log.warning("%s; what it holds is free when Triton is restarted", error, extra={"model": name})
        self._clinging.discard(name)

    async def measure(self, model_id: str) -> int | None:
        """What the model's backend says to hold in memory; None from most backends, which do not say."""
        return await self._client.memory(model_id) or None

    async def concurrency(self, model_id: str) -> int | None:
        """How many calls the model's instances take at a time; with dynamic batching, a full batch each."""
        config = await self._client.config(model_id)
        # A group on several GPUs has its count of instances on each.
        instances = sum(group.count * max(1, len(group.gpus)) for group in config.instance_group)
        return instances * (max(1, config.max_batch_size) if config.HasField("dynamic_batching") else 1) or None
