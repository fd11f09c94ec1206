"""Calls to TorchServe's management service, and its Ping."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable
from typing import Any, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty

from mesh.protocols import torchserve_management_pb2 as pb
from mesh.protocols.torchserve_inference_pb2_grpc import InferenceAPIsServiceStub
from mesh.protocols.torchserve_management_pb2_grpc import ManagementAPIsServiceStub
from runtime_adapters.errors import RuntimeRefused, Unreachable, from_rpc
from runtime_adapters.torchserve.settings import Registration

MANAGEMENT_TIMEOUT = 10.0
"""Seconds for calls that only ask."""
UNLOAD_TIMEOUT = 30.0
"""Seconds. TorchServe ends the model's worker processes, and waits for each."""
PAGE = 500
"""Models in one answer of ListModels."""
HEALTHY = {"status": "Healthy"}

OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # what gRPC gives a connection: a server that loads a model is silent for seconds
    ("grpc.max_reconnect_backoff_ms", 1000),  # a server that comes back is seen within about a second
)

_Answer = TypeVar("_Answer")


class Client:
    """Channels to both gRPC ports. Every method raises `Unreachable`, `Late`, or `RuntimeRefused` with TorchServe's own code and text."""

    def __init__(self, management: str, inference: str) -> None:
        self.server = f"TorchServe at {management}"
        self.inference = grpc.aio.insecure_channel(inference, options=OPTIONS)
        self._management = grpc.aio.insecure_channel(management, options=OPTIONS)
        self._models = ManagementAPIsServiceStub(self._management)
        self._health = InferenceAPIsServiceStub(self.inference)

    async def live(self, timeout: float) -> None:
        """Return if TorchServe answers within `timeout` seconds; it answers while a worker is ill, too."""
        await self._ask(self._health.Ping(Empty(), timeout=timeout))

    async def disconnected(self) -> None:
        """Return when the management channel leaves the connected state; while it is not connected, wait until it is first."""
        channel = self._management
        while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await channel.wait_for_state_change(state)
        await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)

    async def ready(self) -> bool:
        """Whether Ping says Healthy (a model with too few workers makes it say Partially Healthy) and management answers."""
        answer = await self._ask(self._health.Ping(Empty(), timeout=MANAGEMENT_TIMEOUT))
        await self._page(0)
        return bool(_parsed(answer.health) == HEALTHY)

    async def known(self) -> list[str]:
        """Names of the registered models."""
        names: list[str] = []
        token = 0
        while True:
            page = await self._page(token)
            names += [entry["modelName"] for entry in page.get("models", ())]
            if (following := page.get("nextPageToken")) is None or int(following) <= token:
                return names
            token = int(following)

    async def load(self, name: str, file: str, registration: Registration, timeout: float) -> None:
        """Register an archive of the store and start its workers; `timeout` in seconds. Cancelling the task leaves TorchServe at it."""
        request = pb.RegisterModelRequest(
            model_name=name,
            url=file,
            synchronous=True,
            initial_workers=registration.workers,
            batch_size=registration.batch_size,
            max_batch_delay=registration.batch_delay,
            # Without it TorchServe starts a worker that hangs again and again, long after the caller has gone.
            startup_timeout=math.ceil(timeout),
        )
        await self._ask(self._models.RegisterModel(request, timeout=timeout))

    async def describe(self, name: str) -> dict[str, Any]:
        """What TorchServe knows of a model: `workers` with `status` and `memoryUsage` among others."""
        request = pb.DescribeModelRequest(model_name=name, model_version="all")
        answer = await self._ask(self._models.DescribeModel(request, timeout=MANAGEMENT_TIMEOUT))
        found = _parsed(answer.msg)
        if not isinstance(found, list) or not found or not isinstance(found[0], dict):
            raise RuntimeRefused(f"{self.server} describes model {name} in a way that is not understood", grpc.StatusCode.INTERNAL)
        return found[0]

    async def unload(self, name: str) -> None:
        """Unregister a model; one that is not registered is fine."""
        try:
            await self._ask(self._models.UnregisterModel(pb.UnregisterModelRequest(model_name=name), timeout=UNLOAD_TIMEOUT))
        except RuntimeRefused as error:
            if error.status is not grpc.StatusCode.NOT_FOUND:
                raise

    async def close(self) -> None:
        """Close the channels; calls in progress end."""
        await self._management.close()
        await self.inference.close()

    async def _page(self, token: int) -> dict[str, Any]:
        request = pb.ListModelsRequest(limit=PAGE, next_page_token=token)
        page = _parsed((await self._ask(self._models.ListModels(request, timeout=MANAGEMENT_TIMEOUT))).msg)
        if not isinstance(page, dict):
            raise Unreachable(f"{self.server} lists its models in a way that is not understood")
        return page

    async def _ask(self, call: Awaitable[_Answer]) -> _Answer:
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, self.server) from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
