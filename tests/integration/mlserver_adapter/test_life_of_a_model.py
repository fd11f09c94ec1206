"""Real models in a real MLServer, driven as a router drives them."""

from __future__ import annotations

import json
from collections.abc import Mapping

import grpc
import pytest

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import model_runtime_pb2 as spi
from tests.integration.mlserver_adapter.rig import BUFFER, MEMORY, MODELS, SERVING, TIMEOUT, Rig, load_request
from tests.integration.storage.servers import Bucket, WebServer

pytestmark = pytest.mark.mlserver

EIGHT = [
    *(0, 0, 1, 11, 14, 15, 3, 0, 0, 1, 13, 16, 12, 16, 8, 0, 0, 8, 16, 4, 6, 16, 5, 0, 0, 5, 15, 11, 13, 14, 0, 0),
    *(0, 0, 2, 12, 16, 13, 0, 0, 0, 0, 0, 13, 16, 16, 6, 0, 0, 0, 0, 16, 16, 16, 7, 0, 0, 0, 0, 11, 13, 12, 1, 0),
]
"""A handwritten 8, eight by eight pixels; the model says 8."""
MUSHROOM = [float(index % 3 == 0) for index in range(126)]


def test_what_the_router_is_told_at_the_start(rig: Rig) -> None:
    status = rig.status()
    assert status.status == status.READY
    assert status.capacityInBytes == MEMORY - BUFFER
    assert status.maxLoadingConcurrency == 1
    assert status.modelLoadingTimeoutMs == 60_000
    assert status.defaultModelSizeInBytes == 1_000_000
    assert status.runtimeVersion == "1.7.1"
    assert not status.limitModelConcurrency
    assert not status.allowAnyMethod
    assert {name: list(info.idInjectionPath) for name, info in status.methodInfos.items()} == {
        f"inference.GRPCInferenceService/{method}": [1] for method in ("ModelInfer", "ModelMetadata", "ModelStreamInfer", "ModelReady")
    }
    assert rig.checked() == SERVING


@pytest.mark.parametrize(
    ("kind", "file", "values"),
    [("sklearn", "mnist-svm.joblib", EIGHT), ("xgboost", "mushroom.json", MUSHROOM), ("lightgbm", "mushroom.bst", MUSHROOM)],
)
def test_a_model_is_loaded_serves_and_is_gone_without_a_trace(rig: Rig, kind: str, file: str, values: list[float]) -> None:
    answer = rig.load(f"{kind}-model", file, kind)
    assert answer.sizeInBytes == int((MODELS / file).stat().st_size * 1.25)

    outputs = rig.infer(f"{kind}-model", values).outputs
    assert len(outputs) == 1
    if kind == "sklearn":
        assert list(outputs[0].contents.int64_contents) == [8]
    else:
        (probability,) = [*outputs[0].contents.fp32_contents, *outputs[0].contents.fp64_contents]
        assert 0 < probability < 1
    assert rig.spi.modelSize(spi.ModelSizeRequest(modelId=f"{kind}-model"), timeout=TIMEOUT).sizeInBytes == answer.sizeInBytes

    rig.unload(f"{kind}-model")
    with pytest.raises(grpc.RpcError) as failure:
        rig.infer(f"{kind}-model", values)
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND
    assert rig.files() == set()


def test_an_unload_of_an_unknown_model_succeeds(rig: Rig) -> None:
    rig.unload("never-loaded")


@pytest.mark.parametrize("model", ["a/b", "../../escape", "_mlserver_models", ".hidden", "with space", "x" * 300, "%41", "A"])
def test_any_id_is_just_a_name(rig: Rig, model: str) -> None:
    rig.load(model, "mnist-svm.joblib", "sklearn")
    assert list(rig.infer(model, EIGHT).outputs[0].contents.int64_contents) == [8]
    assert rig.loaded() == {model}
    rig.unload(model)
    assert rig.files() == set()


def test_loading_a_loaded_model_again_is_fine(rig: Rig) -> None:
    for _ in range(2):
        rig.load("twice", "mnist-svm.joblib", "sklearn")
        assert list(rig.infer("twice", EIGHT).outputs[0].contents.int64_contents) == [8]
    rig.unload("twice")
    assert rig.loaded() == set()


def test_a_corrupt_file_is_refused_and_leaves_nothing(rig: Rig) -> None:
    (rig.claim("models") / "corrupt.json").write_bytes(b"\x80this is not a model")
    code, text = rig.refused("corrupt", "corrupt.json", "xgboost")
    assert code == grpc.StatusCode.INTERNAL
    assert text.startswith("Failed to load Model due to MLServer runtime error: ")
    assert rig.files() == set()
    assert rig.loaded() == set()


def test_a_native_layout_keeps_its_settings_under_the_meshs_name(rig: Rig) -> None:
    folder = rig.claim("models") / "native"
    folder.mkdir()
    (folder / "digits.joblib").write_bytes((MODELS / "mnist-svm.joblib").read_bytes())
    settings = {
        "name": "anything",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./digits.joblib", "version": "v7"},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))

    rig.load("native-model", "native")

    answer = rig.infer("native-model", EIGHT)
    assert (answer.model_name, answer.model_version) == ("native-model", "v7")
    assert list(answer.outputs[0].contents.int64_contents) == [8]
    rig.unload("native-model")
    assert (folder / "digits.joblib").exists()
    assert json.loads((folder / "model-settings.json").read_text()) == settings


def test_a_schema_file_becomes_the_models_metadata(rig: Rig) -> None:
    schema = {
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "digit", "datatype": "INT64", "shape": [-1]}, {"name": "word", "datatype": "STRING", "shape": [-1]}],
    }
    (rig.claim("models") / "schema.json").write_text(json.dumps(schema))
    rig.load("with-schema", "mnist-svm.joblib", "sklearn", schema_path="schema.json")
    metadata = rig.data.ModelMetadata(v2.ModelMetadataRequest(name="with-schema"), timeout=TIMEOUT)
    assert [(item.name, item.datatype, list(item.shape)) for item in metadata.inputs] == [("pixels", "FP32", [-1, 64])]
    assert [(item.name, item.datatype) for item in metadata.outputs] == [("digit", "INT64"), ("word", "BYTES")]
    rig.unload("with-schema")


def test_sizes_are_predicted_without_loading_and_can_be_told(rig: Rig) -> None:
    def predicted(path: str, **key: object) -> int:
        load = load_request("predicted", path, "sklearn", **key)
        request = spi.PredictModelSizeRequest(modelId=load.modelId, modelType=load.modelType, modelPath=path, modelKey=load.modelKey)
        return rig.spi.predictModelSize(request, timeout=TIMEOUT).sizeInBytes

    assert predicted("mnist-svm.joblib") == int((MODELS / "mnist-svm.joblib").stat().st_size * 1.25)
    assert predicted("") == int(sum(file.stat().st_size for file in rig.claim("models").rglob("*") if file.is_file()) * 1.25)
    assert predicted("absent") == 1_000_000
    assert predicted("mnist-svm.joblib", size_bytes=5_000_000) == 5_000_000
    assert rig.load("told", "mnist-svm.joblib", "sklearn", size_bytes=7_000_000).sizeInBytes == 7_000_000
    rig.unload("told")
    assert rig.files() == set()


@pytest.mark.parametrize(
    ("path", "key", "code", "said"),
    [
        ("absent", {}, "NOT_FOUND", "Failed to pull model from storage due to error: path 'absent' does not exist in claim 'models'"),
        (
            "m",
            {"storage_params": {}},
            "INVALID_ARGUMENT",
            "Failed to pull model from storage due to error: Predictor Storage field missing",
        ),
        (
            "m",
            {"storage_key": "nope"},
            "FAILED_PRECONDITION",
            "Failed to pull model from storage due to error: Did not find storage config for key nope: Storage secretKey not found: nope",
        ),
        ("m", {"storage_params": {"type": 5}}, "INVALID_ARGUMENT", "Invalid modelKey in LoadModelRequest: "),
        ("m", {"size_bytes": "big"}, "INVALID_ARGUMENT", "Invalid modelKey in LoadModelRequest: "),
        ("mnist-svm.joblib", {"schema_path": "mushroom.bst"}, "INVALID_ARGUMENT", "Failed to load Model due to adapter error: schema file"),
        ("mnist-svm.joblib", {"schema_path": "absent"}, "NOT_FOUND", "Failed to pull model from storage due to error: path 'absent'"),
    ],
)
def test_what_cannot_be_pulled_is_refused_with_its_cause(rig: Rig, path: str, key: dict[str, object], code: str, said: str) -> None:
    found, text = rig.refused("refused", path, "sklearn", **key)
    assert found == grpc.StatusCode[code]
    assert text.startswith(said)
    assert rig.files() == set()


def test_a_key_that_is_no_json_and_an_id_that_is_none(rig: Rig) -> None:
    for request in (
        spi.LoadModelRequest(modelId="m", modelKey="{"),
        spi.LoadModelRequest(modelId="m"),
        spi.LoadModelRequest(modelKey="{}"),
    ):
        with pytest.raises(grpc.RpcError) as failure:
            rig.spi.loadModel(request, timeout=TIMEOUT)
        assert failure.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_model_comes_over_http(rig: Rig) -> None:
    server = WebServer()
    try:
        server.files["/shelf/mnist-svm.joblib"] = (MODELS / "mnist-svm.joblib").read_bytes()
        (rig.config / "shelf").write_text(json.dumps({"type": "http", "url": f"{server.url}/shelf"}))
        rig.load("over-http", "mnist-svm.joblib", "sklearn", storage_key="shelf", storage_params={})
        assert list(rig.infer("over-http", EIGHT).outputs[0].contents.int64_contents) == [8]
        rig.unload("over-http")
        code, text = rig.refused("over-http", "gone.joblib", "sklearn", storage_key="shelf", storage_params={})
    finally:
        server.close()
    assert code == grpc.StatusCode.NOT_FOUND
    assert f"{server.url}/shelf/gone.joblib does not exist (HTTP status 404)" in text
    assert rig.files() == set()


def test_a_model_comes_from_an_s3_server_by_its_storage_key(rig: Rig, stores: Mapping[str, Bucket]) -> None:
    bucket = stores["s3"]
    bucket.put({"sklearn/mnist-svm.joblib": (MODELS / "mnist-svm.joblib").read_bytes()})
    (rig.config / "localMinIO").write_text(json.dumps(bucket.entry))
    rig.load("from-s3", "sklearn/mnist-svm.joblib", "sklearn", storage_key="localMinIO", storage_params={})
    assert list(rig.infer("from-s3", EIGHT).outputs[0].contents.int64_contents) == [8]
    rig.unload("from-s3")

    (rig.config / "localMinIO").write_text(json.dumps({**bucket.entry, "secret_access_key": "wrong"}))
    code, text = rig.refused("from-s3", "sklearn/mnist-svm.joblib", "sklearn", storage_key="localMinIO", storage_params={})
    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert text.startswith("Failed to pull model from storage due to error: s3 bucket 'models' at http://127.0.0.1:")
    assert "of storage key 'localMinIO' refuses access to 'sklearn/mnist-svm.joblib' (SignatureDoesNotMatch" in text
    assert rig.files() == set()
