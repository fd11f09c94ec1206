"""The concrete id is written into messages where the runtime wants it, and read from where the configuration says it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from grpc import StatusCode

from mesh.protocols import inference_pb2 as v2
from tests.support.client import Client, answer, example, refused, to
from tests.support.mesh import Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import Behaviour

SERVICE = "mmesh.ExamplePredictor"
NESTED = example.PredictRequest.Nested


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A runtime that allows the methods it lists, and no others."""
    infos = {
        f"{SERVICE}/predict": [1],
        f"{SERVICE}/predictMany": [3, 1],
        f"{SERVICE}/predictStream": [1],
        "inference.GRPCInferenceService/ModelInfer": [],
    }
    with a_mesh(tmp_path_factory.mktemp("strict"), Behaviour(method_infos=infos)) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A runtime that allows any method; the ids of two methods lie in their messages."""
    config = {
        "rpcConfigs": {
            f"{SERVICE}/predict": {"idExtractionPath": [1]},
            f"{SERVICE}/predictMany": {"idExtractionPath": [3, 1], "vModelId": True},
        },
        "allowOtherRpcs": True,
    }
    script = Behaviour(method_infos={f"{SERVICE}/predictMany": [3, 1]}, allow_any=True)
    with a_mesh(tmp_path_factory.mktemp("lenient"), script, {"MM_DATAPLANE_CONFIG": json.dumps(config)}) as mesh:
        yield mesh


class TestInjection:
    @pytest.mark.parametrize("name", ["", "x", "another name, longer than the model's own " * 5])
    def test_the_field_has_the_concrete_id(self, strict: Mesh, model: str, name: str) -> None:
        model = model.split("-")[0] + str(len(name))
        strict.client.register(model)
        got = strict.client.predict(model, "test:bytes", name=name)
        assert got.results[1].category == model
        assert example.PredictRequest.FromString(got.request) == example.PredictRequest(modelName=model, text="test:bytes")

    def test_an_alias_is_replaced_by_its_model(self, strict: Mesh, model: str) -> None:
        strict.client.register(model)
        strict.client.set_alias(f"{model}-alias", model)
        assert strict.client.predict("", metadata=(("mm-vmodel-id", f"{model}-alias"),)).results[1].category == model

    @pytest.mark.parametrize("nested", [None, NESTED(note="kept"), NESTED(name="other", note="kept")], ids=["absent", "empty", "set"])
    def test_the_field_may_lie_deeper(self, strict: Mesh, model: str, nested: example.PredictRequest.Nested | None) -> None:
        strict.client.register(model)
        request = example.PredictRequest(text="test:bytes", modelName="stays", nested=nested)
        for got in strict.client.predictor.predictMany(request, metadata=to(model), timeout=20):
            seen = example.PredictRequest.FromString(got.request)
            assert (seen.nested.name, seen.modelName) == (model, "stays")
            assert seen.nested.note == (nested.note if nested else "")

    def test_every_message_of_a_stream_has_it(self, strict: Mesh, model: str) -> None:
        strict.client.register(model)
        requests = [example.PredictRequest(text=str(number), modelName="x" * number) for number in range(3)]
        answers = strict.client.predictor.predictStream(iter(requests), metadata=to(model), timeout=20)
        assert [item.results[1].category for item in answers] == [model] * 3

    def test_a_long_id_is_written_too(self, strict: Mesh) -> None:
        name = "long" * 100
        strict.client.register(name)
        assert strict.client.predict(name, name="short").results[1].category == name

    def test_a_call_must_still_name_its_model(self, strict: Mesh, model: str) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, exactly="must include mm-model-id header"):
            strict.client.predict("", name=model)

    def test_a_method_that_is_not_listed_is_refused(self, strict: Mesh, model: str) -> None:
        strict.client.register(model)
        with refused(StatusCode.UNIMPLEMENTED):
            strict.client.predictor.multiPredict(example.MultiPredictRequest(), metadata=to(model), timeout=20)

    def test_a_method_listed_without_a_path_passes_as_it_is(self, strict: Mesh, model: str) -> None:
        strict.client.register(model)
        got = strict.client.v2.ModelInfer(v2.ModelInferRequest(model_name="stays"), metadata=to(model), timeout=20)
        assert got.model_name == "stays"


class TestAnyMethod:
    def test_a_method_that_is_not_listed_passes_as_it_is(self, lenient: Mesh, model: str) -> None:
        lenient.client.register(model)
        got = lenient.client.predictor.multiPredict(example.MultiPredictRequest(text="a"), metadata=to(model), timeout=20)
        assert got.predictions[model].results[0].category == answer(model, "a")

    @pytest.mark.parametrize("method", ["unloadModel", "loadModel", "runtimeStatus", "modelSize", "predictModelSize", "anything"])
    def test_nobody_reaches_the_runtime_s_management(self, lenient: Mesh, model: str, method: str) -> None:
        lenient.client.loaded(model) if method == "unloadModel" else lenient.client.register(model)
        before = len(lenient.runtime.journal())
        with refused(StatusCode.UNIMPLEMENTED, f"Method not found or not permitted: mmesh.ModelRuntime/{method}"):
            lenient.client.raw(f"mmesh.ModelRuntime/{method}", b"", to(model))
        assert len([line for line in lenient.runtime.journal()[before:] if line["call"] == method]) == 0


class TestExtraction:
    def test_the_message_names_the_model(self, lenient: Mesh, model: str) -> None:
        lenient.client.register(model)
        assert lenient.client.said("", name=model) == answer(model)

    def test_the_message_counts_more_than_the_header(self, lenient: Mesh, model: str) -> None:
        lenient.client.register(model)
        assert lenient.client.said("another", name=model) == answer(model)

    def test_without_the_field_the_header_counts(self, lenient: Mesh, model: str) -> None:
        lenient.client.register(model)
        assert lenient.client.said(model, name="") == answer(model)

    def test_without_either_the_call_is_refused(self, lenient: Mesh) -> None:
        with refused(StatusCode.INVALID_ARGUMENT, exactly="must include mm-model-id header"):
            lenient.client.predict("")

    def test_other_methods_use_headers(self, lenient: Mesh, model: str) -> None:
        lenient.client.register(model)
        got = lenient.client.predictor.predictAll(iter([example.PredictRequest(text="a", modelName="x")]), metadata=to(model), timeout=20)
        assert got.results[0].category == answer(model, "a")

    def test_an_extracted_alias_becomes_the_concrete_id(self, lenient: Mesh, model: str) -> None:
        lenient.client.register(model)
        lenient.client.set_alias(f"{model}-alias", model)
        request = example.PredictRequest(text="test:bytes", nested=NESTED(name=f"{model}-alias", note="kept"))
        (first, *_) = lenient.client.predictor.predictMany(request, timeout=20)
        seen = example.PredictRequest.FromString(first.request)
        assert (seen.nested.name, seen.nested.note) == (model, "kept")

    def test_an_empty_name_in_the_message_is_refused(self, lenient: Mesh, model: str) -> None:
        with refused(StatusCode.INVALID_ARGUMENT):
            lenient.client.raw(f"{SERVICE}/predict", b"\x0a\x00", to(model))

    @pytest.mark.parametrize("payload", [b"\x0a\xff", b"\x08\x05", b"\xff" * 11, b"\x0a\x02\xff\xfe"], ids=["cut", "type", "tag", "text"])
    def test_a_broken_message_is_refused_and_harms_nobody(self, lenient: Mesh, client: Client, model: str, payload: bytes) -> None:
        with refused(StatusCode.INVALID_ARGUMENT):
            lenient.client.raw(f"{SERVICE}/predict", payload)
        name = model.split("-")[0]
        lenient.client.register(name)
        assert lenient.client.said("", name=name) == answer(name)


def test_without_a_configuration_kserve_s_messages_name_a_model_or_an_alias(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    client.set_alias(f"{model}-alias", model)
    for name in (model, f"{model}-alias"):
        assert client.v2.ModelInfer(v2.ModelInferRequest(model_name=name, id="1"), timeout=20).id == "1"
    assert runtime.loads(model) == 1
