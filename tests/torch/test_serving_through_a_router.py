"""A pod of TorchServe answers KServe v2 over gRPC and REST, and TorchServe's own calls, as torch does when it is used directly."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import torchserve_inference_pb2 as ts
from mesh.protocols import torchserve_inference_pb2_grpc as ts_grpc
from tests.support.client import Client
from tests.torch.archives import directly
from tests.torch.conftest import Image
from tests.torch.rig import TIMEOUT, Rig, failed, infer, key_of, predictions

SCHEMA = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]}
SCHEMA["outputs"] = [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}]


@pytest.fixture(scope="module")
def mesh(rig: Rig) -> Iterator[Client]:
    """A client of the router, with every model registered."""
    assert rig.router
    (rig.archives / "scores.schema.json").write_text(json.dumps(SCHEMA))
    with Client.insecure(rig.router.address) as client:
        for name in ("scores", "knows-v2", "says"):
            offer(client, name, f"{name}.mar", key_of())
        offer(client, "with-schema", "scores.mar", key_of(schema_path="scores.schema.json"))
        yield client


def offer(client: Client, name: str, path: str, key: str) -> None:
    """A service as the mesh has it: a name that clients call, and a model behind it."""
    client.register(f"{name}__isvc-0123456789", path, kind="pytorch-mar", key=key)
    client.set_alias(name, f"{name}__isvc-0123456789")


@pytest.fixture(scope="module")
def expected(environment: Path, torchscript: Path, images: list[Image]) -> list[list[float]]:
    return directly(environment, torchscript, images)


def flat(images: list[Image]) -> list[float]:
    return [value for image in images for plane in image for line in plane for value in line]


def test_v2_over_grpc_equals_torch_to_the_last_digit(mesh: Client, images: list[Image], expected: list[list[float]]) -> None:
    answer = infer(mesh, "scores", ("image", "FP32", [3, 3, 32, 32], flat(images)))
    (output,) = answer.outputs
    assert (answer.id, output.name, output.datatype, list(output.shape)) == ("asked", "predictions", "FP64", [3, 10])
    assert list(output.contents.fp64_contents) == pytest.approx([score for row in expected for score in row], abs=1e-5)


def test_a_schema_names_the_outputs_and_raw_bytes_are_answered_raw(mesh: Client, images: list[Image], expected: list[list[float]]) -> None:
    raw = struct.pack(f"<{3 * 32 * 32}f", *flat(images[:1]))
    answer = infer(mesh, "with-schema", ("image", "FP32", [1, 3, 32, 32], []), raw=raw)
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("scores", "FP32", [1, 10])
    assert struct.unpack("<10f", answer.raw_output_contents[0]) == pytest.approx(expected[0], abs=1e-5)
    described = mesh.v2.ModelMetadata(v2.ModelMetadataRequest(name="with-schema"), timeout=TIMEOUT)
    assert [(one.name, one.datatype, list(one.shape)) for one in described.inputs] == [("image", "FP32", [-1, 3, 32, 32])]
    assert described.name == "with-schema__isvc-0123456789"
    assert mesh.v2.ModelReady(v2.ModelReadyRequest(name="with-schema"), timeout=TIMEOUT).ready


def test_v2_over_rest_equals_torch(rig: Rig, mesh: Client, images: list[Image], expected: list[list[float]]) -> None:
    del mesh
    assert rig.router
    body = {"id": "of-rest", "inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 3, 32, 32], "data": flat(images[1:2])}]}
    answer = httpx.post(f"{rig.router.rest}/v2/models/with-schema/infer", json=body, timeout=TIMEOUT).raise_for_status().json()
    assert answer["id"] == "of-rest"
    assert answer["outputs"][0]["shape"] == [1, 10]
    assert answer["outputs"][0]["data"] == pytest.approx(expected[1], abs=1e-5)


def test_a_handler_that_knows_v2_is_given_the_request_as_it_is(mesh: Client, images: list[Image], expected: list[list[float]]) -> None:
    answer = infer(mesh, "knows-v2", ("image", "FP32", [2, 3, 32, 32], flat(images[:2])))
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("scores", "FP32", [2, 10])
    assert list(output.contents.fp32_contents) == pytest.approx([*expected[0], *expected[1]], abs=1e-5)


def test_native_predictions_pass_byte_for_byte(mesh: Client, images: list[Image], expected: list[list[float]]) -> None:
    told = predictions(mesh, "scores", data=json.dumps(images[2]).encode())
    assert json.loads(told) == pytest.approx(expected[2], abs=1e-5)
    stub = ts_grpc.InferenceAPIsServiceStub(mesh.channel)
    stream = stub.StreamPredictions(ts.PredictionsRequest(model_name="says", input={"data": b"stream"}), timeout=TIMEOUT)
    assert [one.prediction for one in stream if one.prediction] == [b"one", b"two", b"three"]


def test_whatever_a_handler_answers_is_a_v2_answer_and_no_worker_dies_of_it(rig: Rig, mesh: Client) -> None:
    asked = [b"number", b"object", b"list", b"plain words"]
    answers = [infer(mesh, "says", ("text", "BYTES", [1], [one])) for one in asked]
    workers = rig.torchserve.workers()
    found = [[(o.name, o.datatype, list(o.shape)) for o in answer.outputs] for answer in answers]
    assert found == [
        [("predictions", "INT64", [1])],
        [("tabby", "FP64", [1]), ("tiger", "FP64", [1])],
        [("predictions", "FP64", [1, 2])],
        [("predictions", "BYTES", [1])],
    ]
    assert list(answers[0].outputs[0].contents.int64_contents) == [7]
    assert list(answers[3].outputs[0].contents.bytes_contents) == [b"plain words"]
    mixed = infer(mesh, "says", ("text", "BYTES", [2], [b"number", b"list"]))
    assert [json.loads(value) for value in mixed.outputs[0].contents.bytes_contents] == [7, [1.5, 2.5]]
    assert rig.torchserve.workers() == workers


def test_mistakes_are_told_to_whoever_made_them(mesh: Client) -> None:
    code, text = failed(lambda: infer(mesh, "scores", ("image", "FP32", [2, 3], [1.0, 2.0])))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "input 'image' has 2 values, but shape [2, 3] takes 6" in text
    code, text = failed(lambda: infer(mesh, "says", ("text", "BYTES", [1], [b"raise"])))
    assert code is grpc.StatusCode.INTERNAL
    assert text
