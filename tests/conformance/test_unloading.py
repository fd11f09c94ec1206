"""Unloading waits for calls, is tried again, and comes before the next load of the same model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import StatusCode

from tests.support.client import Client, Status, answer, refused
from tests.support.mesh import REGISTRIES, Mesh, RuntimeProcess, a_mesh
from tests.support.waiting import until


@pytest.fixture(scope="module", params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, store: dict[str, str]) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("unloading"), environment=store) as mesh:
        yield mesh


def story(runtime: RuntimeProcess, model: str) -> list[str]:
    kept = ("loadModel", "unloadModel", "predict")
    return [f"{line['at']} {line['call']}" for line in runtime.journal() if line["model"] == model and line["call"] in kept]


def test_a_refused_unload_is_tried_again(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.behaving(fail_unloads=1):
        client.unregister(model)
        runtime.awaited("unloadModel", model, at="end", times=2)
    assert [line["code"] for line in runtime.seen("unloadModel", model, "end")] == ["UNAVAILABLE", "OK"]


def test_a_model_that_is_gone_already_counts_as_unloaded(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    runtime.do("purge")
    with runtime.behaving(unload_return_not_found=True):
        client.unregister(model)
        runtime.awaited("unloadModel", model, at="end")
        client.loaded(f"{model}-next")
        client.unregister(f"{model}-next")
        runtime.awaited("unloadModel", f"{model}-next", at="end")
    assert runtime.unloads(model) == 1


def test_a_call_under_way_ends_before_its_model_is_unloaded(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.holding(f"call:{model}"):
        call = client.predicting(model, "test:hold")
        runtime.awaited("hold", model)
        client.unregister(model)
        assert client.status(model).status == Status.NOT_FOUND
    assert call.result().results[0].category == answer(model, "test:hold")
    runtime.awaited("unloadModel", model, at="end")
    assert story(runtime, model)[2:] == ["start predict", "end predict", "start unloadModel", "end unloadModel"]


def test_the_same_model_is_loaded_again_only_after_it_was_unloaded(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.holding(f"unload:{model}"):
        client.unregister(model)
        runtime.awaited("unloadModel", model)
        client.register(model)
        call = client.predicting(model)
        until(lambda: client.status(model).status == Status.LOADING)
    assert call.result().results[0].category == answer(model)
    assert story(runtime, model)[2:6] == ["start unloadModel", "end unloadModel", "start loadModel", "end loadModel"]


def test_a_call_that_outlives_the_limit_is_ended(tmp_path: Path, model: str) -> None:
    with a_mesh(tmp_path, environment={"MESH_DRAIN_LIMIT": "500"}) as mesh:
        client, runtime = mesh.client, mesh.runtime
        client.loaded(model)
        with runtime.holding(f"call:{model}"):
            call = client.predicting(model, "test:hold")
            runtime.awaited("hold", model)
            client.unregister(model)
            with refused(StatusCode.UNAVAILABLE, "MESH_DRAIN_LIMIT"):
                call.result()
            # The end of the call and the unload come by two connections, in any order.
            runtime.awaited("unloadModel", model)
            runtime.awaited("predict", model, at="end")
        assert sorted(story(runtime, model)[2:5]) == ["end predict", "start predict", "start unloadModel"]
