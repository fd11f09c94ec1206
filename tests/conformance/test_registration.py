"""Models become known, are told about, and are forgotten again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from grpc import StatusCode

from mesh.protocols import model_mesh_pb2 as mm
from tests.support.client import Client, Status, answer, refused
from tests.support.mesh import INSTANCE_ID, REGISTRIES, RuntimeProcess
from tests.support.waiting import until


@pytest.fixture(scope="module", params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_unknown_model_is_a_status_and_no_error(client: Client, model: str) -> None:
    assert client.status(model) == Status(status=Status.NOT_FOUND)


def test_registering_loads_nothing_unless_asked(client: Client, runtime: RuntimeProcess, model: str) -> None:
    assert client.register(model).status == Status.NOT_LOADED
    assert client.status(model).status == Status.NOT_LOADED
    assert runtime.loads(model) == 0


def test_the_runtime_is_told_what_was_registered(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model, "a/path", kind="sklearn", key='{"a": 1}', load=True, sync=True)
    (load,) = runtime.seen("loadModel", model)
    assert (load["type"], load["path"], load["key"]) == ("sklearn", "a/path", '{"a": 1}')


def test_a_synchronous_load_answers_when_the_model_is_loaded(client: Client, runtime: RuntimeProcess, model: str) -> None:
    status = client.register(model, load=True, sync=True)
    assert status.status == Status.LOADED
    assert [copy.location for copy in status.modelCopyInfos] == [INSTANCE_ID]
    assert status.modelCopyInfos[0].time > 0
    assert not status.errors
    assert runtime.seen("loadModel", model, "end")[0]["code"] == "OK"


def test_a_load_in_the_background_is_loading_until_it_is_loaded(client: Client, runtime: RuntimeProcess, model: str) -> None:
    with runtime.holding(f"load:{model}"):
        assert client.register(model, load=True).status == Status.LOADING
        assert client.status(model).status == Status.LOADING
    until(lambda: client.status(model).status == Status.LOADED)


def test_a_registered_model_is_loaded_by_its_first_call(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    assert client.said(model, "one") == answer(model, "one")
    assert client.said(model, "two") == answer(model, "two")
    assert runtime.loads(model) == 1
    assert client.status(model).status == Status.LOADED


def test_asking_for_the_status_never_loads(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    for _ in range(5):
        assert client.status(model).status == Status.NOT_LOADED
    assert runtime.loads(model) == 0


def test_registering_again_with_the_same_attributes_succeeds(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model, "p", key="k")
    assert client.register(model, "p", key="k").status == Status.NOT_LOADED
    client.register(model, "p", key="k", load=True, sync=True)
    assert client.register(model, "p", key="k").status == Status.LOADED
    assert runtime.loads(model) == 1


@pytest.mark.parametrize(("kind", "path", "key"), [("other", "p", "k"), ("example", "q", "k"), ("example", "p", "l"), ("example", "p", "")])
def test_registering_again_with_other_attributes_is_refused(client: Client, model: str, kind: str, path: str, key: str) -> None:
    client.register(model, "p", key="k")
    with refused(StatusCode.ALREADY_EXISTS, exactly="Model already exists with different attribute values"):
        client.register(model, path, kind=kind, key=key)
    assert client.register(model, "p", key="k").status == Status.NOT_LOADED


def test_a_type_is_required(client: Client, model: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "type"):
        client.register(model, kind="")
    assert client.status(model).status == Status.NOT_FOUND


def test_no_method_of_the_management_takes_an_empty_id(client: Client) -> None:
    for call in (client.register, client.unregister, client.status, client.ensure):
        with refused(StatusCode.INVALID_ARGUMENT, exactly="must provide non-empty modelId"):
            call("")


@pytest.mark.parametrize("name", ["a/b c", "Ünïcode-模型", "x" * 1000, "with\ttab", "..", "%2e"])
def test_an_id_may_be_any_text(client: Client, runtime: RuntimeProcess, name: str) -> None:
    client.loaded(name)
    assert client.status(name).status == Status.LOADED
    client.unregister(name)
    runtime.awaited("unloadModel", name)


def test_loading_an_unknown_model_is_an_error(client: Client, model: str) -> None:
    with refused(StatusCode.NOT_FOUND, exactly="model not found"):
        client.ensure(model)
    with refused(StatusCode.NOT_FOUND, exactly="model not found"):
        client.predict(model)


def test_ensuring_loads_once(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    assert client.ensure(model, sync=True).status == Status.LOADED
    assert client.ensure(model).status == Status.LOADED
    assert runtime.loads(model) == 1


def test_ensuring_without_waiting_answers_at_once(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    with runtime.holding(f"load:{model}"):
        assert client.ensure(model).status == Status.LOADING
    until(lambda: client.status(model).status == Status.LOADED)


def test_many_who_register_one_model_at_once_cause_one_load(client: Client, runtime: RuntimeProcess, model: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        states = list(pool.map(lambda _: client.register(model, load=True, sync=True).status, range(20)))
    assert states == [Status.LOADED] * 20
    assert runtime.loads(model) == 1


def test_a_forgotten_model_is_unloaded_and_unknown(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    client.unregister(model)
    assert client.status(model).status == Status.NOT_FOUND
    with refused(StatusCode.NOT_FOUND, exactly="model not found"):
        client.predict(model)
    runtime.awaited("unloadModel", model, at="end")
    assert runtime.unloads(model) == 1


def test_forgetting_an_unknown_model_succeeds(client: Client, model: str) -> None:
    client.unregister(model)
    client.unregister(model)


def test_a_forgotten_id_can_be_given_to_another_model(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model, "first")
    client.unregister(model)
    client.loaded(model, "second", kind="other")
    assert [line["path"] for line in runtime.seen("loadModel", model)] == ["first", "second"]
    assert runtime.order("loadModel", "unloadModel")[-4:] == [
        f"start unloadModel {model}",
        f"end unloadModel {model}",
        f"start loadModel {model}",
        f"end loadModel {model}",
    ]


def test_a_model_forgotten_while_it_loads_does_not_stay(client: Client, runtime: RuntimeProcess, model: str) -> None:
    with runtime.holding(f"load:{model}"):
        client.register(model)
        waiting = client.predicting(model)
        runtime.awaited("loadModel", model)
        client.unregister(model)
        with refused(StatusCode.NOT_FOUND, exactly="model not found"):
            waiting.result()
    runtime.awaited("unloadModel", model, at="end")
    assert client.status(model).status == Status.NOT_FOUND


def test_a_later_use_may_be_told_while_registering(client: Client, model: str) -> None:
    request = mm.RegisterModelRequest(modelId=model, modelInfo=mm.ModelInfo(type="t"), lastUsedTime=2**63)
    assert client.mesh.registerModel(request, timeout=20).status == Status.NOT_LOADED
