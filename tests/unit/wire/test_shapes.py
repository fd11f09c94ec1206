"""A method is carried as its description says, and as a stream where there is none."""

from __future__ import annotations

import pytest

from mesh.wire.shapes import Shape, shape_of


@pytest.mark.parametrize(
    "method",
    [
        "inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService/ModelMetadata",
        "mmesh.ModelMesh/registerModel",
        "mmesh.ModelRuntime/loadModel",
        "tensorflow.serving.PredictionService/Predict",
        "org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
    ],
)
def test_one_message_each_way(method: str) -> None:
    assert shape_of(method) == Shape(client_streaming=False, server_streaming=False)
    assert shape_of(method).unary


def test_streams_are_known_by_direction() -> None:
    assert shape_of("inference.GRPCInferenceService/ModelStreamInfer") == Shape(client_streaming=True, server_streaming=True)
    assert shape_of("org.pytorch.serve.grpc.inference.InferenceAPIsService/StreamPredictions") == Shape(False, True)


@pytest.mark.parametrize("method", ["", "/", "no.Such/Method", "inference.GRPCInferenceService/NoSuch"])
def test_what_nobody_described_is_a_stream_both_ways(method: str) -> None:
    shape = shape_of(method)
    assert shape is Shape.UNKNOWN
    assert (shape.client_streaming, shape.server_streaming, shape.known, shape.unary) == (True, True, False, False)
