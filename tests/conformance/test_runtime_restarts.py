"""A runtime that dies and comes back: calls under way fail, later ones are served, and nobody asks for its status again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from grpc import RpcError, StatusCode

from tests.support.client import Client, Status, answer, refused
from tests.support.mesh import REGISTRIES, Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import Behaviour
from tests.support.waiting import until

ENVIRONMENT = {"MM_LOAD_FAILURE_EXPIRY_TIME_MS": "1000"}


@pytest.fixture(scope="module", params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[True, False], ids=["health", "foreign"])
def mesh(request: pytest.FixtureRequest, store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A pod whose runtime has a health service, and one whose has none."""
    script = Behaviour(health=request.param)
    with a_mesh(tmp_path_factory.mktemp("restarts"), script, {**ENVIRONMENT, **store}) as mesh:
        yield mesh


def served(client: Client, model: str) -> bool:
    try:
        return client.said(model) == answer(model)
    except RpcError:
        return False


def asked_for_status(runtime: RuntimeProcess) -> set[int]:
    """The processes that were asked for their status."""
    return {line["pid"] for line in runtime.seen("runtimeStatus", at="end")}


def test_models_are_loaded_again_after_a_crash(client: Client, runtime: RuntimeProcess, model: str) -> None:
    names = [client.loaded(f"{model}-{number}") for number in range(3)]
    before = asked_for_status(runtime)
    runtime.kill()
    runtime.start()
    for name in names:
        until(partial(served, client, name), "the model to be served again")
        assert runtime.loads(name) == 2
    assert asked_for_status(runtime) == before, "a status call would purge what the runtime holds"


def test_a_crash_during_a_call_ends_the_call(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with refused(StatusCode.INTERNAL, "ModelRuntime UNAVAILABLE: mmesh.ExamplePredictor/predict: UNAVAILABLE"):
        client.predict(model, "test:exit")
    runtime.kill()
    runtime.start()
    until(lambda: served(client, model), "the model to be served again")


def test_a_crash_during_a_load_ends_the_load(mesh: Mesh, model: str) -> None:
    client, runtime = mesh.client, mesh.runtime
    client.register(model)
    runtime.do("hold", gate=f"load:{model}")
    call = client.predicting(model)
    runtime.awaited("loadModel", model)
    runtime.kill()
    runtime.start()
    # Either the load's failure is told, or the runtime was back soon enough for another try.
    try:
        assert call.result().results[0].category == answer(model)
    except RpcError as error:
        assert error.code() == StatusCode.INTERNAL, error  # noqa: PT017
    until(lambda: served(client, model), "the model to be loaded after all")
    assert mesh.router.probe("/live") == 200


def test_while_the_runtime_is_away_calls_end_and_the_router_lives(mesh: Mesh, model: str) -> None:
    client, runtime = mesh.client, mesh.runtime
    client.loaded(model)
    runtime.kill()
    try:
        with pytest.raises(RpcError):
            client.predict(model, timeout=5)
        assert client.register(f"{model}-2").status == Status.NOT_LOADED
        assert mesh.router.probe("/live") == 200
    finally:
        runtime.start()
    until(lambda: served(client, model), "the model to be served again")
    until(lambda: served(client, f"{model}-2"), "the other too")


def test_a_watched_runtime_s_restart_is_known_without_a_call(mesh: Mesh, model: str) -> None:
    if not mesh.runtime.behaviour.health:
        pytest.skip("a runtime without a health service heals call by call")
    mesh.client.loaded(model)
    mesh.runtime.do("health", serving=False)
    mesh.runtime.do("purge")
    mesh.runtime.do("health", serving=True)
    until(lambda: mesh.client.status(model).status == Status.NOT_LOADED, "the copy to be forgotten")
    assert mesh.client.said(model) == answer(model)
    assert mesh.runtime.loads(model) == 2
