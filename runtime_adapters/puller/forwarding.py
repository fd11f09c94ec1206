"""Model files are brought before a load is handed on, and removed after an unload: operations on one model in turn, others side by side."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from urllib.parse import unquote

import grpc
from grpc import aio

from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc
from runtime_adapters.errors import InvalidRequest
from runtime_adapters.paths import MAX_FOLDER
from runtime_adapters.storage import keys, tree
from runtime_adapters.storage.puller import Puller
from runtime_adapters.turns import Turns, to_end

log = logging.getLogger(__name__)

STILL_LOADING = frozenset([grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE])
"""Codes of a load after which the runtime may read the files on; the router unloads such a model, and they go then."""


class Forwarding:
    """Carries out what the router asks, on a runtime at the other end of `channel`.

    Every method raises `AdapterError` for what went wrong here, and `aio.AioRpcError` for the runtime's own answer.
    """

    def __init__(self, channel: aio.Channel, puller: Puller, root: Any) -> None:
        self._runtime = model_runtime_pb2_grpc.ModelRuntimeStub(channel)
        self._puller, self._root = puller, root
        self._turns = Turns()

    async def load(self, request: spi.LoadModelRequest, timeout: float | None) -> spi.LoadModelResponse:
        """Pulls, and loads from where the files lie then. Cancelling it cancels what it is at; the next in turn begins after that."""
        _check(request.modelId)
        key = keys.parse(request.modelKey)
        async with self._turns.of(request.modelId):
            pulled = await self._puller.pull(request.modelId, request.modelPath, key)
            size = await to_end(asyncio.to_thread(tree.disk_usage, pulled.model))
            document = json.loads(request.modelKey)
            told = {"model_type": document["model_type"]} if "model_type" in document else {}
            told |= {"disk_size_bytes": size} if size else {}
            told |= {"schema_path": str(pulled.schema)} if pulled.schema else {}
            local = spi.LoadModelRequest(
                modelId=request.modelId, modelType=request.modelType, modelPath=str(pulled.model), modelKey=json.dumps(told)
            )
            try:
                return await self._runtime.loadModel(local, timeout=timeout)
            except aio.AioRpcError as error:
                if error.code() not in STILL_LOADING:
                    await to_end(asyncio.to_thread(self._puller.remove, request.modelId))
                raise

    async def unload(self, request: spi.UnloadModelRequest, timeout: float | None) -> spi.UnloadModelResponse:
        """Unloads, then removes the files; they stay if the runtime does not let the model go. One that it does not know is fine."""
        _check(request.modelId)
        async with self._turns.of(request.modelId):
            try:
                answer = await self._runtime.unloadModel(request, timeout=timeout)
            except aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                answer = spi.UnloadModelResponse()
            await to_end(asyncio.to_thread(self._puller.remove, request.modelId))
            return answer

    async def predict(self, request: spi.PredictModelSizeRequest, timeout: float | None) -> spi.PredictModelSizeResponse:
        """As the runtime answers."""
        return await self._runtime.predictModelSize(request, timeout=timeout)

    async def size(self, request: spi.ModelSizeRequest, timeout: float | None) -> spi.ModelSizeResponse:
        """As the runtime answers."""
        return await self._runtime.modelSize(request, timeout=timeout)

    async def status(self, request: spi.RuntimeStatusRequest, timeout: float | None) -> spi.RuntimeStatusResponse:
        """As the runtime answers; before a READY every model with files here is unloaded and removed. FAILING if that cannot be."""
        answer = await self._runtime.runtimeStatus(request, timeout=timeout)
        if answer.status != spi.RuntimeStatusResponse.READY:
            return answer
        try:
            await to_end(self._purge())
        except (OSError, aio.AioRpcError) as error:
            log.error("the models of an earlier life cannot be removed: %s", error)
            return spi.RuntimeStatusResponse(status=spi.RuntimeStatusResponse.FAILING)
        return answer

    async def _purge(self) -> None:
        async with self._turns.alone():
            for name in await asyncio.to_thread(lambda: sorted(one.name for one in self._root.iterdir())):
                if name.startswith(("_", ".")):
                    continue
                if model_id := original(name):
                    try:
                        await self._runtime.unloadModel(spi.UnloadModelRequest(modelId=model_id))
                    except aio.AioRpcError as error:
                        if error.code() is not grpc.StatusCode.NOT_FOUND:
                            raise
            await asyncio.to_thread(self._puller.clear)


def original(folder: str) -> str | None:
    """The model id that a folder is named for; None if the name was too long to hold it."""
    if len(folder) >= MAX_FOLDER and "~" in folder:
        return None
    return unquote(folder, errors="surrogatepass")


def _check(model_id: str) -> None:
    if not model_id or "\0" in model_id:
        raise InvalidRequest(f"{model_id!r} is not a model id")
