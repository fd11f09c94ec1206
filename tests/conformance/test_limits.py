"""What is too much is refused at once, names its limit, and harms nobody."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from grpc import StatusCode

from tests.support.client import Client, answer, refused, to
from tests.support.mesh import Mesh, RuntimeProcess, a_mesh
from tests.support.waiting import until

MESSAGE, CALLS, HELD = 1 << 20, 8, 4 << 20


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    limits = {"MM_SVC_GRPC_MAX_MSG_SIZE": str(MESSAGE), "MESH_MAX_CALLS": str(CALLS), "MESH_MAX_HELD_BYTES": str(HELD)}
    with a_mesh(tmp_path_factory.mktemp("limits"), environment=limits) as mesh:
        yield mesh


def test_too_large_a_request_is_refused(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with refused(StatusCode.RESOURCE_EXHAUSTED, str(MESSAGE)):
        client.predict(model, "x" * (MESSAGE + 1))
    assert runtime.seen("predict", model) == []
    assert client.said(model) == answer(model)


def test_too_large_an_answer_is_refused(client: Client, model: str) -> None:
    client.loaded(model)
    with refused(StatusCode.RESOURCE_EXHAUSTED, str(MESSAGE)):
        client.predict(model, f"test:fill:{MESSAGE + 1}")
    assert client.said(model) == answer(model)


def test_too_many_calls_are_refused(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.holding(f"call:{model}"):
        calls = [client.predicting(model, "test:hold") for _ in range(CALLS)]
        runtime.awaited("hold", model, times=CALLS)
        with refused(StatusCode.RESOURCE_EXHAUSTED, "MESH_MAX_CALLS"):
            client.predict(model)
    for call in calls:
        assert call.result().results[0].category == answer(model, "test:hold")
    assert client.said(model) == answer(model)


def test_too_much_kept_for_waiting_calls_is_refused(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    text = "x" * 900_000
    with runtime.holding(f"load:{model}"):
        calls = [client.predicting(model, text) for _ in range(6)]
        runtime.awaited("loadModel", model)
        until(lambda: sum(call.done() for call in calls) == 2, "two to be refused: four of 900 kB fit in four MiB")
        refusals = [call for call in calls if call.done()]
    for call in calls:
        if call not in refusals:
            assert call.result().results[0].category == answer(model, text)
            continue
        with refused(StatusCode.RESOURCE_EXHAUSTED, "MESH_MAX_HELD_BYTES"):
            call.result()
    assert client.said(model) == answer(model)


@pytest.mark.parametrize("method", ["mmesh.ModelMesh/noSuchMethod", "mmesh.ModelRuntime/unloadModel"])
def test_methods_of_the_mesh_that_do_not_exist_are_not_proxied(client: Client, model: str, method: str) -> None:
    with refused(StatusCode.UNIMPLEMENTED):
        client.raw(method, b"", to(model))


def test_garbage_for_the_management_is_refused(client: Client, model: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT):
        client.raw("mmesh.ModelMesh/registerModel", b"\xff\xff\xff")
    client.register(model)
    assert client.said(model) == answer(model)
