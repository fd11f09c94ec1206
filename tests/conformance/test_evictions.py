"""One GiB, models of 50 MiB, six loads at a time: what fits, what leaves, and in which order.

1 GiB is 131,072 units of 8 KiB and a model 6,400; 9,600 are kept for models that are leaving: 18 models fit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.client import Client, Status, answer
from tests.support.mesh import REGISTRIES, Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import MIB
from tests.support.waiting import until

FIT = 18
SIZE = 50 * MIB
CAPACITY = 1024 * MIB


@pytest.fixture(scope="module", params=REGISTRIES)
def registry(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, store: dict[str, str]) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("evictions"), environment=store) as mesh:
        yield mesh


@pytest.fixture
def names(mesh: Mesh, model: str) -> Iterator[list[str]]:
    """Names for models, the oldest first; afterwards the pod is empty again."""
    begin = len(mesh.runtime.journal())
    yield [f"{model}-{number:02}" for number in range(60)]
    mesh.runtime.do("release", gate="*")
    for used in sorted({line["model"] for line in mesh.runtime.journal()[begin:] if line["call"] == "loadModel"}):
        mesh.client.unregister(used)
    until(lambda: mesh.runtime.journal()[-1]["held"] == 0, "the runtime to be empty")


def fill(client: Client, names: list[str]) -> None:
    for name in names[:FIT]:
        client.loaded(name)


def evicted(runtime: RuntimeProcess, names: list[str]) -> list[str]:
    """What was unloaded, in the order of its names."""
    return sorted({line["model"] for line in runtime.seen("unloadModel") if line["model"] in names})


def position(runtime: RuntimeProcess, at: str, call: str, model: str) -> int:
    """Where in the journal the last such line stands."""
    return int(runtime.seen(call, model, at)[-1]["n"])


def test_eighteen_fit(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    fill(client, names)
    assert [client.status(name).status for name in names[:FIT]] == [Status.LOADED] * FIT
    assert evicted(runtime, names) == []


def test_one_more_evicts_the_oldest_and_does_not_wait_for_it(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    fill(client, names)
    with runtime.holding(f"unload:{names[0]}"):
        client.loaded(names[18])
        runtime.awaited("unloadModel", names[0])
        assert runtime.seen("unloadModel", names[0], "end") == []
    runtime.awaited("unloadModel", names[0], at="end")
    assert evicted(runtime, names) == names[:1]
    assert client.status(names[0]).status == Status.NOT_LOADED


def test_with_two_leaving_the_next_waits_for_room(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    fill(client, names)
    with runtime.holding(*(f"unload:{name}" for name in names[:3])):
        client.loaded(names[18])
        client.loaded(names[19])
        client.register(names[20], load=True)
        for name in names[:2]:
            runtime.awaited("unloadModel", name)
        runtime.do("release", gate=f"unload:{names[0]}")
        until(lambda: client.status(names[20]).status == Status.LOADED)
        assert position(runtime, "end", "unloadModel", names[0]) < position(runtime, "start", "loadModel", names[20])
    runtime.awaited("unloadModel", names[2], at="end")
    assert evicted(runtime, names) == names[:3]


def test_an_evicted_model_comes_back_when_it_is_called(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    fill(client, names)
    client.loaded(names[18])
    assert client.said(names[0]) == answer(names[0])
    runtime.awaited("unloadModel", names[1])
    assert evicted(runtime, names) == names[:2]
    assert runtime.loads(names[0]) == 2


def test_a_model_in_use_is_not_the_oldest(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    fill(client, names)
    client.predict(names[0])
    client.loaded(names[18])
    runtime.awaited("unloadModel", names[1], at="end")
    assert evicted(runtime, names) == names[1:2]


def test_a_model_larger_than_thought_evicts_more_once_it_is_measured(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    fill(client, names)
    client.loaded(names[18], f"SIZE_{160 * MIB}_0_0")
    runtime.awaited("unloadModel", names[2], at="end")
    assert evicted(runtime, names) == names[:3]
    assert client.said(names[18]) == answer(names[18])


def test_ten_at_once_evict_exactly_the_ten_oldest(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    fill(client, names)
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(client.loaded, names[18:28])) == names[18:28]
    for name in names[:10]:
        runtime.awaited("unloadModel", name, at="end")
    assert evicted(runtime, names) == names[:10]
    assert [client.status(name).status for name in names[10:28]] == [Status.LOADED] * 18


def test_the_same_while_half_of_those_are_forgotten(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    fill(client, names)
    with ThreadPoolExecutor(15) as pool:
        loads = [pool.submit(client.loaded, name) for name in names[18:28]]
        forgets = [pool.submit(client.unregister, name) for name in names[0:10:2]]
        assert [load.result() for load in loads] == names[18:28]
        for forget in forgets:
            forget.result()
    for name in names[:10]:
        runtime.awaited("unloadModel", name, at="end")
    assert evicted(runtime, names) == names[:10]
    assert [client.status(name).status for name in names[10:28]] == [Status.LOADED] * 18


def test_calls_over_fifty_models_never_hold_more_than_fits(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    begin = len(runtime.journal())
    for name in names[:50]:
        client.register(name)
    dice = random.Random(7)
    called = [dice.choice(names[:50]) for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(client.said, called)) == [answer(name) for name in called]
    until(lambda: runtime.unloads() == len(runtime.seen("unloadModel", at="end")))
    assert max(line["held"] for line in runtime.journal()[begin:]) <= CAPACITY
    loads = sum(runtime.loads(name) for name in names)
    resident = sum(client.status(name).status == Status.LOADED for name in names[:50])
    until(lambda: loads - resident == sum(runtime.unloads(name) for name in names))
    assert resident >= FIT - 3


def test_fifty_cold_models_at_once_take_fifty_loads(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    begin = len(runtime.journal())
    for name in names[:50]:
        client.register(name)
    calls = [client.predicting(name) for name in names[:50]]
    assert [call.result().results[0].category for call in calls] == [answer(name) for name in names[:50]]
    assert sum(runtime.loads(name) for name in names) == 50
    assert max(line["held"] for line in runtime.journal()[begin:]) <= CAPACITY


def test_if_all_are_busy_the_one_that_began_first_is_let_out(client: Client, runtime: RuntimeProcess, names: list[str]) -> None:
    fill(client, names)
    client.register(names[18])
    with runtime.holding(*(f"call:{name}" for name in names[:FIT])):
        busy = []
        for name in names[:FIT]:
            busy.append(client.predicting(name, "test:hold"))
            runtime.awaited("hold", name)
        late = client.predicting(names[18])
        runtime.do("release", gate=f"call:{names[0]}")
        assert busy[0].result().results[0].category == answer(names[0], "test:hold")
        assert late.result().results[0].category == answer(names[18])
        runtime.awaited("unloadModel", names[0])
        assert evicted(runtime, names) == names[:1]
        assert position(runtime, "end", "predict", names[0]) < position(runtime, "start", "unloadModel", names[0])
    for name, call in zip(names, busy, strict=False):
        assert call.result().results[0].category == answer(name, "test:hold")
