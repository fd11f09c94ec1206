"""Models come and go on one real Triton, with a router's calls sent by hand."""

from __future__ import annotations

import shutil
from typing import Any

import grpc
import pytest

from mesh.protocols import model_runtime_pb2 as spi
from tests.integration.triton.rig import BUFFER, MEMORY, TIMEOUT, Rig, failed, infer, load_request
from tests.support.waiting import until

ROUTER = False
SETTINGS = {"LIMIT_PER_MODEL_CONCURRENCY": "5"}


def test_the_status_tells_what_there_is(rig: Rig) -> None:
    status = rig.until_ready()
    assert status.capacityInBytes == MEMORY - BUFFER
    assert status.runtimeVersion == "2.51.0"
    assert sorted(name.rpartition("/")[2] for name in status.methodInfos) == [
        "ModelConfig",
        "ModelInfer",
        "ModelMetadata",
        "ModelReady",
        "ModelStatistics",
        "ModelStreamInfer",
    ]
    assert all(list(info.idInjectionPath) == [1] for info in status.methodInfos.values())


def test_an_unload_is_answered_when_the_memory_is_free(rig: Rig) -> None:
    """Triton says OK at once and frees later; the router must not count on the memory before."""
    rig.load("coming-and-going", "named", "onnx")
    assert rig.triton.models()
    rig.unload("coming-and-going")
    assert not rig.triton.models()
    assert rig.states().get("coming-and-going") in (None, "UNAVAILABLE")
    assert rig.files() == set()
    rig.unload("coming-and-going")
    rig.unload("never-seen")


def test_a_model_is_loaded_again_from_other_files(rig: Rig, given: dict[str, Any], expected: dict[str, list[float]]) -> None:
    for path, kind, tensor, shape in (("named", "onnx", "Input3", [1, 1, 28, 28]), ("xgboost", "", "input__0", [1, 126])):
        rig.load("changing", path, kind)
        infer(rig.data, "changing", tensor, shape, given["digit"] if tensor == "Input3" else given["rows"][0])
        rig.unload("changing")
    code, _ = failed(lambda: infer(rig.data, "changing", "input__0", [1, 126], given["rows"][0]))
    assert code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)


def test_sizes_are_guessed_because_the_backends_tell_none_and_can_be_told(rig: Rig) -> None:
    disk = sum(file.stat().st_size for file in (rig.claim / "named").rglob("*") if file.is_file())
    # Asked again for what the server measures, which is nothing here.
    assert rig.load("guessed", "named", "onnx").sizeInBytes == 0
    assert rig.spi.modelSize(spi.ModelSizeRequest(modelId="guessed"), timeout=TIMEOUT).sizeInBytes == int(disk * 1.25)
    rig.unload("guessed")
    told = rig.load("told", "python", size_bytes=7_000_000)
    assert (told.sizeInBytes, told.maxConcurrency) == (7_000_000, 1), "it has one instance"
    rig.unload("told")


def test_a_limit_on_calls_follows_the_instances_of_a_model(rig: Rig) -> None:
    for name, count, more, calls in (("two", 2, "", 2), ("batches", 1, "max_batch_size: 4 dynamic_batching {}", 4)):
        shutil.copytree(rig.claim / "python", rig.claim / name)
        config = rig.claim / name / "config.pbtxt"
        config.write_text(config.read_text().replace("count: 1", f"count: {count}") + more)
        assert rig.load(name, name).maxConcurrency == calls
        rig.unload(name)


def test_ids_that_kubernetes_and_the_mesh_make_are_names_to_triton(rig: Rig) -> None:
    models = {"with.dots-and--dashes", "0A_b", "x" * 63}
    loads = [rig.spi.loadModel.future(load_request(model, "python"), timeout=TIMEOUT) for model in models]
    for load in loads:
        load.result()
    assert {model for model, state in rig.states().items() if state == "READY"} == models
    for model in models:
        rig.unload(model)


@pytest.mark.parametrize("model", ["../other", "a/b", "a b", "..", "_x", "%c", "é", "x" * 201])
def test_other_ids_are_refused_and_leave_nothing(rig: Rig, model: str) -> None:
    code, text = rig.refused(model, "mnist.onnx", "onnx")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("Failed to load Model due to adapter error: Triton takes a model's name from a folder, so the id ")
    assert rig.files() == set()
    assert rig.loaded() == set()


def test_what_cannot_be_loaded_says_why_and_leaves_nothing(rig: Rig) -> None:
    (rig.claim / "old.h5").write_bytes(b"\x89HDF\r\n")
    rig.repository("broken-config", "name: {", "1/model.onnx", b"")
    for path, kind, code, said in (
        (
            "corrupt.onnx",
            "onnx",
            grpc.StatusCode.INVALID_ARGUMENT,
            "Failed to load Model due to Triton runtime error: load failed for model",
        ),
        ("mnist.onnx", "tensorrt", None, "Failed to load Model due to Triton runtime error: "),
        ("old.h5", "keras", grpc.StatusCode.INVALID_ARGUMENT, "The conversion needs TensorFlow, which this adapter does not bring"),
        ("broken-config", "onnx", grpc.StatusCode.INVALID_ARGUMENT, "config.pbtxt of model bad cannot be read: line and column 1:7"),
        ("absent", "onnx", grpc.StatusCode.NOT_FOUND, "path 'absent' does not exist"),
    ):
        found, text = rig.refused("bad", path, kind)
        assert said in text
        assert code is None or found is code
        assert rig.files() == set()
        assert rig.loaded() == set()


def test_a_caller_that_leaves_stops_the_load_and_nothing_stays(rig: Rig) -> None:
    with rig.held("load"):
        call = rig.spi.loadModel.future(load_request("left", "python"), timeout=TIMEOUT)
        rig.until_begun("load")
        call.cancel()
        unload = rig.spi.unloadModel.future(spi.UnloadModelRequest(modelId="left"), timeout=TIMEOUT)
    unload.result()
    assert rig.loaded() == set()
    assert rig.files() == set()


def test_a_new_router_finds_an_empty_server(rig: Rig) -> None:
    rig.load("old", "python")
    (rig.root / "left-over").mkdir()
    assert rig.until_ready().status == spi.RuntimeStatusResponse.READY
    assert rig.loaded() == set()
    assert rig.files() == set()
    until(lambda: not rig.triton.models(), "no process of a model is left")
