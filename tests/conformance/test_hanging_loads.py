"""A load that never answers is ended and told, and its slot is free again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from grpc import StatusCode

from tests.support.client import Client, Status, answer, refused
from tests.support.mesh import Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import Behaviour


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    script = Behaviour(load_timeout_ms=1000, loading_concurrency=1)
    with a_mesh(tmp_path_factory.mktemp("hanging"), script) as mesh:
        yield mesh


def test_who_waits_learns_that_it_took_too_long(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model, "HANG")
    with refused(StatusCode.INTERNAL, f"Load of model {model} timed out after 1sec"):
        client.predict(model)
    status = client.status(model)
    assert status.status == Status.LOADING_FAILED
    assert status.errors[0].endswith(f"Load of model {model} timed out after 1sec")


def test_the_load_is_cancelled_and_what_remains_is_unloaded(client: Client, runtime: RuntimeProcess, model: str) -> None:
    assert client.register(model, "HANG", load=True, sync=True).status == Status.LOADING_FAILED
    runtime.awaited("unloadModel", model, at="end")
    order = [f"{line['at']} {line['call']}" for line in runtime.journal() if line["model"] == model and "load" in line["call"]]
    assert order == ["start loadModel", "end loadModel", "start unloadModel", "end unloadModel"]
    assert runtime.seen("loadModel", model, "end")[0]["code"] == "CANCELLED"


def test_others_load_afterwards(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model, "HANG", load=True)
    runtime.awaited("loadModel", model)
    other = client.loaded(f"{model}-other")
    assert client.said(other) == answer(other)
