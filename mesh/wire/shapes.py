"""Whether a method takes and gives one message or a stream of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from google.protobuf.descriptor import FileDescriptor

from mesh.protocols import inference_pb2, model_mesh_pb2, model_runtime_pb2


@dataclass(frozen=True, slots=True)
class Shape:
    """The streaming of a method's two directions; `known` is False where no description of the method exists."""

    client_streaming: bool
    server_streaming: bool
    known: bool = True

    UNARY: ClassVar[Shape]
    UNKNOWN: ClassVar[Shape]
    """No description: carried as a stream both ways, which on the wire is the same for a call of single messages."""

    @property
    def unary(self) -> bool:
        """Whether it is known that one message goes each way."""
        return not self.client_streaming and not self.server_streaming


Shape.UNARY = Shape(False, False)
Shape.UNKNOWN = Shape(True, True, known=False)


def shape_of(method: str) -> Shape:
    """The shape of `method`, which is `pkg.Service/Method`, with or without a leading slash."""
    return _SHAPES.get(method.removeprefix("/"), Shape.UNKNOWN)


def _described(*files: FileDescriptor) -> dict[str, Shape]:
    return {
        f"{service.full_name}/{method.name}": Shape(method.client_streaming, method.server_streaming)
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }


# TensorFlow Serving's and TorchServe's methods as their servers publish them; their messages pass as bytes, so no stubs are needed.
_TENSORFLOW = ("Classify", "Regress", "Predict", "MultiInference", "GetModelMetadata")
_TORCHSERVE = {
    "Ping": (False, False),
    "Predictions": (False, False),
    "StreamPredictions": (False, True),
    "StreamPredictions2": (True, True),
}
_SHAPES = {
    **_described(inference_pb2.DESCRIPTOR, model_mesh_pb2.DESCRIPTOR, model_runtime_pb2.DESCRIPTOR),
    **{f"tensorflow.serving.PredictionService/{name}": Shape.UNARY for name in _TENSORFLOW},
    **{f"org.pytorch.serve.grpc.inference.InferenceAPIsService/{name}": Shape(*ways) for name, ways in _TORCHSERVE.items()},
}
