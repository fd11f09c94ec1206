"""A model server of one's own: it answers `mmesh.ModelRuntime`, so that the mesh needs no adapter for it, and KServe v2.

A model is a JSON file, `{"label": [number, …], …}`: the middle of each class. A call has rows of numbers, FP32 or FP64, and is answered
with the label whose middle is nearest to each row, and how far that is. Both services are on one port or socket, MESH_GRPC_ENDPOINT.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import struct
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import inference_pb2_grpc as v2_grpc
from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc

if TYPE_CHECKING:
    Context = aio.ServicerContext[Any, Any]

LIBRARY = os.environ.get("LIBRARY", "")
"""Folder of the models where no puller brings them: the last part of a model's path is its name there. Empty means that a puller does."""
CAPACITY = int(os.environ.get("CAPACITY_BYTES", 64 << 20))
"""Bytes that all models may take together: what this server tells the mesh, which evicts by it."""

_VALUES = {"FP32": ("f", "fp32_contents"), "FP64": ("d", "fp64_contents")}
_NUMBER = 32
"""Bytes of a float in a list: the object and the reference to it."""


@dataclass(frozen=True)
class Model:
    """The middle of each class; all have as many numbers."""

    middles: dict[str, list[float]]

    @classmethod
    def read(cls, path: Path) -> Model:
        """Raises ValueError if the file is not such a model, and OSError if there is none."""
        middles = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(middles, dict) or not middles or not all(isinstance(one, list) and one for one in middles.values()):
            raise ValueError('it reads {"label": [number, …], …}')
        if len({len(one) for one in middles.values()}) > 1:
            raise ValueError("every label needs as many numbers as the others")
        return cls({label: [float(number) for number in one] for label, one in middles.items()})

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return len(next(iter(self.middles.values())))

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        return sum(sys.getsizeof(label) + _NUMBER * len(one) for label, one in self.middles.items())

    def nearest(self, row: list[float]) -> tuple[str, float]:
        """The label and its distance."""
        return min(((label, math.dist(row, middle)) for label, middle in self.middles.items()), key=lambda found: found[1])


class Runtime(spi_grpc.ModelRuntimeServicer):
    """What the router asks, or the puller between."""

    def __init__(self, models: dict[str, Model]) -> None:
        self.models = models

    async def runtimeStatus(self, request: spi.RuntimeStatusRequest, context: Context) -> spi.RuntimeStatusResponse:
        """A router that asks knows of no model here: it has started, or lost us. So there must be none."""
        self.models.clear()
        by_name = spi.RuntimeStatusResponse.MethodInfo(idInjectionPath=[1])
        return spi.RuntimeStatusResponse(
            status=spi.RuntimeStatusResponse.READY,
            capacityInBytes=CAPACITY,
            maxLoadingConcurrency=2,
            modelLoadingTimeoutMs=10_000,
            defaultModelSizeInBytes=64 << 10,
            runtimeVersion="centroids-1",
            methodInfos={f"inference.GRPCInferenceService/{name}": by_name for name in ("ModelInfer", "ModelMetadata", "ModelReady")},
        )

    async def loadModel(self, request: spi.LoadModelRequest, context: Context) -> spi.LoadModelResponse:
        """With a puller the path is that of a file here; without one it is what the service says, and the file is ours to find."""
        path = Path(LIBRARY) / PurePosixPath(request.modelPath).name if LIBRARY else Path(request.modelPath)
        try:
            model = await asyncio.to_thread(Model.read, path)
        except (OSError, ValueError, TypeError) as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{path} is no model of centroids: {error}")
        self.models[request.modelId] = model
        return spi.LoadModelResponse(sizeInBytes=model.size)

    async def unloadModel(self, request: spi.UnloadModelRequest, context: Context) -> spi.UnloadModelResponse:
        """Fine if it is not here."""
        self.models.pop(request.modelId, None)
        return spi.UnloadModelResponse()

    async def predictModelSize(self, request: spi.PredictModelSizeRequest, context: Context) -> spi.PredictModelSizeResponse:
        """0: it cannot be told before."""
        return spi.PredictModelSizeResponse()

    async def modelSize(self, request: spi.ModelSizeRequest, context: Context) -> spi.ModelSizeResponse:
        """NOT_FOUND if it is not here."""
        return spi.ModelSizeResponse(sizeInBytes=(await _found(self.models, request.modelId, context)).size)


class Inference(v2_grpc.GRPCInferenceServiceServicer):
    """What clients ask. NOT_FOUND of a model tells the router to load it again."""

    def __init__(self, models: dict[str, Model]) -> None:
        self.models = models

    async def ModelReady(self, request: v2.ModelReadyRequest, context: Context) -> v2.ModelReadyResponse:
        """Whether it is loaded."""
        return v2.ModelReadyResponse(ready=request.name in self.models)

    async def ModelMetadata(self, request: v2.ModelMetadataRequest, context: Context) -> v2.ModelMetadataResponse:
        """Its inputs and outputs."""
        model = await _found(self.models, request.name, context)
        answer = v2.ModelMetadataResponse(name=request.name, platform="centroids")
        answer.inputs.add(name="rows", datatype="FP32", shape=[-1, model.width])
        answer.outputs.add(name="label", datatype="BYTES", shape=[-1, 1])
        answer.outputs.add(name="distance", datatype="FP64", shape=[-1, 1])
        return answer

    async def ModelInfer(self, request: v2.ModelInferRequest, context: Context) -> v2.ModelInferResponse:
        """The nearest label of each row."""
        model = await _found(self.models, request.model_name, context)
        try:
            rows = _rows(request, model.width)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        found = [model.nearest(row) for row in rows]
        answer = v2.ModelInferResponse(model_name=request.model_name, id=request.id)
        labels = answer.outputs.add(name="label", datatype="BYTES", shape=[len(rows), 1])
        labels.contents.bytes_contents.extend(label.encode() for label, _ in found)
        distances = answer.outputs.add(name="distance", datatype="FP64", shape=[len(rows), 1])
        distances.contents.fp64_contents.extend(distance for _, distance in found)
        return answer


async def _found(models: dict[str, Model], name: str, context: Context) -> Model:
    if name not in models:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"model {name!r} is not loaded")
    return models[name]


def _rows(request: v2.ModelInferRequest, width: int) -> list[list[float]]:
    """ValueError with what is wrong with the call."""
    if len(request.inputs) != 1 or request.inputs[0].datatype not in _VALUES:
        raise ValueError("a call has one input, of FP32 or FP64")
    (tensor,) = request.inputs
    code, contents = _VALUES[tensor.datatype]
    if request.raw_input_contents:
        raw = request.raw_input_contents[0]
        numbers = list(struct.unpack(f"<{len(raw) // struct.calcsize(code)}{code}", raw))
    else:
        numbers = list(getattr(tensor.contents, contents))
    if len(tensor.shape) != 2 or tensor.shape[1] != width or len(numbers) != tensor.shape[0] * width:
        raise ValueError(f"input {tensor.name!r} has to be of shape [rows, {width}] with as many numbers, not {list(tensor.shape)}")
    return [numbers[start : start + width] for start in range(0, len(numbers), width)]


async def main() -> None:
    """Serves until SIGTERM."""
    server = aio.server()
    models: dict[str, Model] = {}
    spi_grpc.add_ModelRuntimeServicer_to_server(Runtime(models), server)
    inference = Inference(models)  # type: ignore[abstract] # the other calls answer UNIMPLEMENTED
    v2_grpc.add_GRPCInferenceServiceServicer_to_server(inference, server)
    kind, _, where = os.environ.get("MESH_GRPC_ENDPOINT", "port:8085").partition(":")
    server.add_insecure_port(f"127.0.0.1:{where}" if kind == "port" else f"unix:{where}")
    await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await server.stop(grace=2)


if __name__ == "__main__":
    asyncio.run(main())
