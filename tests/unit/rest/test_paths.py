"""Paths: names of any characters, server and model routes, what is not there and what is not offered."""

from __future__ import annotations

import json

import pytest

from mesh.core.errors import Unknown
from mesh.protocols.inference_pb2 import ModelMetadataRequest, ModelMetadataResponse
from mesh.wire.call import Answer, Target
from tests.unit.rest.door import Mesh, failing, tensor


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("iris", "iris"),
        ("a%2Fb", "a/b"),
        ("a%20b", "a b"),
        ("%E4%B8%AD", "中"),
        ("50%25", "50%"),
        ("a+b", "a+b"),
        ("%73tats", "stats"),
        ("a:b", "a:b"),
    ],
)
async def test_a_name_may_hold_any_character_if_percent_encoded(sent: str, name: str) -> None:
    mesh = Mesh()
    answer = await mesh.send("POST", f"/v2/models/{sent}/infer", content=json.dumps(tensor("INT8", [1], [1])))
    assert answer.status_code == 200
    assert mesh.calls[0].target == Target(either=name)
    assert mesh.request.model_name == name
    await mesh.send("GET", f"/v2/models/{sent}")
    assert ModelMetadataRequest.FromString(mesh.payloads[1]).name == name


async def test_a_name_that_is_no_utf8_is_refused() -> None:
    answer = await Mesh().send("GET", "/v2/models/%ff/ready")
    assert answer.status_code == 400
    assert "no UTF-8" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/v2/models//infer", "/v2/models//ready", "/v2/models//versions/1/infer"])
async def test_an_empty_name_is_refused(path: str) -> None:
    answer = await Mesh().send("POST", path, content=b"{}")
    assert answer.status_code == 400
    assert "the name of the model is empty" in answer.json()["error"]


async def test_the_server_tells_its_name_version_and_extensions() -> None:
    answer = await Mesh().send("GET", "/v2")
    assert answer.json() == {"name": "modelmesh-router", "version": "1.2.3", "extensions": ["binary_tensor_data", "parameters"]}
    assert (await Mesh().send("GET", "/v2/")).json() == answer.json()


async def test_health_is_a_status_and_a_flag() -> None:
    mesh = Mesh()
    assert (await mesh.send("GET", "/v2/health/live")).json() == {"live": True}
    ready = await mesh.send("GET", "/v2/health/ready")
    mesh.is_ready = False
    unready = await mesh.send("GET", "/v2/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"ready": True})
    assert (unready.status_code, unready.json()) == (503, {"ready": False})
    assert (await mesh.send("GET", "/v2/health/live")).status_code == 200


@pytest.mark.parametrize("version", ["", "/versions/1"])
async def test_readiness_of_a_model_is_told_without_calling_it(version: str) -> None:
    mesh = Mesh()
    answers = {name: await mesh.send("GET", f"/v2/models/{name}{version}/ready") for name in ("iris", "broken", "nobody")}
    assert [answer.status_code for answer in answers.values()] == [200, 503, 404]
    assert answers["iris"].json() == {"name": "iris", "ready": True}
    assert answers["broken"].json() == {"name": "broken", "ready": False}
    assert answers["nobody"].json()["error"] == "there is no model nobody"
    assert mesh.calls == []


async def test_metadata_has_shapes_as_numbers() -> None:
    response = ModelMetadataResponse(name="iris", versions=["1"], platform="sklearn")
    item = response.inputs.add(name="x", datatype="FP32", shape=[-1, 4])
    item.parameters["content_type"].string_param = "np"
    response.parameters["p"].int64_param = 1
    mesh = Mesh(lambda _call, _payload: Answer(response.SerializeToString(), headers=(("x-a", "b"),)))
    answer = await mesh.send("GET", "/v2/models/iris/versions/1")
    assert answer.json() == {
        "name": "iris",
        "versions": ["1"],
        "platform": "sklearn",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4], "parameters": {"content_type": "np"}}],
        "outputs": [],
        "parameters": {"p": 1},
    }
    assert answer.headers["grpc-metadata-x-a"] == "b"
    assert mesh.calls[0].method == "inference.GRPCInferenceService/ModelMetadata"
    assert ModelMetadataRequest.FromString(mesh.payloads[0]) == ModelMetadataRequest(name="iris", version="1")


async def test_metadata_of_the_open_inference_protocol_has_its_properties() -> None:
    # Field 6 is a map of strings there and a map of parameters in MLServer's protocol.
    entry = b"\x0a\x03key\x12\x05value"
    payload = ModelMetadataResponse(name="iris", platform="onnx").SerializeToString() + bytes((6 << 3 | 2, len(entry))) + entry
    answer = await Mesh(lambda _call, _payload: Answer(payload)).send("GET", "/v2/models/iris")
    assert answer.json() == {"name": "iris", "platform": "onnx", "inputs": [], "outputs": [], "properties": {"key": "value"}}


async def test_metadata_that_is_no_message_is_a_500() -> None:
    answer = await Mesh(lambda _call, _payload: Answer(b"\xff\xff")).send("GET", "/v2/models/iris")
    assert answer.status_code == 500
    assert answer.json()["error"] == "the runtime's answer is no inference.ModelMetadataResponse"


async def test_an_unknown_model_is_404() -> None:
    mesh = Mesh(failing(Unknown("there is no model nobody")))
    answer = await mesh.send("POST", "/v2/models/nobody/infer", content=json.dumps(tensor("INT8", [1], [1])))
    assert answer.status_code == 404
    assert answer.json() == {"error": "there is no model nobody", "code": 5, "message": "there is no model nobody"}


@pytest.mark.parametrize("path", ["/", "/v1/models/iris:predict", "/v2/nothing", "/v2/models", "/v2/models/iris/nothing"])
async def test_an_unknown_path_is_404_as_json(path: str) -> None:
    answer = await Mesh().send("GET", path)
    assert answer.status_code == 404
    assert answer.json()["code"] == 5
    assert answer.json()["error"] == f"there is no {path} here; models are under /v2/models/NAME"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v2/models/iris/infer", {"POST"}),
        ("POST", "/v2/models/iris", {"GET", "HEAD"}),
        ("DELETE", "/v2/repository/index", {"GET", "HEAD", "POST"}),
    ],
)
async def test_a_wrong_method_is_405_with_the_right_ones(method: str, path: str, allow: set[str]) -> None:
    answer = await Mesh().send(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allow
    assert answer.json()["error"].startswith(f"{path} does not take {method}; it takes ")


@pytest.mark.parametrize(
    ("method", "path", "instead"),
    [
        ("POST", "/v2/repository/models/iris/load", "mmesh.ModelMesh/ensureLoaded"),
        ("POST", "/v2/repository/models/iris/unload", "delete its InferenceService"),
        ("GET", "/v2/systemsharedmemory/status", "send tensors in the body"),
        ("POST", "/v2/systemsharedmemory/region/r/register", "send tensors in the body"),
        ("POST", "/v2/cudasharedmemory/unregister", "send tensors in the body"),
        ("GET", "/v2/trace/setting", "ServingRuntime"),
        ("POST", "/v2/models/iris/trace/setting", "ServingRuntime"),
        ("POST", "/v2/logging", "ServingRuntime"),
        ("GET", "/v2/models/stats", "Prometheus"),
        ("GET", "/v2/models/iris/versions/1/stats", "Prometheus"),
        ("GET", "/v2/models/iris/config", "ModelConfig"),
        ("POST", "/v2/models/iris/generate_stream", "ModelStreamInfer"),
    ],
)
async def test_what_is_not_offered_says_what_to_use_instead(method: str, path: str, instead: str) -> None:
    answer = await Mesh().send(method, path)
    assert answer.status_code == 501
    assert answer.json()["code"] == 12
    assert answer.json()["error"].startswith(f"{path}: ")
    assert instead in answer.json()["error"]
