"""Calls to a model server that speaks KServe's v2 protocol with its repository extension, over its own gRPC port."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import grpc

from mesh.protocols import inference_pb2 as v2
from mesh.protocols.inference_pb2_grpc import GRPCInferenceServiceStub
from runtime_adapters.errors import RuntimeRefused, Unreachable, from_rpc

MANAGEMENT_TIMEOUT = 10.0
"""Seconds for calls that only ask. MLServer answers nothing while it loads a model, so this is not short."""

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # what gRPC gives a connection: a server that loads a model is silent for seconds
    ("grpc.max_reconnect_backoff_ms", 1000),  # a server that comes back is seen within about a second
)

_Answer = TypeVar("_Answer")


class V2Client:
    """One channel to a server. Every method raises `Unreachable`, `Late`, or `RuntimeRefused` with the server's own code and text."""

    def __init__(self, name: str, address: str) -> None:
        self.server = f"{name} at {address}"
        self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        self._stub = GRPCInferenceServiceStub(self._channel)

    async def live(self, timeout: float) -> None:
        """Return if the server answers within `timeout` seconds."""
        answer = await self._ask(self._stub.ServerLive(v2.ServerLiveRequest(), timeout=timeout))
        if not answer.live:
            raise Unreachable(f"{self.server} says that it is not live")

    async def disconnected(self) -> None:
        """Return when the channel leaves the connected state; while it is not connected, wait until it is first."""
        while (state := self._channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await self._channel.wait_for_state_change(state)
        await self._channel.wait_for_state_change(grpc.ChannelConnectivity.READY)

    async def ready(self) -> bool:
        """The server's ServerReady; MLServer's is false while any model is loading."""
        return (await self._ask(self._stub.ServerReady(v2.ServerReadyRequest(), timeout=MANAGEMENT_TIMEOUT))).ready

    async def version(self) -> str:
        """The server's version, for instance `1.7.1`."""
        return (await self._ask(self._stub.ServerMetadata(v2.ServerMetadataRequest(), timeout=MANAGEMENT_TIMEOUT))).version

    async def load(self, name: str, timeout: float) -> None:
        """Load a model by its name in the repository; cancelling the task cancels the call."""
        await self._ask(self._stub.RepositoryModelLoad(v2.RepositoryModelLoadRequest(model_name=name), timeout=timeout))

    async def model_ready(self, name: str) -> bool:
        """Whether a model is loaded and ready. An unknown one is not, which some servers say by UNKNOWN or NOT_FOUND."""
        try:
            answer = await self._ask(self._stub.ModelReady(v2.ModelReadyRequest(name=name), timeout=MANAGEMENT_TIMEOUT))
        except RuntimeRefused:
            return False
        return answer.ready

    async def close(self) -> None:
        """Close the channel; calls in progress end."""
        await self._channel.close()

    async def index(self, timeout: float = MANAGEMENT_TIMEOUT) -> list[v2.RepositoryIndexResponse.ModelIndex]:
        """Every model in the server's repository, loaded or not, each with its state."""
        return list((await self._ask(self._stub.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=timeout))).models)

    async def _ask(self, call: Awaitable[_Answer]) -> _Answer:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.server) from None
