"""Three pods, each with a real MLServer, are one: any of them answers for any model, to the last byte, whatever happens to the others."""

from __future__ import annotations

import json
import queue
import shutil
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc import aio

from mesh.protocols import inference_pb2 as v2
from tests.integration.etcd.server import Etcd
from tests.integration.models.stack import EIGHT, MODELS, digit_of, digit_request
from tests.integration.models.test_three_formats import ROWS, directly
from tests.integration.pods.servers import CLAIM, PATIENCE, ServerPod, Servers, servers
from tests.integration.pods.traffic import LIMIT, traffic
from tests.support import environments
from tests.support.client import Client, Refusal, fill
from tests.support.http import plain
from tests.support.waiting import until

pytestmark = [pytest.mark.mlserver, pytest.mark.timeout(400)]

CAPACITY = 10_000_000
"""Bytes of each pod, the least that a router takes of a runtime whose models are 1 MB by default: ten of what is in the folder `twice`."""
SERVICE = "/inference.GRPCInferenceService"
CHEERING = """
from mlserver import MLModel
from mlserver.types import InferenceResponse, ResponseOutput

class Cheering(MLModel):
    async def load(self):
        return True

    async def predict_stream(self, payloads):
        number = 0
        async for payload in payloads:
            for _ in range(2):
                number += 1
                output = ResponseOutput(name="count", shape=[1], datatype="INT64", data=[100 * payload.inputs[0].data[0] + number])
                yield InferenceResponse(model_name=self.name, outputs=[output])
            if payload.inputs[0].data[0] < 0:
                raise ValueError("no more cheers")
"""
"""A model of MLServer's own streaming interface: two answers to each message, with its number and theirs."""


@pytest.fixture(scope="module")
def three(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    claim = folder / "claims" / CLAIM
    shutil.copytree(MODELS, claim)
    (claim / "cheering").mkdir()
    (claim / "cheering" / "cheering.py").write_text(CHEERING)
    (claim / "cheering" / "model-settings.json").write_text(json.dumps({"name": "any", "implementation": "cheering.Cheering"}))
    twice = claim / "twice"
    twice.mkdir()
    for name in ("model.joblib", "model-before.joblib"):
        shutil.copy(MODELS / "mnist-svm.joblib", twice / name)
    store = f"etcd:{etcd.address}"
    with servers(environments.made("mlserver"), folder, claim.parent, store, 3, service="real", capacity=CAPACITY) as made:
        made.register("digits", "mnist-svm.joblib", "sklearn", through=0)
        made.register("mushroom-xgboost", "mushroom.json", "xgboost", through=1)
        made.register("mushroom-lightgbm", "mushroom.bst", "lightgbm", through=2)
        made.register("cheering", "cheering")
        yield made


def row_request(model: str, row: list[float]) -> v2.ModelInferRequest:
    tensor = v2.ModelInferRequest.InferInputTensor(name="predict", shape=[1, len(row)])
    if model.endswith("lightgbm"):
        tensor.datatype = "FP64"
        tensor.contents.fp64_contents.extend(row)
    else:
        tensor.datatype = "FP32"
        tensor.contents.fp32_contents.extend(row)
    return v2.ModelInferRequest(model_name=model, id="same", inputs=[tensor])


def raw_request(model: str, row: list[float]) -> v2.ModelInferRequest:
    """The same with its tensor as bytes behind the message."""
    request = row_request(model, row)
    tensor = request.inputs[0]
    letter = "d" if tensor.datatype == "FP64" else "f"
    tensor.ClearField("contents")
    request.raw_input_contents.append(struct.pack(f"<{len(row)}{letter}", *row))
    return request


def said(pod: ServerPod, request: v2.ModelInferRequest) -> bytes:
    """The answer, byte for byte."""
    return pod.client.raw(f"{SERVICE[1:]}/ModelInfer", request.SerializeToString(), timeout=PATIENCE)


def value(answer: bytes) -> float:
    output = v2.ModelInferResponse.FromString(answer).outputs[0]
    found: list[float] = [*output.contents.fp32_contents, *output.contents.fp64_contents]
    found += output.contents.int64_contents
    assert len(found) == 1
    return found[0]


def digit(call: tuple[ServerPod, str]) -> float:
    """What a digits model says to the handwritten 8 through a pod."""
    pod, model = call
    return value(said(pod, row_request(model, EIGHT)))


async def eight(channel: aio.Channel, model: str) -> None:
    """What `traffic` asks: a digits model says 8."""
    call: aio.UnaryUnaryMultiCallable[v2.ModelInferRequest, v2.ModelInferResponse] = channel.unary_unary(
        f"{SERVICE}/ModelInfer", v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
    )
    assert digit_of(await call(digit_request(model), timeout=LIMIT)) == 8


# Any pod answers


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_pod_answers_to_the_last_bit_what_the_libraries_answer(three: Servers, row: list[float]) -> None:
    expected = directly(row)
    for pod in three.pods:
        assert {kind: value(said(pod, row_request(f"mushroom-{kind}", row))) for kind in expected} == expected


def test_each_model_is_loaded_once_in_the_mesh_however_many_ask_wherever(three: Servers) -> None:
    models = ["digits", "mushroom-xgboost", "mushroom-lightgbm"]
    rows = {"digits": EIGHT}
    calls = [(pod, model) for _ in range(10) for pod in three.pods for model in models]
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda call: said(call[0], row_request(call[1], rows.get(call[1], ROWS["mushroom"]))), calls))
    assert len(set(answers)) == len(models)
    assert {model: three.loads()[model] for model in models} == dict.fromkeys(models, 1)
    assert [len(three.holders(model)) for model in models] == [1, 1, 1]


@pytest.mark.parametrize("form", [row_request, raw_request], ids=["typed", "raw"])
@pytest.mark.parametrize("model", ["digits", "mushroom-xgboost", "mushroom-lightgbm"])
def test_an_answer_over_a_hop_is_the_same_to_the_last_byte(
    three: Servers, model: str, form: Callable[[str, list[float]], v2.ModelInferRequest]
) -> None:
    request = form(model, EIGHT if model == "digits" else ROWS["mushroom"])
    answers = [said(pod, request) for pod in three.pods]
    assert len(set(answers)) == 1
    assert v2.ModelInferResponse.FromString(answers[0]).model_name == model
    described = [
        pod.client.raw(f"{SERVICE[1:]}/ModelMetadata", v2.ModelMetadataRequest(name=model).SerializeToString()) for pod in three.pods
    ]
    assert len(set(described)) == 1
    assert three.holders(model) < {0, 1, 2}, "there was a hop"


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("model", ["digits", "mushroom-xgboost", "mushroom-lightgbm"])
def test_an_answer_over_rest_and_a_hop_is_the_same_to_the_last_byte(three: Servers, model: str, binary: bool) -> None:
    row = EIGHT if model == "digits" else ROWS["mushroom"]
    datatype, letter = ("FP64", "d") if model.endswith("lightgbm") else ("FP32", "f")
    tensor = {"name": "predict", "shape": [1, len(row)], "datatype": datatype}
    headers, tail = {}, b""
    if binary:
        tail = struct.pack(f"<{len(row)}{letter}", *row)
        body = json.dumps(
            {
                "id": "same",
                "parameters": {"binary_data_output": True},
                "inputs": [{**tensor, "parameters": {"binary_data_size": len(tail)}}],
            }
        )
        headers = {"Inference-Header-Content-Length": str(len(body))}
    else:
        body = json.dumps({"id": "same", "inputs": [{**tensor, "data": row}]})
    answers = []
    for pod in three.pods:
        answer = plain.post(f"{pod.router.rest}/v2/models/{model}/infer", content=body.encode() + tail, headers=headers, timeout=PATIENCE)
        assert answer.status_code == 200, answer.text
        answers.append((answer.content, answer.headers.get("Inference-Header-Content-Length")))
    assert len(set(answers)) == 1
    assert (answers[0][1] is not None) is binary


# Streams


class Talk:
    """A stream of a pod's MLServer that is led by hand."""

    def __init__(self, pod: ServerPod, model: str) -> None:
        self._model = model
        self._sent: queue.Queue[v2.ModelInferRequest | None] = queue.Queue()
        call: grpc.StreamStreamMultiCallable[v2.ModelInferRequest, v2.ModelInferResponse] = pod.client.channel.stream_stream(
            f"{SERVICE}/ModelStreamInfer", v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
        )
        self.answers = call(iter(self._sent.get, None), timeout=PATIENCE)

    def say(self, number: int) -> None:
        tensor = v2.ModelInferRequest.InferInputTensor(name="x", datatype="INT64", shape=[1])
        tensor.contents.int64_contents.append(number)
        self._sent.put(v2.ModelInferRequest(model_name=self._model, inputs=[tensor]))

    def end(self) -> None:
        self._sent.put(None)

    def hear(self) -> int:
        answer = next(self.answers)
        assert answer.model_name == self._model
        return digit_of(answer)


@pytest.mark.parametrize("through", range(3))
def test_mlservers_stream_goes_on_message_by_message_through_every_pod(three: Servers, through: int) -> None:
    talk = Talk(three[through], "cheering")
    for number in range(5):
        # Each is sent only after the answers to the one before were heard.
        talk.say(number)
        assert [talk.hear(), talk.hear()] == [102 * number + 1, 102 * number + 2]
    talk.end()
    assert list(talk.answers) == []
    assert len(three.holders("cheering")) == 1


def test_a_stream_that_mlserver_ends_with_an_error_ends_so_after_its_answers_through_every_pod(three: Servers) -> None:
    ends = []
    for pod in three.pods:
        talk, refusal = Talk(pod, "cheering"), Refusal()
        talk.say(-1)
        assert [talk.hear(), talk.hear()] == [-99, -98]
        with pytest.raises(grpc.RpcError) as caught:
            next(talk.answers)
        talk.end()
        fill(refusal, caught.value)
        assert "no more cheers" in refusal.details
        ends.append((refusal.code, refusal.details))
    assert len(set(ends)) == 1
    assert three.loads()["cheering"] == 1


# Errors


def failure(client: Client, method: str, payload: bytes) -> tuple[grpc.StatusCode, str]:
    """Code and text that a call ends with."""
    refusal = Refusal()
    with pytest.raises(grpc.RpcError) as caught:
        client.raw(method, payload, timeout=PATIENCE)
    fill(refusal, caught.value)
    return refusal.code, refusal.details


def wrong_shape() -> v2.ModelInferRequest:
    return row_request("digits", EIGHT[:-1])


def wrong_version() -> v2.ModelInferRequest:
    request = row_request("digits", EIGHT)
    request.model_version = "7"
    return request


def no_input() -> v2.ModelInferRequest:
    return v2.ModelInferRequest(model_name="digits", id="same")


@pytest.mark.parametrize("wrong", [wrong_shape, wrong_version, no_input])
def test_an_error_of_mlserver_is_the_same_over_a_hop_and_from_mlserver_itself(
    three: Servers, wrong: Callable[[], v2.ModelInferRequest]
) -> None:
    assert digit((three[0], "digits")) == 8
    (holder,) = three.holders("digits")
    method, payload = f"{SERVICE[1:]}/ModelInfer", wrong().SerializeToString()
    with Client.insecure(f"127.0.0.1:{three[holder].rig.mlserver.port}") as itself:
        told = [failure(client, method, payload) for client in (itself, *(pod.client for pod in three.pods))]
    assert len(set(told)) == 1, told
    assert [digit((pod, "digits")) for pod in three.pods] == [8] * 3


def test_who_asks_again_for_a_version_that_is_not_there_has_nothing_loaded_again(three: Servers) -> None:
    asked = [pod for pod in three.pods for _ in range(5)]
    method, payload = f"{SERVICE[1:]}/ModelInfer", wrong_version().SerializeToString()
    # The first may have it loaded once more: MLServer says the same of a model that it forgot.
    first = failure(three[0].client, method, payload)
    loads = three.loads()["digits"]
    assert {failure(pod.client, method, payload) for pod in asked} == {first}
    assert three.loads()["digits"] == loads


# Memory


def test_models_that_no_pod_could_hold_alone_are_all_resident_at_once(three: Servers) -> None:
    names = [f"digits-{number:02}" for number in range(24)]
    for number, name in enumerate(names):
        three.register(name, "twice", "sklearn", through=number % 3)
    before = three.unloads()
    # Each through every pod, and many at once.
    calls = [(three[(number + turn) % 3], name) for turn in range(3) for number, name in enumerate(names)]
    with ThreadPoolExecutor(8) as callers:
        assert list(callers.map(digit, calls)) == [8] * len(calls)
    assert {name: three.loads()[name] for name in names} == dict.fromkeys(names, 1)
    assert three.unloads() == before, "nothing was evicted"
    held = [pod.resident() & set(names) for pod in three.pods]
    assert sum(map(len, held)) == 24
    assert max(map(len, held)) <= 10, "what one pod has room for"


# Pods that fail and leave

SERVED = [f"served-{number}" for number in range(6)]


@pytest.fixture(scope="module")
def served(three: Servers) -> list[str]:
    """Small models on more than one pod."""
    for number, name in enumerate(SERVED):
        three.register(name, "mnist-svm.joblib", "sklearn", through=number % 3)
        assert digit((three[number % 3], name)) == 8
    return SERVED


def test_no_call_fails_when_an_mlserver_is_killed_and_others_take_over_what_it_had(three: Servers, served: list[str]) -> None:
    victim = max(three.pods, key=lambda pod: len(pod.resident() & set(served)))
    others = [pod for pod in three.pods if pod is not victim]
    lost = victim.resident() & set(served)
    assert lost
    with traffic(three.addresses, served, callers=6, ask=eight, pause=0.02) as calls:
        calls.reaches(60)
        victim.rig.mlserver.kill()
        calls.reaches(60)
        until(lambda: all(any(name in pod.resident() for pod in others) for name in lost), "others have what was lost", within=PATIENCE)
        calls.reaches(60)
        victim.rig.mlserver.start()
        until(lambda: victim.facts()["runtime"] == "ready", "the router has its MLServer again", within=180)
        calls.reaches(60)
    assert calls.failures == []
    assert [digit((victim, name)) for name in served] == [8] * len(served)


def test_no_call_fails_when_a_router_ends_and_its_models_move(three: Servers, served: list[str]) -> None:
    leaving = max(three.pods, key=lambda pod: len(pod.resident() & set(served)))
    staying = [pod for pod in three.pods if pod is not leaving]
    moved = leaving.resident() & set(served)
    assert moved
    with traffic(three.addresses, served, callers=6, ask=eight, pause=0.02) as calls:
        calls.reaches(60)
        assert leaving.stop_router() == 0
        calls.reaches(60)
    assert calls.failures == []
    for name in moved:
        assert any(name in pod.resident() for pod in staying), name
    leaving.start_router()
    assert [digit((leaving, name)) for name in served] == [8] * len(served)
