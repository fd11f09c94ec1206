"""A runtime that limits the calls on a copy gets no more at a time; a bounded number waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from grpc import StatusCode

from tests.support.client import Client, answer, refused
from tests.support.mesh import Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import Behaviour
from tests.support.waiting import until

AT_A_TIME, IN_ALL = 2, 5


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    environment = {"MM_MAX_INFLIGHT_PER_MODEL_COPY": str(IN_ALL)}
    with a_mesh(tmp_path_factory.mktemp("copies"), Behaviour(max_concurrency=AT_A_TIME), environment) as mesh:
        yield mesh


def most_at_a_time(runtime: RuntimeProcess, model: str) -> int:
    return max(int(line["running"]) for line in runtime.seen("predict", model))


def test_no_more_run_than_the_runtime_takes(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.holding(f"call:{model}"):
        calls = [client.predicting(model, "test:hold") for _ in range(IN_ALL)]
        runtime.awaited("hold", model, times=AT_A_TIME)
    assert [call.result().results[0].category for call in calls] == [answer(model, "test:hold")] * IN_ALL
    assert most_at_a_time(runtime, model) == AT_A_TIME


def test_those_beyond_the_queue_are_refused(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.holding(f"call:{model}"):
        calls = [client.predicting(model, "test:hold") for _ in range(IN_ALL + 3)]
        until(lambda: sum(call.done() for call in calls) == 3, "three to be refused")
        refusals = [call for call in calls if call.done()]
    for call in refusals:
        with refused(StatusCode.RESOURCE_EXHAUSTED):
            call.result()
    assert [call.result().results[0].category for call in calls if call not in refusals] == [answer(model, "test:hold")] * IN_ALL


def test_one_who_leaves_the_queue_makes_room(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.loaded(model)
    with runtime.holding(f"call:{model}"):
        calls = [client.predicting(model, "test:hold") for _ in range(AT_A_TIME)]
        runtime.awaited("hold", model, times=AT_A_TIME)
        with refused(StatusCode.DEADLINE_EXCEEDED):
            client.predict(model, timeout=0.3)
    assert [call.result().results[0].category for call in calls] == [answer(model, "test:hold")] * AT_A_TIME
    assert client.said(model) == answer(model)
