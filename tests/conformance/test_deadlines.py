"""Deadlines reach the runtime; a caller that leaves ends its call and never a load."""

from __future__ import annotations

import pytest
from grpc import FutureCancelledError, StatusCode

from mesh.protocols import model_mesh_pb2 as mm
from tests.support.client import Client, Status, answer, example, refused, to
from tests.support.mesh import RuntimeProcess
from tests.support.waiting import until


def test_the_runtime_is_told_how_long_it_has(client: Client, model: str) -> None:
    client.loaded(model)
    # gRPC rounds a time-out up on its way, to a tenth of a second at this length.
    assert 0 < client.predict(model, timeout=17).deadline < 17.3
    answers = client.predictor.predictMany(example.PredictRequest(text="x"), metadata=to(model), timeout=17)
    assert all(0 < item.deadline < 17.3 for item in answers)


def test_a_call_ends_with_its_deadline_at_the_caller_and_at_the_runtime(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.holding(f"call:{model}"):
        with refused(StatusCode.DEADLINE_EXCEEDED):
            client.predict(model, "test:hold", timeout=0.5)
        runtime.awaited("predict", model, at="end")
    assert runtime.seen("predict", model, "end")[0]["code"] == "CANCELLED"
    assert client.said(model) == answer(model)


def test_a_call_that_its_caller_gave_up_is_given_up_at_the_runtime(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.holding(f"call:{model}"):
        call = client.predicting(model, "test:hold")
        runtime.awaited("hold", model)
        call.cancel()
        runtime.awaited("predict", model, at="end")
    assert runtime.seen("predict", model, "end")[0]["code"] == "CANCELLED"


def test_a_stream_that_its_caller_gave_up_is_given_up_at_the_runtime(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.holding(f"call:{model}"):
        answers = client.predictor.predictMany(example.PredictRequest(text="test:hold"), metadata=to(model), timeout=20)
        runtime.awaited("hold", model)
        answers.cancel()
        runtime.awaited("predictMany", model, at="end")
    assert runtime.seen("predictMany", model, "end")[0]["code"] == "CANCELLED"


def check_load_survived(client: Client, runtime: RuntimeProcess, model: str) -> None:
    until(lambda: client.status(model).status == Status.LOADED)
    assert [line["code"] for line in runtime.seen("loadModel", model, "end")] == ["OK"]
    assert client.said(model) == answer(model)
    assert runtime.loads(model) == 1


def test_a_load_outlives_the_deadline_of_who_wanted_it(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    with runtime.holding(f"load:{model}"), refused(StatusCode.DEADLINE_EXCEEDED):
        client.predict(model, timeout=0.5)
    check_load_survived(client, runtime, model)


def test_a_load_outlives_callers_that_leave(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    with runtime.holding(f"load:{model}"):
        calls = [client.predicting(model) for _ in range(5)]
        runtime.awaited("loadModel", model)
        for call in calls:
            call.cancel()
        for call in calls:
            with pytest.raises(FutureCancelledError):
                call.result()
    check_load_survived(client, runtime, model)


def test_a_load_outlives_who_registered_it_and_waits(client: Client, runtime: RuntimeProcess, model: str) -> None:
    info = mm.ModelInfo(type="example")
    with runtime.holding(f"load:{model}"), refused(StatusCode.DEADLINE_EXCEEDED):
        request = mm.RegisterModelRequest(modelId=model, modelInfo=info, loadNow=True, sync=True)
        client.mesh.registerModel(request, timeout=0.5)
    check_load_survived(client, runtime, model)


def test_one_who_stays_is_served_though_others_left(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    with runtime.holding(f"load:{model}"):
        gone, stays = client.predicting(model), client.predicting(model)
        runtime.awaited("loadModel", model)
        gone.cancel()
    assert stays.result().results[0].category == answer(model)
    assert runtime.loads(model) == 1
