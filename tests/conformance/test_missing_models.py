"""A runtime that silently lost its models: nobody but the journal notices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from grpc import RpcError, StatusCode

from tests.support.client import Client, Conversation, answer, to
from tests.support.mesh import Mesh, RuntimeProcess, a_mesh

PORTS = {"memory": "one-port", "etcd": "serving-port"}
"""Registry and ports have nothing to do with each other, so two of four combinations show as much as all."""


@pytest.fixture(scope="module", params=PORTS, ids=lambda registry: f"{registry}-{PORTS[registry]}")
def registry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def mesh(registry: str, store: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("missing"), environment=store, separate=PORTS[registry] == "serving-port") as mesh:
        yield mesh


WORDS = {
    "grpc": {"not_found": "grpc"},
    "unload-too": {"not_found": "grpc", "unload_return_not_found": True},
    "triton": {"not_found": "triton"},
    "mlserver": {"not_found": "mlserver"},
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_the_next_call_loads_it_again(client: Client, runtime: RuntimeProcess, model: str, words: dict[str, Any]) -> None:
    client.loaded(model)
    with runtime.behaving(**words):
        for loads in (2, 3):
            client.predict(model, "test:purge-models")
            assert client.said(model) == answer(model)
            assert runtime.loads(model) == loads


def test_many_callers_who_meet_a_lost_model_cause_one_load(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    runtime.do("purge")
    with runtime.holding(f"load:{model}"):
        calls = [client.predicting(model) for _ in range(30)]
        runtime.awaited("loadModel", model, times=2)
    assert [call.result().results[0].category for call in calls] == [answer(model)] * 30
    assert runtime.loads(model) == 2


def test_a_stream_heals_too(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    runtime.do("purge")
    talk = Conversation(client, to(model))
    for text in ("a", "b"):
        talk.say(text)
        assert talk.hear() == answer(model, text)
    talk.end()
    assert list(talk.answers) == []
    assert runtime.loads(model) == 2


def test_a_runtime_that_never_finds_the_model_ends_the_call(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with pytest.raises(RpcError) as caught:
        client.predict(model, "test:error:code=NOT_FOUND:message=nothing of that name")
    assert (caught.value.code(), caught.value.details()) == (StatusCode.NOT_FOUND, "nothing of that name")
    assert (runtime.loads(model), runtime.unloads(model)) == (2, 1), "what was loaded for this very call stays"


def test_with_a_port_of_its_own_for_serving_remains_are_unloaded_before_the_load(mesh: Mesh, model: str) -> None:
    mesh.client.loaded(model)
    mesh.runtime.do("purge")
    mesh.client.predict(model)
    calls = [line["call"] for line in mesh.runtime.journal() if line["model"] == model and line["at"] == "start"]
    assert calls.index("unloadModel") < len(calls) - 1 - calls[::-1].index("loadModel")
