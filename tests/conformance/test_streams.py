"""Streams of every shape pass, message by message."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest
from grpc import StatusCode

from mesh.protocols import inference_pb2 as v2
from tests.support.client import Client, Conversation, answer, example, refused, to
from tests.support.mesh import Mesh, RuntimeProcess, a_mesh
from tests.support.waiting import until

METHOD = "mmesh.ExamplePredictor/predictStream"
CONFIG = '{"rpcConfigs": {"%s": {"idExtractionPath": [1]}}, "allowOtherRpcs": true}' % METHOD  # noqa: UP031


@pytest.fixture(scope="module")
def extracting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A pod that reads the model of a stream from its messages."""
    with a_mesh(tmp_path_factory.mktemp("extracting"), environment={"MM_DATAPLANE_CONFIG": CONFIG}) as mesh:
        yield mesh


def test_an_answer_comes_before_the_next_message_is_sent(client: Client, model: str) -> None:
    client.register(model)
    talk = Conversation(client, to(model))
    for text in ("one", "two", "three"):
        talk.say(text)
        assert talk.hear() == answer(model, text)
    talk.end()
    assert list(talk.answers) == []


def test_many_messages_keep_their_order(client: Client, model: str) -> None:
    client.loaded(model)
    texts = [str(number) for number in range(500)]
    answers = client.predictor.predictStream((example.PredictRequest(text=text) for text in texts), metadata=to(model), timeout=30)
    assert [item.results[0].category for item in answers] == [answer(model, text) for text in texts]


@pytest.mark.parametrize("count", [0, 1, 100])
def test_one_message_may_have_many_answers(client: Client, model: str, count: int) -> None:
    client.loaded(model)
    request = example.PredictRequest(text=f"test:answers:{count}")
    answers = client.predictor.predictMany(request, metadata=to(model), timeout=30)
    assert len(list(answers)) == count
    assert dict(answers.trailing_metadata())["x-runtime-trailer"] == model.encode().hex()


@pytest.mark.parametrize(
    "count",
    [pytest.param(0, marks=pytest.mark.xfail(strict=False, reason="gRPC's client can forget headers that come with the end")), 1, 100],
)
def test_the_headers_of_a_stream_come_back(client: Client, model: str, count: int) -> None:
    client.loaded(model)
    request = example.PredictRequest(text=f"test:answers:{count}")
    answers = client.predictor.predictMany(request, metadata=to(model), timeout=30)
    assert len(list(answers)) == count
    assert dict(answers.initial_metadata())["x-runtime"] == "example"


@pytest.mark.parametrize("count", [0, 1, 20])
def test_many_messages_may_have_one_answer(client: Client, model: str, count: int) -> None:
    client.loaded(model)
    texts = [f"t{number}" for number in range(count)]
    got = client.predictor.predictAll((example.PredictRequest(text=text) for text in texts), metadata=to(model), timeout=30)
    assert got.results[0].category == answer(model, "+".join(texts))


def test_a_stream_loads_its_model(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    with runtime.holding(f"load:{model}"):
        talk = Conversation(client, to(model))
        talk.say("early")
        runtime.awaited("loadModel", model)
    assert talk.hear() == answer(model, "early")
    talk.end()
    assert list(talk.answers) == []


def test_a_stream_for_nobody_is_refused(client: Client) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, exactly="must include mm-model-id header"):
        list(client.predictor.predictMany(example.PredictRequest(text="x"), timeout=20))


def test_a_stream_for_an_unknown_model_is_refused(client: Client, model: str) -> None:
    with refused(StatusCode.NOT_FOUND, exactly="model not found"):
        list(client.predictor.predictMany(example.PredictRequest(text="x"), metadata=to(model), timeout=20))


def test_a_stream_keeps_its_model(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    talk = Conversation(client, to(model))
    talk.say("before")
    assert talk.hear() == answer(model, "before")
    client.unregister(model)
    talk.say("after")
    assert talk.hear() == answer(model, "after")
    talk.end()
    assert list(talk.answers) == []
    runtime.awaited("unloadModel", model)
    calls = [f"{line['at']} {line['call']}" for line in runtime.journal() if line["model"] == model]
    assert calls.index("end predictStream") < calls.index("start unloadModel")


def test_the_first_message_names_the_model(extracting: Mesh, model: str) -> None:
    extracting.client.register(model)
    talk = Conversation(extracting.client, ())
    talk.say("one", model)
    assert talk.hear() == answer(model, "one")
    talk.say("two", model)
    assert talk.hear() == answer(model, "two")
    talk.say("three")
    assert talk.hear() == answer(model, "three")
    talk.end()
    assert list(talk.answers) == []


def test_a_later_message_must_not_name_another_model(extracting: Mesh, model: str) -> None:
    extracting.client.register(model)
    extracting.client.register(f"{model}-other")
    talk = Conversation(extracting.client, ())
    talk.say("one", model)
    assert talk.hear() == answer(model, "one")
    talk.say("two", f"{model}-other")
    with refused(StatusCode.INVALID_ARGUMENT, f"{model}-other"):
        talk.hear()
    talk.end()
    assert extracting.runtime.loads(f"{model}-other") == 0


def test_kserve_s_own_stream_passes(client: Client, model: str) -> None:
    client.register(model)
    tensor = v2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2])
    tensor.contents.fp32_contents.extend([0.5, float("inf")])
    requests = [v2.ModelInferRequest(model_name=model, id=str(number), inputs=[tensor]) for number in range(3)]
    got = list(client.v2.ModelStreamInfer(iter(requests), timeout=30))
    assert [item.infer_response.id for item in got] == ["0", "1", "2"]
    assert list(got[0].infer_response.outputs[0].contents.fp32_contents) == [0.5, float("inf")]


def test_who_leaves_a_stream_at_any_moment_keeps_nothing(mesh: Mesh, client: Client, model: str) -> None:
    client.loaded(model)
    for number in range(300):
        request = example.PredictRequest(text="test:answers:20")
        answers = client.predictor.predictMany(request, metadata=to(model), timeout=30)
        # From before the first answer until after the last.
        time.sleep(number / 60_000)
        answers.cancel()

    def calls() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{mesh.router.ports['probe']}/mesh/v1/models/{model}") as answer:
            return int(sum(copy["calls"] for copy in json.load(answer)["copies"]))

    until(lambda: calls() == 0, "no call is left on the copy")
    client.unregister(model)
    until(lambda: mesh.runtime.unloads(model) == 1, "the model is unloaded at once")
