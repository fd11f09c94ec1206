"""Calls to MLServer over its own gRPC port."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import grpc

from mesh.protocols import inference_pb2 as v2
from mesh.protocols.inference_pb2_grpc import GRPCInferenceServiceStub
from runtime_adapters.errors import RuntimeRefused, Unreachable, from_rpc

MANAGEMENT_TIMEOUT = 10.0
"""Seconds for calls that only ask. MLServer answers nothing while it loads a model, so this is not short."""
UNLOAD_TIMEOUT = 30.0
"""Seconds. Unloading itself takes milliseconds, but it waits for a load in progress."""

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # a server that comes back is seen within about a second
)

_Answer = TypeVar("_Answer")
_NOT_LOADED = frozenset([grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT])
"""How MLServer answers an unload of what it does not have: ModelNotFound, ModelNotReady."""


class Client:
    """One channel to MLServer. Every method raises `Unreachable`, `Late`, or `RuntimeRefused` with MLServer's own code and text."""

    def __init__(self, address: str) -> None:
        self.server = f"MLServer at {address}"
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self._stub = GRPCInferenceServiceStub(self._channel)

    async def live(self, timeout: float) -> None:
        """Return if MLServer answers within `timeout` seconds."""
        answer = await self._ask(self._stub.ServerLive(v2.ServerLiveRequest(), timeout=timeout))
        if not answer.live:
            raise Unreachable(f"{self.server} says that it is not live")

    async def disconnected(self) -> None:
        """Return when the channel leaves the connected state; while it is not connected, wait until it is first."""
        while (state := self._channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self._channel.wait_for_state_change(state)
        await self._channel.wait_for_state_change(grpc.ChannelConnectivity.READY)

    async def ready(self) -> bool:
        """MLServer's ServerReady: false while any model is loading."""
        return (await self._ask(self._stub.ServerReady(v2.ServerReadyRequest(), timeout=MANAGEMENT_TIMEOUT))).ready

    async def version(self) -> str:
        """MLServer's version, for instance `1.7.1`."""
        return (await self._ask(self._stub.ServerMetadata(v2.ServerMetadataRequest(), timeout=MANAGEMENT_TIMEOUT))).version

    async def known(self) -> list[str]:
        """Names of the models whose settings MLServer finds on disk, loaded or not."""
        answer = await self._ask(self._stub.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=MANAGEMENT_TIMEOUT))
        return [entry.name for entry in answer.models]

    async def load(self, name: str, timeout: float) -> None:
        """Load a model by the name in its settings; cancelling the task cancels the call."""
        await self._ask(self._stub.RepositoryModelLoad(v2.RepositoryModelLoadRequest(model_name=name), timeout=timeout))

    async def model_ready(self, name: str) -> bool:
        """Whether a model is loaded and ready. MLServer answers an unknown model with UNKNOWN or NOT_FOUND: false."""
        try:
            answer = await self._ask(self._stub.ModelReady(v2.ModelReadyRequest(name=name), timeout=MANAGEMENT_TIMEOUT))
        except RuntimeRefused:
            return False
        return answer.ready

    async def unload(self, name: str) -> None:
        """Unload a model; one that is not loaded is fine."""
        request = v2.RepositoryModelUnloadRequest(model_name=name)
        try:
            await self._ask(self._stub.RepositoryModelUnload(request, timeout=UNLOAD_TIMEOUT))
        except RuntimeRefused as error:
            if error.status not in _NOT_LOADED:
                raise

    async def close(self) -> None:
        """Close the channel; calls in progress end."""
        await self._channel.close()

    async def _ask(self, call: Awaitable[_Answer]) -> _Answer:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.server) from None
