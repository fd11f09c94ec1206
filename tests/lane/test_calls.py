"""Calls of a resident model go straight to its copy, and are what they would be without the lane; all others are the Python door's."""

from __future__ import annotations

from typing import Any

import pytest
from grpc import StatusCode

from mesh.protocols import inference_pb2 as v2
from tests.lane.conftest import LARGEST, Pod
from tests.support.client import Client, Conversation, Status, answer, example, refused, to
from tests.support.ports import free
from tests.support.runtime_services import DETAILS
from tests.support.runtime_state import MIB


def seen(client: Client, model: str, *more: tuple[str, str | bytes]) -> dict[str, bytes]:
    """The metadata that the runtime got."""
    return {header.name: header.value for header in client.predict(model, "test:metadata", metadata=more).headers}


def straight(client: Client, model: str) -> bool:
    """Whether a call comes to the runtime without the router."""
    return seen(client, model)["user-agent"].startswith(b"mesh-lane/")


def infer(model: str, **more: Any) -> v2.ModelInferRequest:
    return v2.ModelInferRequest(model_name=model, id="7", raw_input_contents=[bytes(range(256))], **more)


# Which way


def test_a_resident_model_is_called_straight(pod: Pod, model: str) -> None:
    pod.resident(model)
    assert straight(pod.client, model)
    assert pod.client.said(model) == answer(model)


def test_a_model_that_is_not_published_is_the_routers(pod: Pod, model: str) -> None:
    pod.client.loaded(model)
    assert pod.client.said(model) == answer(model)
    assert not straight(pod.client, model)


def test_a_cold_model_is_loaded_by_the_router(pod: Pod, model: str) -> None:
    pod.client.register(model)
    assert pod.client.said(model) == answer(model)
    assert pod.client.status(model).status == Status.LOADED


def test_what_is_wrong_is_answered_in_the_routers_words(pod: Pod, model: str) -> None:
    pod.resident(model)
    for metadata in ((), (("mm-model-id", model), ("mm-vmodel-id", model)), (("mm-model-id", ""),), (("mm-model-id", "no-such"),)):
        with pytest.raises(Exception, match=r".") as of_router:
            pod.mesh.client.predictor.predict(example.PredictRequest(text="x"), metadata=metadata, timeout=30)
        error: Any = of_router.value
        with refused(error.code(), exactly=error.details()):
            pod.client.predictor.predict(example.PredictRequest(text="x"), metadata=metadata, timeout=30)


def test_several_models_in_one_call_are_the_routers(pod: Pod, model: str) -> None:
    pod.resident(model)
    both = (("mm-model-id", model), ("mm-model-id", model))
    found = pod.client.predictor.multiPredict(example.MultiPredictRequest(text="x"), metadata=both, timeout=30)
    assert list(found.predictions) == [model]


# What the runtime gets


def test_the_runtime_gets_the_callers_headers_and_the_model(pod: Pod, model: str) -> None:
    pod.resident(model)
    sent = (("x-mine", "1"), ("x-mine-bin", b"\xff\x00"), ("mm-balanced", "true"), ("mesh-hop-bin", b"x"), ("traceparent", "00-1-2-01"))
    found = seen(pod.client, model, *sent)
    kept = {name: value for name, value in found.items() if name != "user-agent"}
    assert kept == {
        "x-mine": b"1",
        "x-mine-bin": b"\xff\x00",
        "traceparent": b"00-1-2-01",
        "mm-model-id": model.encode(),
        "mm-model-id-bin": model.encode(),
    }


def test_an_alias_becomes_its_model(pod: Pod, model: str) -> None:
    pod.resident(model)
    pod.published(aliases=[(f"of-{model}", model)])
    call = example.PredictRequest(text="x")
    found = pod.client.predictor.predict(call, metadata=(("mm-vmodel-id", f"of-{model}"),), timeout=30)
    assert found.results[0].category == answer(model, "x")


def test_the_calls_of_an_alias_are_shared_among_models(pod: Pod, model: str) -> None:
    for number in (1, 2):
        pod.resident(f"{model}-{number}")
    rule = ([([("x-old", "present", "true")], None)], ([(f"{model}-1", 100)], ""))
    pod.published(shared=[(model, ([rule], ([(f"{model}-2", 100)], "")))])
    call = example.PredictRequest(text="x")
    for number, more in ((1, (("x-old", ""),)), (2, ())):
        found = pod.client.predictor.predict(call, metadata=(("mm-vmodel-id", model), *more), timeout=30)
        assert found.results[0].category == answer(f"{model}-{number}", "x")


@pytest.mark.parametrize(
    ("match", "shares", "said"),
    [
        (("x", "regex", "y"), [("m", 100)], 'not by "regex"'),
        (("no name", "exact", "y"), [("m", 100)], "no name of a header"),
        (("x", "exact", "y"), [], "no model"),
    ],
)
def test_what_cannot_be_shared_so_is_refused(pod: Pod, match: tuple[str, str, str], shares: list[tuple[str, int]], said: str) -> None:
    before = pod.lane.publish()
    with pytest.raises(ValueError, match=said):
        pod.lane.publish(shared=[("of-m", ([([([match], None)], (shares, ""))], ([("m", 100)], "")))])
    assert pod.lane.publish() == before + 1


def test_the_id_in_the_request_becomes_the_models(pod: Pod, model: str) -> None:
    pod.resident(f"{model}-with-an-id-of-its-own")
    pod.published(aliases=[(model, f"{model}-with-an-id-of-its-own")])
    found = pod.client.v2.ModelInfer(infer(model), timeout=30)
    assert found == v2.ModelInferResponse(model_name=f"{model}-with-an-id-of-its-own", id="7", raw_output_contents=[bytes(range(256))])


def test_a_name_that_is_no_alias_is_a_models(pod: Pod, model: str) -> None:
    copy = pod.resident(model)
    assert copy.last_used == 0
    assert pod.client.v2.ModelInfer(infer(model), timeout=30).model_name == model
    assert copy.last_used > 0


def test_a_large_request_is_addressed_by_its_first_bytes(pod: Pod, model: str) -> None:
    pod.resident(f"{model}x")
    pod.published(aliases=[(model, f"{model}x")])
    tensor = bytes(range(256)) * 4096 * 20
    request = v2.ModelInferRequest(model_name=model, raw_input_contents=[tensor])
    found = pod.client.v2.ModelInfer(request, timeout=60)
    assert found.model_name == f"{model}x"
    assert found.raw_output_contents[0] == tensor


def test_a_large_answer_comes_whole(pod: Pod, model: str) -> None:
    pod.resident(model)
    assert len(pod.client.predict(model, f"test:fill:{20 * MIB}", timeout=60).request) == 20 * MIB


def test_a_request_beyond_the_limit_is_refused(pod: Pod, model: str) -> None:
    pod.resident(model)
    with refused(StatusCode.RESOURCE_EXHAUSTED):
        pod.client.v2.ModelInfer(v2.ModelInferRequest(model_name=model, raw_input_contents=[bytes(LARGEST)]), timeout=60)


# What the caller gets


def test_headers_and_trailers_of_the_runtime_come_back(pod: Pod, model: str) -> None:
    pod.resident(model)
    _, call = pod.client.predictor.predict.with_call(example.PredictRequest(text="x"), metadata=to(model), timeout=30)
    headers, trailers = dict(call.initial_metadata()), dict(call.trailing_metadata())
    assert (headers["x-runtime"], headers["x-runtime-bin"]) == ("example", b"\xff\x00")
    assert trailers == {"x-runtime-trailer": model.encode().hex()}


@pytest.mark.parametrize("code", [StatusCode.INTERNAL, StatusCode.PERMISSION_DENIED, StatusCode.INVALID_ARGUMENT])
def test_a_runtimes_status_comes_back_with_its_details(pod: Pod, model: str, code: StatusCode) -> None:
    pod.resident(model)
    with refused(code, exactly="100 % größer") as refusal:
        pod.client.predict(model, f"test:error:code={code.name}:message=100 % größer")
    assert refusal.trailers == {"x-runtime-trailer": "of an error", "grpc-status-details-bin": DETAILS}


# Streams


def test_a_conversation_goes_both_ways_message_by_message(pod: Pod, model: str) -> None:
    pod.resident(model)
    talk = Conversation(pod.client, to(model))
    for text in ("one", "two", "three"):
        talk.say(text)
        assert talk.hear() == answer(model, text)
    talk.end()
    assert list(talk.answers) == []


def test_many_requests_and_many_answers(pod: Pod, model: str) -> None:
    pod.resident(model)
    requests = iter([example.PredictRequest(text=str(number)) for number in range(1000)])
    whole = pod.client.predictor.predictAll(requests, metadata=to(model), timeout=60)
    assert whole.results[0].category == answer(model, "+".join(map(str, range(1000))))
    answers = pod.client.predictor.predictMany(example.PredictRequest(text="test:answers:1000"), metadata=to(model), timeout=60)
    assert sum(1 for _ in answers) == 1000


def test_each_message_of_a_stream_gets_the_models_id_and_none_may_name_another(pod: Pod, model: str) -> None:
    pod.resident(f"{model}x")
    pod.published(aliases=[(model, f"{model}x")])
    names = [
        item.infer_response.model_name for item in pod.client.v2.ModelStreamInfer(iter([infer(model), infer(f"{model}x")]), timeout=30)
    ]
    assert names == [f"{model}x"] * 2
    with refused(StatusCode.INVALID_ARGUMENT, "names model 'another'", f"the stream is for '{model}'"):
        list(pod.client.v2.ModelStreamInfer(iter([infer(model), infer("another")]), timeout=30))


# Failures of a copy


def test_a_runtime_that_forgot_the_model_is_healed_by_the_router(pod: Pod, model: str) -> None:
    pod.resident(model)
    pod.mesh.runtime.do("purge")
    assert pod.client.said(model) == answer(model)
    assert straight(pod.client, model)


def test_a_copy_that_cannot_be_reached_costs_nobody_an_answer(pod: Pod, model: str) -> None:
    pod.mesh.client.loaded(model)
    (nobody,) = free()
    pod.published(models=[(model, [pod.lane.copy(f"127.0.0.1:{nobody}", tried="pod-1,1700000000000")])])
    assert pod.client.said(model) == answer(model)
    assert pod.client.v2.ModelInfer(infer(model), timeout=30).raw_output_contents == [bytes(range(256))]
