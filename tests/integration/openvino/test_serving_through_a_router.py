"""A pod of OpenVINO answers KServe v2 over gRPC and REST, and TensorFlow Serving's Predict, as the runtime does when it is used directly.

The server is the stand-in, over the real runtime; adapter and router are the real ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import model_runtime_pb2 as spi
from tests.integration.openvino.rig import BUFFER, KINDS, MEMORY, TIMEOUT, Rig, digit_request, failed, offer
from tests.support.client import Client, Status
from tests.support.http import plain
from tests.support.protocols import tensorflow_pb2 as tf
from tests.support.protocols import tensorflow_serving_pb2 as tfs
from tests.support.protocols.tensorflow_serving_pb2_grpc import PredictionServiceStub

PREDICT = "tensorflow.serving.PredictionService/Predict"
CLOSE = 1e-4
"""Scores are some thousands at most, in 32 bits."""


@pytest.fixture(scope="module")
def mesh(rig: Rig) -> Iterator[Client]:
    """A client of the router, with a service of each kind."""
    with Client.insecure(rig.router.address) as client:
        for kind in KINDS:
            offer(client, kind, kind)
        yield client


def scores(answer: v2.ModelInferResponse) -> list[float]:
    (raw,) = answer.raw_output_contents
    return list(struct.unpack("<10f", raw))


def predict_request(name: str, pixels: list[float], *, raw: bool, version: int | None = None) -> tfs.PredictRequest:
    request = tfs.PredictRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    tensor = request.inputs["Input3"]
    tensor.dtype = tf.DT_FLOAT
    for size in (1, 1, 28, 28):
        tensor.tensor_shape.dim.add(size=size)
    if raw:
        tensor.tensor_content = struct.pack(f"<{len(pixels)}f", *pixels)
    else:
        tensor.float_val.extend(pixels)
    return request


def test_what_the_router_is_told_at_the_start(rig: Rig) -> None:
    # Asked of the adapter before any model is loaded: asking makes it unload all.
    status = rig.spi.runtimeStatus(spi.RuntimeStatusRequest(), timeout=TIMEOUT)
    assert status.status == status.READY
    assert status.capacityInBytes == MEMORY - BUFFER
    assert status.runtimeVersion.startswith("stand-in-")
    assert {name: list(info.idInjectionPath) for name, info in status.methodInfos.items()} == {
        **{f"inference.GRPCInferenceService/{method}": [1] for method in ("ModelInfer", "ModelMetadata", "ModelReady")},
        PREDICT: [1, 1],
    }


@pytest.mark.parametrize("kind", KINDS)
def test_v2_equals_the_runtime_used_directly(mesh: Client, kind: str, pixels: list[float], expected: Mapping[str, list[float]]) -> None:
    answer = mesh.v2.ModelInfer(digit_request(kind, pixels), timeout=TIMEOUT)
    (output,) = answer.outputs
    assert (answer.model_name, answer.model_version, answer.id) == (f"{kind}__isvc-0123456789", "1", "asked")
    assert (output.name, output.datatype, list(output.shape)) == ("Plus214_Output_0", "FP32", [1, 10])
    assert scores(answer) == pytest.approx(expected[kind], rel=CLOSE, abs=CLOSE)
    described = mesh.v2.ModelMetadata(v2.ModelMetadataRequest(name=kind), timeout=TIMEOUT)
    assert [(one.name, one.datatype, list(one.shape)) for one in described.inputs] == [("Input3", "FP32", [1, 1, 28, 28])]
    assert mesh.v2.ModelReady(v2.ModelReadyRequest(name=kind), timeout=TIMEOUT).ready


def test_onnx_and_openvino_agree_on_the_same_input(mesh: Client, pixels: list[float]) -> None:
    onnx, ir = (scores(mesh.v2.ModelInfer(digit_request(kind, pixels), timeout=TIMEOUT)) for kind in KINDS)
    assert onnx == pytest.approx(ir, rel=CLOSE, abs=CLOSE * 10)
    assert max(range(10), key=onnx.__getitem__) == 0


def test_v2_over_rest_equals_the_runtime(rig: Rig, mesh: Client, pixels: list[float], expected: Mapping[str, list[float]]) -> None:
    del mesh
    body = {"inputs": [{"name": "Input3", "datatype": "FP32", "shape": [1, 1, 28, 28], "data": pixels}]}
    answer = plain.post(f"{rig.router.rest}/v2/models/ir/infer", json=body, timeout=TIMEOUT).raise_for_status().json()
    assert answer["outputs"][0]["data"] == pytest.approx(expected["ir"], rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize("raw", [True, False], ids=["tensor_content", "float_val"])
@pytest.mark.parametrize("kind", KINDS)
def test_tensorflow_serving_predicts_by_the_name_of_a_service(
    mesh: Client, kind: str, raw: bool, pixels: list[float], expected: Mapping[str, list[float]]
) -> None:
    answer = PredictionServiceStub(mesh.channel).Predict(predict_request(kind, pixels, raw=raw, version=1), timeout=TIMEOUT)
    assert (answer.model_spec.name, answer.model_spec.version.value) == (f"{kind}__isvc-0123456789", 1)
    output = answer.outputs["Plus214_Output_0"]
    assert (output.dtype, [dim.size for dim in output.tensor_shape.dim]) == (tf.DT_FLOAT, [1, 10])
    assert list(struct.unpack("<10f", output.tensor_content)) == pytest.approx(expected[kind], rel=CLOSE, abs=CLOSE)


def test_a_predict_for_nobody_is_told_so_and_one_with_mistakes_which(mesh: Client, pixels: list[float]) -> None:
    stub = PredictionServiceStub(mesh.channel)
    code, text = failed(lambda: stub.Predict(predict_request("nobody", pixels, raw=True), timeout=TIMEOUT))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "nobody" in text
    wrong = predict_request("ir", pixels[:-1], raw=True)
    code, text = failed(lambda: stub.Predict(wrong, timeout=TIMEOUT))
    assert (code, "input Input3" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    renamed = predict_request("ir", pixels, raw=True)
    renamed.inputs["other"].CopyFrom(renamed.inputs.pop("Input3"))
    code, text = failed(lambda: stub.Predict(renamed, timeout=TIMEOUT))
    assert (code, "Expected: Input3" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_models_that_are_wanted_at_once_share_reloads_and_a_bad_one_fails_alone(rig: Rig, mesh: Client) -> None:
    (rig.claim / "broken.onnx").write_bytes(b"this is no model")
    (rig.claim / "no-model" / "notes").mkdir(parents=True)
    paths = {**{f"good-{number}": KINDS["onnx"][0] for number in range(6)}, "bad": "broken.onnx", "empty": "no-model"}
    before = rig.reloads()
    models = {name: offer(mesh, name, "onnx", path=path) for name, path in paths.items()}
    with ThreadPoolExecutor(len(models)) as pool:
        found = dict(zip(models, pool.map(lambda model: mesh.ensure(model, sync=True), models.values()), strict=True))
    assert {name for name, status in found.items() if status.status == Status.LOADED} == {f"good-{number}" for number in range(6)}
    for name in ("bad", "empty"):
        assert found[name].status == Status.LOADING_FAILED
        assert "OVMS model load failed. code: 'UNKNOWN'" in found[name].errors[0]
    # Eight loads, four at a time, and what removes the two that failed.
    assert rig.reloads() - before < 8
    assert rig.server.listed() == rig.server.held()


def test_any_id_is_just_a_name(rig: Rig, pixels: list[float], expected: Mapping[str, list[float]]) -> None:
    names = ["a.b-c", "With_Capitals~", "a/b", "../../escape", "/absolute", ".hidden", "with space", "50%", "ünï", "x" * 253]
    with ThreadPoolExecutor(len(names)) as pool:
        assert all(answer.sizeInBytes > 1 for answer in pool.map(rig.load, names))
    try:
        assert set(names) <= rig.server.held()
        for name in names:
            answer = rig.direct.v2.ModelInfer(digit_request(name, pixels), timeout=TIMEOUT)
            assert scores(answer) == pytest.approx(expected["onnx"], rel=CLOSE, abs=CLOSE)
        outside = [path for path in rig.root.parent.rglob("*escape*") if not path.is_relative_to(rig.root)]
        assert not outside
    finally:
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(rig.unload, names))
    assert not set(names) & rig.server.held()
    assert not set(names) & rig.server.listed()


def test_a_load_of_what_is_loaded_takes_the_new_files(rig: Rig, pixels: list[float]) -> None:
    (rig.claim / "changing").mkdir()
    for number in (1, 2):
        (rig.claim / "changing" / str(number)).mkdir()
        (rig.claim / "changing" / str(number) / "model.onnx").write_bytes((rig.claim / "mnist.onnx").read_bytes())
        rig.load("changing", path="changing")
        assert rig.direct.v2.ModelInfer(digit_request("changing", pixels), timeout=TIMEOUT).model_version == str(number)
    rig.unload("changing")
    assert "changing" not in rig.server.held()


def test_an_adapter_that_restarts_leaves_models_and_their_list_alone(rig: Rig, pixels: list[float]) -> None:
    rig.load("kept")
    listed = rig.server.listed()
    rig.restart_adapter()
    rig.until_serving()
    assert rig.server.listed() == listed
    rig.load("another")
    assert {"kept", "another"} <= rig.server.held()
    assert scores(rig.direct.v2.ModelInfer(digit_request("kept", pixels), timeout=TIMEOUT))
    for name in ("kept", "another"):
        rig.unload(name)
    assert rig.server.held() == listed - {"kept"}
