"""The `mmesh.ModelRuntime` server: the SPI by which a router drives a model server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import grpc
from grpc_health.v1 import health_pb2_grpc

from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc, runtime_process_pb2_grpc
from runtime_adapters.adapter import Adapter, Starts
from runtime_adapters.errors import AdapterError
from runtime_adapters.health import Health
from runtime_adapters.models import ModelRequest, Models
from runtime_adapters.process_service import RuntimeProcess
from runtime_adapters.server_process import ServerProcess
from runtime_adapters.settings import Settings
from runtime_adapters.status import Status
from runtime_adapters.storage.puller import Puller
from runtime_adapters.watch import Watch

log = logging.getLogger(__name__)

MAX_DETAILS = 4096
"""Bytes of an error message on the wire; all metadata of a call must fit in 8 KiB, else the client sees another error."""
STOP_GRACE = 2.0
"""Seconds that calls in progress get when the server stops."""

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]

_T = TypeVar("_T")


class _Named(Protocol):
    modelId: str  # noqa: N815 - the field's name in the protocol
    modelType: str  # noqa: N815
    modelPath: str  # noqa: N815
    modelKey: str  # noqa: N815


class ModelRuntime(model_runtime_pb2_grpc.ModelRuntimeServicer):
    """The five calls; each `AdapterError` becomes a status here and nowhere else."""

    def __init__(self, models: Models, status: Status) -> None:
        self._models = models
        self._status = status

    async def loadModel(self, request: spi.LoadModelRequest, context: Context) -> spi.LoadModelResponse:
        """Answer when the model can serve."""
        size = await _or_abort(context, self._models.load(_model(request)))
        return spi.LoadModelResponse(sizeInBytes=size, maxConcurrency=await self._models.concurrency(request.modelId))

    async def unloadModel(self, request: spi.UnloadModelRequest, context: Context) -> spi.UnloadModelResponse:
        """Answer when the model is gone."""
        await _or_abort(context, self._models.unload(request.modelId))
        return spi.UnloadModelResponse()

    async def predictModelSize(self, request: spi.PredictModelSizeRequest, context: Context) -> spi.PredictModelSizeResponse:
        """Answer within half a second."""
        return spi.PredictModelSizeResponse(sizeInBytes=await _or_abort(context, self._models.predict(_model(request))))

    async def modelSize(self, request: spi.ModelSizeRequest, context: Context) -> spi.ModelSizeResponse:
        """Answer what the server measures, or what the load answered."""
        return spi.ModelSizeResponse(sizeInBytes=await _or_abort(context, self._models.size(request.modelId)))

    async def runtimeStatus(self, request: spi.RuntimeStatusRequest, context: Context) -> spi.RuntimeStatusResponse:  # noqa: ARG002
        """Purge, once the server is up."""
        return await _or_abort(context, self._status.answer())


async def _or_abort(context: Context, work: Awaitable[_T]) -> _T:
    try:
        return await work
    except AdapterError as error:
        log.warning("%s", error.message, extra={"code": error.status.name})
        await _abort(context, error.status, error.message)
    except Exception as error:
        log.exception("unexpected error")
        await _abort(context, grpc.StatusCode.INTERNAL, f"unexpected error in the adapter: {type(error).__name__}: {error}")


async def _abort(context: Context, code: grpc.StatusCode, message: str) -> NoReturn:
    await context.abort(code, details(message))


def details(message: str) -> str:
    """`message`, cut so that it fits on the wire, where every byte that is not plain ASCII takes three."""
    kept, cost = 0, 0
    for kept, letter in enumerate(message):
        cost += 1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode("utf-8", "replace"))
        if cost > MAX_DETAILS:
            return message[:kept] + "…"
    return message


def _model(request: _Named) -> ModelRequest:
    return ModelRequest(request.modelId, request.modelType, request.modelPath, request.modelKey)


class Server:
    """The SPI server of one adapter, its health, and the watch over the model server."""

    def __init__(self, settings: Settings, adapter: Adapter) -> None:
        self.settings = settings
        self.health = Health()
        self.port = 0
        self._adapter = adapter
        puller = Puller(settings.root.absolute(), settings.storage_config, settings.pvc_mounts) if settings.embedded_puller else None
        self._models = models = Models(settings, adapter, puller)
        self._watch = Watch(adapter, models, self.health, settings.silence_limit / 1000)
        self._servicer = ModelRuntime(models, Status(settings, adapter, models, self.health))
        self._process = RuntimeProcess(ServerProcess(settings.runtime_port))
        self._watching: asyncio.Task[None] | None = None
        self._grpc: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Make the model folder, ask the model server once, then listen; `port` is known afterwards.

        Raises:
            OSError: the folder cannot be made, or the address is taken.
        """
        self._adapter.folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self._adapter, Starts):
            await self._adapter.start()
        opened = asyncio.Event()
        self._watching = asyncio.create_task(self._watch.run(opened))
        first_answer = asyncio.create_task(opened.wait())
        await asyncio.wait([first_answer, self._watching], return_when=asyncio.FIRST_COMPLETED)
        first_answer.cancel()
        # Without this option a second adapter on the same port would silently share its calls.
        self._grpc = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        model_runtime_pb2_grpc.add_ModelRuntimeServicer_to_server(self._servicer, self._grpc)
        runtime_process_pb2_grpc.add_RuntimeProcessServicer_to_server(self._process, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._grpc)
        address = f"unix:{self.settings.socket}" if self.settings.socket else f"127.0.0.1:{self.settings.port}"
        try:
            self.port = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is it taken by another adapter? ({error})") from None
        await self._grpc.start()
        log.info("listening", extra={"address": address, "port": self.port, "runtime": self._adapter.address})

    async def stop(self) -> None:
        """Stop listening, end the watch, close the connection to the model server. Loaded models stay loaded."""
        self.health.close()
        if self._grpc:
            await self._grpc.stop(STOP_GRACE)
        if self._watching:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching
        await self._models.close()
        await self._adapter.close()

    async def wait(self) -> None:
        """Return when the server has stopped; raises what ended the watch, if anything did."""
        assert self._watching
        await self._watching
