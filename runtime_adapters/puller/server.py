"""The SPI server of the stand-alone puller: the five calls, and the standard services of the runtime behind it as they are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from grpc import aio

from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc
from runtime_adapters.errors import AdapterError
from runtime_adapters.puller.forwarding import Forwarding
from runtime_adapters.puller.settings import PullerSettings
from runtime_adapters.server import STOP_GRACE, details
from runtime_adapters.storage.puller import Puller

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    Context = aio.ServicerContext[Any, Any]

_HEALTH = "/grpc.health.v1.Health/"
"""Methods with one request."""

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class _ModelRuntime(model_runtime_pb2_grpc.ModelRuntimeServicer):
    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    async def loadModel(self, request: spi.LoadModelRequest, context: Context) -> spi.LoadModelResponse:
        return await _told(context, self._forwarding.load, request)

    async def unloadModel(self, request: spi.UnloadModelRequest, context: Context) -> spi.UnloadModelResponse:
        return await _told(context, self._forwarding.unload, request)

    async def predictModelSize(self, request: spi.PredictModelSizeRequest, context: Context) -> spi.PredictModelSizeResponse:
        return await _told(context, self._forwarding.predict, request)

    async def modelSize(self, request: spi.ModelSizeRequest, context: Context) -> spi.ModelSizeResponse:
        return await _told(context, self._forwarding.size, request)

    async def runtimeStatus(self, request: spi.RuntimeStatusRequest, context: Context) -> spi.RuntimeStatusResponse:
        return await _told(context, self._forwarding.status, request)


class _Standard(grpc.GenericRpcHandler):
    """Health and reflection are the runtime's own: whoever watches whether it lives watches it, not this process."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = handler_call_details.method
        if not method.startswith("/grpc."):
            return None

        async def pipe(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            call: AsyncIterable[bytes]
            if method.startswith(_HEALTH):
                # A request that is streamed may meet the end of a call that the runtime refuses, and is then INTERNAL, not UNIMPLEMENTED.
                begin: aio.UnaryStreamMultiCallable[bytes, bytes] = self._channel.unary_stream(method)
                call = begin(await anext(requests), timeout=context.time_remaining())
            else:
                stream: aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(method)
                call = stream(requests, timeout=context.time_remaining())
            try:
                async for answer in call:
                    yield answer
            except aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "")

        return grpc.stream_stream_rpc_method_handler(pipe)


class PullerServer:
    """Serves on 127.0.0.1 from `start` to `stop`; `port` is known after `start`."""

    def __init__(self, settings: PullerSettings) -> None:
        self.settings = settings
        self.port = 0
        self._channel = aio.insecure_channel(
            settings.target, options=[("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 1000)]
        )
        self._grpc: aio.Server | None = None
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Makes the model folder and listens; the runtime need not be there yet. OSError if the folder or the port is not to be had."""
        settings = self.settings
        root = settings.root.absolute()
        root.mkdir(parents=True, exist_ok=True)
        forwarding = Forwarding(self._channel, Puller(root, settings.storage_config, settings.pvc_mounts), root)
        # Without this option a second puller on the same port would silently share its calls.
        self._grpc = aio.server(options=[("grpc.so_reuseport", 0)])
        model_runtime_pb2_grpc.add_ModelRuntimeServicer_to_server(_ModelRuntime(forwarding), self._grpc)
        self._grpc.add_generic_rpc_handlers((_Standard(self._channel),))
        address = f"127.0.0.1:{settings.port}"
        try:
            self.port = self._grpc.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is it taken by another process? ({error})") from None
        await self._grpc.start()
        log.info("listening", extra={"address": address, "port": self.port, "runtime": settings.target})

    async def wait(self) -> None:
        """Returns when the server has stopped."""
        # Not grpc's own wait: one that is cancelled breaks the stop that follows.
        await self._stopped.wait()

    async def stop(self) -> None:
        """Stops listening and closes the connection to the runtime. What is loaded stays loaded."""
        if self._grpc:
            await self._grpc.stop(STOP_GRACE)
        await self._channel.close()
        self._stopped.set()


async def _told(context: Context, work: Callable[[_Request, float | None], Awaitable[_Answer]], request: _Request) -> _Answer:
    """The answer, or the error as a status: the runtime's own as it is."""
    try:
        return await work(request, context.time_remaining())
    except AdapterError as error:
        log.warning("%s", error.message, extra={"code": error.status.name})
        await context.abort(error.status, details(error.message))
    except aio.AioRpcError as error:
        await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))
    except Exception as error:
        log.exception("unexpected error")
        await context.abort(grpc.StatusCode.INTERNAL, f"unexpected error in the puller: {type(error).__name__}: {error}")
