"""Calls to Triton over its gRPC port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import triton_model_config_pb2 as pb
from runtime_adapters.errors import Late, RuntimeRefused
from runtime_adapters.v2_client import MANAGEMENT_TIMEOUT, V2Client

SERVICE = "inference.GRPCInferenceService"
UNLOADING = "UNLOADING"
HELD = frozenset(["READY", "LOADING", UNLOADING])
"""States in which Triton has something of a model in memory. The others are UNAVAILABLE, UNKNOWN, and none for what was never loaded."""

_Request = TypeVar("_Request", bound=Message)
_Answer = TypeVar("_Answer", bound=Message)

_SHORTEST_PAUSE = 0.02
_LONGEST_PAUSE = 0.25
"""Seconds between two looks at the index, for which Triton reads its repository; the first doubles up to the second."""


class Client(V2Client):
    """One channel to Triton. Every method raises `Unreachable`, `Late`, or `RuntimeRefused` with Triton's own code and text."""

    def __init__(self, address: str) -> None:
        super().__init__("Triton", address)
        self._config = self._method("ModelConfig", v2.ModelConfigRequest, pb.ModelConfigAnswer)
        self._statistics = self._method("ModelStatistics", v2.ModelStatisticsRequest, pb.ModelStatisticsAnswer)

    async def held(self) -> dict[str, str]:
        """Models that Triton holds anything of, each with one of its versions' states; READY counts before the others."""
        found: dict[str, str] = {}
        for entry in await self.index():
            if entry.state in HELD and found.get(entry.name) != "READY":
                found[entry.name] = entry.state
        return found

    async def unload(self, name: str, timeout: float) -> None:
        """Unload a model and return when its memory is free; one that is not loaded is fine. `timeout` in seconds.

        Triton answers an unload at once and frees later. Told to unload what it is still loading, it answers when that load has ended.
        What an abandoned load finishes in between is unloaded again.

        Raises:
            Late: the model was not gone in time; the message says what Triton was still doing.
        """
        state = "not answering"
        try:
            async with asyncio.timeout(timeout):
                await self._unload(name, timeout)
                pause = _SHORTEST_PAUSE
                while state := (await self.held()).get(name, ""):
                    if state == "READY":
                        await self._unload(name, timeout)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        except (TimeoutError, Late):
            raise Late(f"{self.server} was told to unload model {name}, and was {state} after {timeout:g} s") from None

    async def config(self, name: str) -> pb.ModelConfig:
        """The configuration that a loaded model runs by, with what Triton filled in."""
        return (await self._ask(self._config(v2.ModelConfigRequest(name=name), timeout=MANAGEMENT_TIMEOUT))).config

    async def memory(self, name: str) -> int:
        """Bytes that the backend of a loaded model says to hold for it, on all devices; 0 if it says nothing, as most do."""
        answer = await self._ask(self._statistics(v2.ModelStatisticsRequest(name=name), timeout=MANAGEMENT_TIMEOUT))
        return sum(part.byte_size for model in answer.model_stats for part in model.memory_usage)

    async def _unload(self, name: str, timeout: float) -> None:
        request = v2.RepositoryModelUnloadRequest(model_name=name)
        try:
            await self._ask(self._stub.RepositoryModelUnload(request, timeout=timeout))
        except RuntimeRefused as error:
            if error.status is not grpc.StatusCode.NOT_FOUND:
                raise

    def _method(self, name: str, request: type[_Request], answer: type[_Answer]) -> grpc.aio.UnaryUnaryMultiCallable[_Request, _Answer]:
        """A method whose answer is read by a message of its own: the mesh's protocol describes only what routes it."""
        serialize: Callable[[_Request], bytes] = request.SerializeToString
        return self._channel.unary_unary(f"/{SERVICE}/{name}", serialize, answer.FromString)
