"""Payload processors see what clients ask and get, whatever becomes of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc import RpcError

from tests.support.client import Client, Conversation, example, to
from tests.support.mesh import INSTANCE_ID, Mesh, a_mesh
from tests.support.receiver import Post, Receiver, receiving
from tests.support.waiting import until

METHOD = "mmesh.ExamplePredictor/predict"


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Mesh]:
    processors = (
        "logger:///",
        f"{receiver.url}/all",
        f"{receiver.url}/of-model?/only-this",
        f"{receiver.url}/of-alias?an-alias#{METHOD}",
        f"{receiver.url}/of-no-method?*#no.Such/Method",
        f"cloudevents+{receiver.url}/events",
        "ftp://nobody/x",
        "http://[broken",
    )
    environment = {"MM_PAYLOAD_PROCESSORS": " ".join(processors), "MM_PAYLOAD_PROCESSORS_CAPACITY": "500"}
    with a_mesh(tmp_path_factory.mktemp("payloads"), environment=environment) as mesh:
        yield mesh


def documents(receiver: Receiver, path: str, model: str | None) -> list[dict[str, Any]]:
    return [document for post in receiver.at(path) if (document := json.loads(post.body))["modelid"] == model]


def both(receiver: Receiver, path: str, model: str | None, number: int = 2) -> list[dict[str, Any]]:
    until(lambda: len(documents(receiver, path, model)) >= number, f"{number} payloads of {model} at {path}")
    return documents(receiver, path, model)


def test_request_and_response_are_posted_as_modelmesh_posts_them(receiver: Receiver, client: Client, model: str) -> None:
    client.register(model)
    answer = client.predict(model, "text", metadata=(("x-one", "first"), ("x-two-bin", b"\x00\xff")))
    asked, answered = both(receiver, "/all", model)
    assert set(asked) == set(answered) == {"id", "modelid", "vModelId", "data", "kind", "status", "metadata"}
    assert asked["id"] == answered["id"]
    assert (asked["kind"], asked["status"], asked["vModelId"]) == ("request", "", "")
    assert (answered["kind"], answered["status"]) == ("response", "OK")
    assert example.PredictRequest.FromString(base64.b64decode(asked["data"])).text == "text"
    assert example.PredictResponse.FromString(base64.b64decode(answered["data"])) == answer
    assert asked["metadata"]["x-one"] == "first"
    assert asked["metadata"]["x-two-bin"] == base64.b64encode(b"\x00\xff").decode()
    assert {post.headers["content-type"] for post in receiver.at("/all")} == {"application/json"}


def test_a_failure_is_a_response_without_data(receiver: Receiver, client: Client, model: str) -> None:
    client.register(model)
    with pytest.raises(RpcError):
        client.predict(model, "test:error:code=ABORTED:message=no")
    asked, answered = both(receiver, "/all", model)
    assert asked["data"]
    assert (answered["data"], answered["status"]) == ("", "ABORTED")


def test_a_model_that_does_not_exist_has_both_too(receiver: Receiver, client: Client, model: str) -> None:
    with pytest.raises(RpcError):
        client.predict(f"{model}-nobody")
    assert [document["status"] for document in both(receiver, "/all", f"{model}-nobody")] == ["", "NOT_FOUND"]
    with pytest.raises(RpcError):
        client.predict("", metadata=(("mm-vmodel-id", f"{model}-no-alias"),))
    assert [document["status"] for document in both(receiver, "/all", None)[:2]] == ["", "NOT_FOUND"]


def test_models_aliases_and_methods_are_matched(receiver: Receiver, client: Client, model: str) -> None:
    for name in ("only-this", model):
        client.register(name)
        client.predict(name)
    client.set_alias("an-alias", model)
    client.predict("", metadata=(("mm-vmodel-id", "an-alias"),))
    by_alias = both(receiver, "/of-alias", model)
    assert [document["vModelId"] for document in by_alias] == ["an-alias", "an-alias"]
    both(receiver, "/of-model", "only-this")
    assert {json.loads(post.body)["modelid"] for post in receiver.at("/of-model")} == {"only-this"}
    assert {post.path for post in receiver.at("/of-model")} == {"/of-model?/only-this"}
    assert len(both(receiver, "/all", model, 4)) == 4
    assert receiver.at("/of-no-method") == []


def test_a_call_of_several_models_is_told_once_and_as_one_of_none(receiver: Receiver, client: Client, model: str) -> None:
    names = [f"{model}-{number}" for number in range(2)]
    for name in names:
        client.register(name)
    metadata = (*(("mm-model-id", name) for name in names), ("x-test", model))
    client.predictor.multiPredict(example.MultiPredictRequest(text="all"), metadata=metadata, timeout=30)

    def found() -> list[dict[str, Any]]:
        requests = [one for one in documents(receiver, "/all", None) if one["metadata"].get("x-test") == model]
        return [one for one in documents(receiver, "/all", None) if one["id"] in {request["id"] for request in requests}]

    until(lambda: len(found()) == 2, "two payloads")
    asked, answered = found()
    assert (asked["kind"], answered["kind"], answered["status"]) == ("request", "response", "OK")
    assert set(example.MultiPredictResponse.FromString(base64.b64decode(answered["data"])).predictions) == set(names)
    assert all(documents(receiver, "/all", name) == [] for name in names)


def events(receiver: Receiver, model: str, number: int) -> list[Post]:
    def found() -> list[Post]:
        return [post for post in receiver.at("/events") if post.headers.get("ce-modelid") == model]

    until(lambda: len(found()) >= number, f"{number} events of {model}")
    return found()


def test_cloud_events_are_those_of_kserve(receiver: Receiver, client: Client, model: str) -> None:
    client.register(model)
    client.set_alias(f"{model}-service", model)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = client.predict("", "event", metadata=(("mm-vmodel-id", f"{model}-service"), ("traceparent", trace)))
    asked, answered = events(receiver, model, 2)
    assert asked.headers["ce-specversion"] == "1.0"
    assert asked.headers["ce-type"] == "org.kubeflow.serving.inference.request"
    assert answered.headers["ce-type"] == "org.kubeflow.serving.inference.response"
    assert asked.headers["ce-source"] == f"/modelmesh/conformance/{INSTANCE_ID}/request"
    assert answered.headers["ce-source"] == f"/modelmesh/conformance/{INSTANCE_ID}/response"
    assert asked.headers["ce-id"] == answered.headers["ce-id"]
    assert asked.headers["ce-inferenceservicename"] == f"{model}-service"
    assert (asked.headers["ce-method"], answered.headers["ce-status"]) == (METHOD, "OK")
    assert asked.headers["ce-traceparent"] == trace
    assert example.PredictRequest.FromString(asked.body).text == "event"
    assert example.PredictResponse.FromString(answered.body) == answer


def test_the_logger_tells_a_summary_and_what_is_left_out_is_named(mesh: Mesh, client: Client, model: str) -> None:
    client.register(model)
    client.predict(model, "secret words")

    def told() -> list[dict[str, Any]]:
        lines = [json.loads(text) for text in mesh.router.process.output().splitlines() if text.startswith("{")]
        return [line for line in lines if line.get("message") == "payload" and line["model"] == model]

    until(lambda: len(told()) == 2, "two lines")
    assert [(line["kind"], line["status"], line["method"], line["level"]) for line in told()] == [
        ("request", None, METHOD, "INFO"),
        ("response", "OK", METHOD, "INFO"),
    ]
    output = mesh.router.process.output()
    assert "secret words" not in output
    for uri in ("ftp://nobody/x", "http://[broken"):
        assert f"a payload processor of MM_PAYLOAD_PROCESSORS is left out: {uri}" in output


def test_each_message_of_a_stream_is_a_payload_of_one_id(receiver: Receiver, client: Client, model: str) -> None:
    client.loaded(model)
    talk = Conversation(client, to(model))
    for text in ("one", "two"):
        talk.say(text)
        talk.hear()
    talk.end()
    assert list(talk.answers) == []
    found = both(receiver, "/all", model, 4)
    assert len({document["id"] for document in found}) == 1
    assert [(document["kind"], document["status"]) for document in found] == [("request", ""), ("response", "OK")] * 2
    asked = [base64.b64decode(document["data"]) for document in found if document["kind"] == "request"]
    assert [example.PredictRequest.FromString(data).text for data in asked] == ["one", "two"]
    assert len({(post.headers["ce-source"], post.headers["ce-id"]) for post in events(receiver, model, 4)}) == 4


def test_a_stream_without_an_answer_ends_with_a_response_without_data(receiver: Receiver, client: Client, model: str) -> None:
    client.loaded(model)
    assert list(client.predictor.predictMany(example.PredictRequest(text="test:answers:0"), metadata=to(model), timeout=30)) == []
    assert [(document["status"], bool(document["data"])) for document in both(receiver, "/all", model)] == [("", True), ("OK", False)]


def count(mesh: Mesh, outcome: str) -> float:
    text = mesh.router.scrape("/metrics?name[]=mesh_payloads_total")
    return next(float(line.split()[-1]) for line in text.splitlines() if f'outcome="{outcome}"' in line)


def test_a_receiver_that_refuses_harms_no_call(mesh: Mesh, receiver: Receiver, client: Client, model: str) -> None:
    client.register(model)
    before = count(mesh, "failed")
    receiver.status = 500
    try:
        assert client.said(model)
        until(lambda: count(mesh, "failed") >= before + 4, "failures of two processors for two payloads")
    finally:
        receiver.status = 200
    assert f"payload processor {receiver.url}/all: 1 failures, the last: {receiver.url}/all answers 500" in mesh.router.process.output()


def test_slow_receivers_cost_payloads_not_calls_and_what_waits_is_sent_at_the_end(tmp_path: Path) -> None:
    with receiving() as slow:
        slow.open.clear()
        environment = {
            "MM_PAYLOAD_PROCESSORS": f"{slow.url}/slow",
            "MM_PAYLOAD_PROCESSORS_CAPACITY": "4",
            "MM_PAYLOAD_PROCESSORS_THREADS": "1",
        }
        with a_mesh(tmp_path, environment=environment) as mesh:
            mesh.client.register("m")
            for number in range(4):
                assert mesh.client.said("m", str(number))
            # One is at the receiver and counts still.
            until(lambda: count(mesh, "dropped") == 4)
            until(lambda: len(slow.at("/slow")) == 1, "the one that is at the receiver")
            assert "1 payloads dropped: 4 wait (MM_PAYLOAD_PROCESSORS_CAPACITY)" in mesh.router.process.output()
            slow.open.set()
            mesh.router.stop()
        kinds = [json.loads(post.body)["kind"] for post in slow.at("/slow")]
        assert kinds == ["request", "response"] * 2
