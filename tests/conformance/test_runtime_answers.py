"""A runtime's own answer passes as it is; its absence is the mesh's own error."""

from __future__ import annotations

import pytest
from grpc import StatusCode

from tests.support.client import Client, answer, example, refused, to
from tests.support.mesh import RuntimeProcess
from tests.support.runtime_services import DETAILS

PASSING = [code for code in StatusCode if code.name not in ("OK", "NOT_FOUND", "UNAVAILABLE", "RESOURCE_EXHAUSTED")]


@pytest.mark.parametrize("code", PASSING, ids=[code.name for code in PASSING])
def test_a_status_passes_with_its_text_and_trailers(client: Client, runtime: RuntimeProcess, model: str, code: StatusCode) -> None:
    client.loaded(model)
    with refused(code, exactly="ä reason: of its own") as refusal:
        client.predict(model, f"test:error:code={code.name}:message=ä reason: of its own")
    assert refusal.trailers["x-runtime-trailer"] == "of an error"
    assert refusal.trailers["grpc-status-details-bin"] == DETAILS
    assert len(runtime.seen("predict", model)) == 1
    assert runtime.loads(model) == 1


def test_a_status_without_a_text_passes_too(client: Client, model: str) -> None:
    client.loaded(model)
    with refused(StatusCode.ABORTED, exactly=""):
        client.predict(model, "test:error:code=ABORTED:message=")


def test_an_unavailable_runtime_is_an_internal_error(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    text = "ModelRuntime UNAVAILABLE: mmesh.ExamplePredictor/predict: UNAVAILABLE: taking a nap"
    with refused(StatusCode.INTERNAL, exactly=text):
        client.predict(model, "test:error:code=UNAVAILABLE:message=taking a nap")
    assert client.said(model) == answer(model)
    assert runtime.loads(model) == 1
    assert len(client.status(model).modelCopyInfos) == 1


def test_an_exhausted_runtime_is_told(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with refused(StatusCode.RESOURCE_EXHAUSTED, "too busy"):
        client.predict(model, "test:error:code=RESOURCE_EXHAUSTED:message=too busy")
    assert client.said(model) == answer(model)
    assert runtime.loads(model) == 1


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("INVALID_ARGUMENT", "Model input not understood"),
        ("INVALID_ARGUMENT", "Tensor x not found"),
    ],
)
def test_texts_that_only_resemble_a_lost_model_pass(client: Client, runtime: RuntimeProcess, model: str, code: str, text: str) -> None:
    client.loaded(model)
    with refused(StatusCode[code], exactly=text):
        client.predict(model, f"test:error:code={code}:message={text}")
    assert runtime.loads(model) == 1


def test_a_method_that_the_runtime_lacks_is_unimplemented(client: Client, model: str) -> None:
    client.loaded(model)
    with refused(StatusCode.UNIMPLEMENTED):
        client.raw("no.such.Service/method", b"", to(model))
    assert client.said(model) == answer(model)


def test_an_error_in_a_stream_comes_after_what_was_answered(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    texts = ["a", "b", "test:error:code=NOT_FOUND:message=no more", "c"]
    answers = client.predictor.predictStream((example.PredictRequest(text=text) for text in texts), metadata=to(model), timeout=20)
    got: list[str] = []
    with refused(StatusCode.NOT_FOUND, exactly="no more") as refusal:
        got.extend(item.results[0].category for item in answers)
    assert got == [answer(model, "a"), answer(model, "b")]
    assert refusal.trailers["x-runtime-trailer"] == "of an error"
    assert runtime.loads(model) == 1, "nothing is tried again after an answer"
