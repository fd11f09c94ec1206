"""The calls of `mmesh.ModelRuntime`; their outcomes are events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from grpc import aio

from mesh.core.errors import Code
from mesh.core.events import LoadFailed, LoadSucceeded, SizeMeasured, SizePredicted, UnloadFailed, UnloadSucceeded
from mesh.core.ids import CopyId
from mesh.core.registry.records import ModelInfo
from mesh.core.units import Millis, units
from mesh.protocols import model_runtime_pb2 as pb
from mesh.runtime.channels import describe

SERVICE = "mmesh.ModelRuntime"
LEGACY_SERVICE = "com.ibm.watson.tas.internal.proto.ModelServer"
"""Spoken by runtimes older than the present name; the messages are the same (reference 2.1)."""

PREDICT_TIMEOUT = 0.5
SIZING_TIMEOUT = 30.0
"""Seconds (reference 0.2)."""

UNLOAD_TIMEOUT = 120.0
"""Seconds for one unload call; the attempt then counts as failed and is repeated."""

Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True, slots=True)
class Spi:
    """The management interface of one runtime.

    Attributes:
        channel: to it.
        service: the name under which it answered.
        load_timeout: of one load.
    """

    channel: aio.Channel
    service: str
    load_timeout: Millis

    async def load(self, copy: CopyId, info: ModelInfo) -> LoadSucceeded | LoadFailed:
        """Loads a model; ended by the load timeout."""
        request = pb.LoadModelRequest(modelId=copy.model, modelType=info.type, modelPath=info.path, modelKey=info.key)
        try:
            reply = await self._call("loadModel", request, pb.LoadModelResponse, self.load_timeout / 1000)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                seconds = self.load_timeout / 1000
                return LoadFailed(
                    copy, Code.DEADLINE_EXCEEDED, f"Load of model {copy.model} timed out after {seconds:g}sec", timed_out=True
                )
            return LoadFailed(copy, Code[error.code().name], describe(error.code(), error.details()))
        size = units(reply.sizeInBytes) if reply.sizeInBytes else None
        return LoadSucceeded(copy, size, reply.maxConcurrency)

    async def unload(self, copy: CopyId) -> UnloadSucceeded | UnloadFailed:
        """Unloads a model; one that the runtime does not know is unloaded."""
        try:
            await self._call("unloadModel", pb.UnloadModelRequest(modelId=copy.model), pb.UnloadModelResponse, UNLOAD_TIMEOUT)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                return UnloadFailed(copy, describe(error.code(), error.details()))
        return UnloadSucceeded(copy)

    async def predict(self, copy: CopyId, info: ModelInfo) -> tuple[SizePredicted, bool]:
        """Asks for the size a model will have; False with it if the runtime does not offer that at all."""
        request = pb.PredictModelSizeRequest(modelId=copy.model, modelType=info.type, modelPath=info.path, modelKey=info.key)
        try:
            reply = await self._call("predictModelSize", request, pb.PredictModelSizeResponse, PREDICT_TIMEOUT)
        except aio.AioRpcError as error:
            return SizePredicted(copy, None), error.code() is not grpc.StatusCode.UNIMPLEMENTED
        return SizePredicted(copy, units(reply.sizeInBytes)), True

    async def measure(self, copy: CopyId) -> SizeMeasured:
        """Asks for the size of a loaded model."""
        try:
            reply = await self._call("modelSize", pb.ModelSizeRequest(modelId=copy.model), pb.ModelSizeResponse, SIZING_TIMEOUT)
        except aio.AioRpcError:
            return SizeMeasured(copy, None)
        return SizeMeasured(copy, units(reply.sizeInBytes))

    async def _call(self, method: str, request: Message, reply: type[Reply], timeout: float) -> Reply:
        call: aio.UnaryUnaryMultiCallable[Message, Reply] = self.channel.unary_unary(
            f"/{self.service}/{method}", type(request).SerializeToString, reply.FromString
        )
        return await call(request, timeout=timeout)
