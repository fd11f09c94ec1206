"""Who is loaded when many want to be: waiting callers first, one load however many wait, never more at a time than allowed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.client import Client, Status, answer
from tests.support.mesh import REGISTRIES, Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until


@pytest.fixture(scope="module", params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, store: dict[str, str]) -> Iterator[Mesh]:
    """A pod that loads one model at a time, with room for all."""
    script = Behaviour(capacity=64 * 1024 * MIB, loading_concurrency=1)
    with a_mesh(tmp_path_factory.mktemp("single"), script, store) as mesh:
        yield mesh


def loaded_in_order(mesh: Mesh, prefix: str) -> list[str]:
    return [line["model"].removeprefix(prefix) for line in mesh.runtime.seen("loadModel") if line["model"].startswith(prefix)]


def test_a_waiting_call_overtakes_loads_in_the_background(single: Mesh, model: str) -> None:
    client, names = single.client, [f"{model}-{letter}" for letter in "abcd"]
    with single.runtime.holding(f"load:{names[0]}"):
        client.register(names[0], load=True)
        single.runtime.awaited("loadModel", names[0])
        for name in names[1:]:
            client.register(name, load=True)
        client.register(f"{model}-new")
        new = client.predicting(f"{model}-new")
        # The queue holds it for certain once the mesh says that it is loading.
        until(lambda: client.status(f"{model}-new").status == Status.LOADING)
    assert new.result().results[0].category == answer(f"{model}-new")
    until(lambda: all(client.status(name).status == Status.LOADED for name in names))
    assert loaded_in_order(single, f"{model}-")[:2] == ["a", "new"]


def test_a_call_for_a_queued_model_moves_it_to_the_front(single: Mesh, model: str) -> None:
    client, names = single.client, [f"{model}-{letter}" for letter in "abcd"]
    with single.runtime.holding(f"load:{names[0]}"):
        for name in names:
            client.register(name, load=True)
        single.runtime.awaited("loadModel", names[0])
        # Two are queued before and after it: whichever way the queue orders its background, one has to be overtaken.
        call = client.predicting(names[2])
        for _ in range(20):
            client.status(names[2])
    assert call.result().results[0].category == answer(names[2])
    until(lambda: all(client.status(name).status == Status.LOADED for name in names))
    assert loaded_in_order(single, f"{model}-")[:2] == ["a", "c"]


def test_a_thousand_callers_of_one_cold_model_cause_one_load(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    with runtime.holding(f"load:{model}"):
        calls = [client.predicting(model) for _ in range(1000)]
        runtime.awaited("loadModel", model)
    assert {call.result().results[0].category for call in calls} == {answer(model)}
    assert runtime.loads(model) == 1


def test_as_many_load_at_a_time_as_the_runtime_allows(client: Client, runtime: RuntimeProcess, model: str) -> None:
    background, called = [f"{model}-{number}" for number in range(15)], [f"{model}-called-{number}" for number in range(2)]
    begin = len(runtime.journal())

    def loading() -> list[str]:
        return [line["model"] for line in runtime.seen("loadModel") if line["model"].startswith(model)]

    with runtime.holding(*(f"load:{name}" for name in background + called)):
        for name in background:
            client.register(name, load=True)
        until(lambda: len(loading()) == 5)
        for name in called:
            client.register(name)
        calls = [client.predicting(name) for name in called]
        until(lambda: all(client.status(name).status == Status.LOADING for name in called))
        until(lambda: len(loading()) == 6)
        assert set(loading()[:5]) <= set(background)
        assert loading()[5] in called
    assert [call.result().results[0].category for call in calls] == [answer(name) for name in called]
    until(lambda: all(client.status(name).status == Status.LOADED for name in background))
    assert max(line["loading"] for line in runtime.journal()[begin:]) == 6
    assert set(loading()[5:7]) == set(called)


def test_calls_for_other_models_pass_a_slow_load(single: Mesh, model: str) -> None:
    other = single.client.loaded(f"{model}-other")
    with single.runtime.holding(f"load:{model}"):
        single.client.register(model, load=True)
        single.runtime.awaited("loadModel", model)
        assert single.client.said(other) == answer(other)
