"""A pod of the real Triton answers over gRPC and REST as the libraries do when they are used directly."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import triton_model_config_pb2 as config_pb
from tests.integration.triton.rig import TIMEOUT, Rig, failed, infer, key_of
from tests.support.client import Client
from tests.support.http import plain
from tests.support.waiting import until

SCHEMA = {"inputs": [{"name": "Input3", "datatype": "FP32", "shape": [1, 1, 28, 28]}]}


@pytest.fixture(scope="module")
def mesh(rig: Rig) -> Iterator[Client]:
    """A client of the router, with every model registered under a name that clients call."""
    assert rig.router
    (rig.claim / "mnist.schema.json").write_text(json.dumps(SCHEMA))
    with Client.insecure(rig.router.address) as client:
        offer(client, "mnist", "mnist.onnx", key_of("onnx"))
        offer(client, "with-schema", "mnist.onnx", key_of("onnx", schema_path="mnist.schema.json"))
        offer(client, "named", "named", key_of("onnx"))
        offer(client, "corrupt", "corrupt.onnx", key_of("onnx"))
        for name in ("xgboost", "lightgbm"):
            offer(client, name, name, key_of(name))
        yield client


def offer(client: Client, name: str, path: str, key: str) -> None:
    """A service as the mesh has it: a name that clients call, and a model behind it."""
    client.register(f"{name}__isvc-0123456789", path, kind="triton", key=key)
    client.set_alias(name, f"{name}__isvc-0123456789")


def floats(answer: v2.ModelInferResponse) -> list[float]:
    raw = answer.raw_output_contents[0]
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def test_onnx_over_grpc_equals_onnx_runtime(mesh: Client, given: dict[str, Any], expected: dict[str, list[float]]) -> None:
    answer = infer(mesh.v2, "mnist", "Input3", [1, 1, 28, 28], given["digit"])
    (output,) = answer.outputs
    assert (answer.id, output.name, output.datatype, list(output.shape)) == ("asked", "Plus214_Output_0", "FP32", [1, 10])
    assert floats(answer) == pytest.approx(expected["onnx"], rel=1e-6)
    assert expected["onnx"].index(max(expected["onnx"])) == 0


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_trees_over_grpc_equal_their_library(mesh: Client, given: dict[str, Any], expected: dict[str, list[float]], name: str) -> None:
    answer = infer(mesh.v2, name, "input__0", [2, 126], [value for row in given["rows"] for value in row])
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("output__0", "FP32", [2, 1])
    assert floats(answer) == pytest.approx(expected[name], rel=1e-6)
    assert answer.model_version == {"xgboost": "1", "lightgbm": "3"}[name]


@pytest.mark.parametrize(
    ("name", "tensor", "shape"),
    [("named", "Input3", [1, 1, 28, 28]), ("xgboost", "input__0", [2, 126]), ("lightgbm", "input__0", [2, 126])],
)
def test_every_format_over_rest(
    rig: Rig, mesh: Client, given: dict[str, Any], expected: dict[str, list[float]], name: str, tensor: str, shape: list[int]
) -> None:
    assert rig.router
    data = given["digit"] if tensor == "Input3" else [value for row in given["rows"] for value in row]
    body = {"id": "of-rest", "inputs": [{"name": tensor, "datatype": "FP32", "shape": shape, "data": data}]}
    answer = plain.post(f"{rig.router.rest}/v2/models/{name}/infer", json=body, timeout=TIMEOUT).raise_for_status().json()
    assert answer["id"] == "of-rest"
    assert answer["outputs"][0]["data"] == pytest.approx(expected["onnx" if name == "named" else name], rel=1e-6)


def test_what_concerns_one_model_passes_under_its_name(rig: Rig, mesh: Client) -> None:
    """Metadata, readiness, configuration and statistics are Triton's own, of the model behind the name."""
    assert rig.router
    behind = "with-schema__isvc-0123456789"
    described = mesh.v2.ModelMetadata(v2.ModelMetadataRequest(name="with-schema"), timeout=TIMEOUT)
    assert (described.name, described.platform, list(described.versions)) == (behind, "onnxruntime_onnx", ["1"])
    assert [(one.name, one.datatype, list(one.shape)) for one in described.inputs] == [("Input3", "FP32", [1, 1, 28, 28])]
    assert mesh.v2.ModelReady(v2.ModelReadyRequest(name="with-schema"), timeout=TIMEOUT).ready
    over_rest = plain.get(f"{rig.router.rest}/v2/models/with-schema", timeout=TIMEOUT).raise_for_status().json()
    assert over_rest["outputs"] == [{"name": "Plus214_Output_0", "datatype": "FP32", "shape": [1, 10]}]

    request = v2.ModelConfigRequest(name=behind).SerializeToString()
    by_name = (("mm-model-id", behind),)
    config = mesh.raw("inference.GRPCInferenceService/ModelConfig", request, by_name, TIMEOUT)
    assert config_pb.ModelConfigAnswer.FromString(config).config.backend == "onnxruntime"
    statistics = mesh.raw("inference.GRPCInferenceService/ModelStatistics", request, by_name, TIMEOUT)
    (told,) = config_pb.ModelStatisticsAnswer.FromString(statistics).model_stats
    assert told.name == behind


def test_streamed_calls_pass_in_tritons_form(mesh: Client, given: dict[str, Any], expected: dict[str, list[float]]) -> None:
    requests = []
    for number in range(3):
        request = v2.ModelInferRequest(model_name="mnist", id=str(number))
        request.inputs.add(name="Input3", datatype="FP32", shape=[1, 1, 28, 28]).contents.fp32_contents.extend(given["digit"])
        requests.append(request)
    answers = list(mesh.v2.ModelStreamInfer(iter(requests), timeout=TIMEOUT))
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
    assert floats(answers[2].infer_response) == pytest.approx(expected["onnx"], rel=1e-6)


def test_a_model_that_was_given_up_behind_the_routers_back_is_loaded_again(rig: Rig, mesh: Client, given: dict[str, Any]) -> None:
    infer(mesh.v2, "named", "Input3", [1, 1, 28, 28], given["digit"])
    rig.data.RepositoryModelUnload(v2.RepositoryModelUnloadRequest(model_name="named__isvc-0123456789"), timeout=TIMEOUT)
    until(lambda: rig.states()["named__isvc-0123456789"] == "UNAVAILABLE", "Triton has dropped it")
    infer(mesh.v2, "named", "Input3", [1, 1, 28, 28], given["digit"])
    assert rig.states()["named__isvc-0123456789"] == "READY"


def test_mistakes_are_told_to_whoever_made_them(mesh: Client, given: dict[str, Any]) -> None:
    code, text = failed(lambda: infer(mesh.v2, "mnist", "Input3", [1, 784], given["digit"]))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "unexpected shape for input 'Input3'" in text
    code, text = failed(lambda: infer(mesh.v2, "corrupt", "Input3", [1, 1, 28, 28], given["digit"]))
    assert "Failed to load Model due to Triton runtime error" in text
    code, _ = failed(lambda: infer(mesh.v2, "unknown", "Input3", [1, 1, 28, 28], given["digit"]))
    assert code is grpc.StatusCode.NOT_FOUND
