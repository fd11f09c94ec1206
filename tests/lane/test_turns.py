"""Where the runtime limits calls on a copy, both planes keep one limit, and their calls stand in one line."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import httpx
import pytest
from grpc import StatusCode
from prometheus_client.parser import text_string_to_metric_families

from mesh.core.cache.copies import Copy
from mesh.core.errors import QueueFull
from mesh.core.ids import ModelId
from mesh.pod.turns import Turns
from tests.integration.etcd.server import Etcd
from tests.lane import built
from tests.lane.test_rest import asking, tensor
from tests.lane.test_several_pods import goes
from tests.support import environments, lane
from tests.support.client import Client, Pending, answer, example, refused, to
from tests.support.cluster import PodProcesses, a_cluster, chosen_places
from tests.support.http import plain
from tests.support.mesh import RuntimeProcess
from tests.support.runtime_state import Behaviour
from tests.support.waiting import until
from tests.unit.pod.bench import OFF, Bench, turns

if TYPE_CHECKING:
    import mesh_lane

pytestmark = pytest.mark.skipif(not lane.built(), reason="the express lane is not compiled: `make lane` does it where cargo is")
AT_A_TIME, IN_ALL = 2, 40
QUEUE_DELAY = "modelmesh_req_queue_delay_milliseconds"
PROTO = {"inputs": [{"name": "a", "shape": [1], "datatype": "INT8", "contents": {"int_contents": [1]}}]}


# Python's part, in the account of the lane

Given = asyncio.Task[Callable[[], None]]


@pytest.fixture
def express() -> Iterator[mesh_lane.Lane]:
    module = built.load()
    assert module is not None
    made: mesh_lane.Lane = module.Lane("127.0.0.1:0", "127.0.0.1:1", times=[1_000_000_000])
    yield made
    made.stop(0)


@pytest.fixture
async def copy() -> AsyncIterator[Copy]:
    bench = Bench()
    found = await bench.serving("m")
    found.calls = 0
    yield found
    await bench.stop()


def ask(line: Turns, copy: Copy) -> Given:
    """One more call of the Python plane, which asks for its turn."""
    copy.calls += 1
    return asyncio.get_running_loop().create_task(line.take(copy))


def shared(line: Turns, express: mesh_lane.Lane, copy: Copy) -> mesh_lane.Copy:
    limit, queue = line.limits(copy)
    copy.account = account = express.copy("127.0.0.1:1", limit=limit, queue=queue)
    line.share(copy, account)
    return account


def done(asked: list[Given]) -> list[bool]:
    return [task.done() for task in asked]


async def test_turns_come_in_order_and_places_are_given_back(express: mesh_lane.Lane, copy: Copy) -> None:
    copy.concurrency = 2
    line = Turns(OFF, limited=True, longest=5)
    shared(line, express, copy)
    asked = [ask(line, copy) for _ in range(5)]
    await turns()
    assert done(asked) == [True, True, False, False, False]
    with pytest.raises(QueueFull, match=r"Model queue overload: 6 calls .* of m"):
        await ask(line, copy)
    copy.calls -= 1
    # One leaves the line, one has its turn, and the last gives up when its turn has come.
    asked[2].cancel()
    await turns()
    (await asked[0])()
    back = await asked[3]
    back()
    asked[4].cancel()
    await turns()
    (await asked[1])()
    again = [ask(line, copy), ask(line, copy)]
    await turns()
    assert done(again) == [True, True]


async def test_calls_that_ran_or_waited_before_there_was_a_lane_keep_their_places(express: mesh_lane.Lane, copy: Copy) -> None:
    copy.concurrency = 2
    line = Turns(OFF, limited=True, longest=0)
    before = [ask(line, copy) for _ in range(4)]
    await turns()
    account = shared(line, express, copy)
    later = ask(line, copy)
    await turns()
    assert done([*before, later]) == [True, True, False, False, False]
    before[2].cancel()
    (await before[0])()
    await turns()
    assert done([before[3], later]) == [True, False]
    (await before[1])()
    assert callable(await later)
    assert (account.ask(), account.granted()) == (4, [])


async def test_a_place_that_the_lane_left_is_taken_when_it_tells(express: mesh_lane.Lane, copy: Copy) -> None:
    copy.concurrency = 1
    line = Turns(OFF, limited=True, longest=0)
    account = shared(line, express, copy)
    # As a call of the lane that holds the place.
    assert account.ask() == 0
    waiter = ask(line, copy)
    await turns()
    account.give_back()
    await turns()
    assert not waiter.done()
    assert select.select([express], [], [], 60)[0]
    line.heard()
    assert callable(await waiter)


async def test_a_limit_that_changes_is_told_to_the_lane(express: mesh_lane.Lane, copy: Copy) -> None:
    copy.concurrency = 1
    line = Turns(OFF, limited=True, longest=0)
    account = shared(line, express, copy)
    asked = [ask(line, copy) for _ in range(3)]
    await turns()
    assert done(asked) == [True, False, False]
    copy.concurrency = 2
    line.count(ModelId("m"), account, copy)
    await turns()
    assert done(asked) == [True, True, False]


# Routers


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    etcd = Etcd(environments.made("etcd"), tmp_path_factory.mktemp("etcd"))
    etcd.start()
    try:
        yield f"etcd:{etcd.address}"
    finally:
        etcd.stop()


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory, store: str) -> Iterator[PodProcesses]:
    environment = {
        "MM_METRICS": "prometheus:port=0;scheme=http;per_model_metrics=true",
        "MM_MAX_INFLIGHT_PER_MODEL_COPY": str(IN_ALL),
        "MESH_RATE_INTERVAL_MS": "500",
        **lane.variables("auto"),
    }
    behaviour = Behaviour(max_concurrency=AT_A_TIME)
    with a_cluster(tmp_path_factory.mktemp("turns"), store, 1, service="turns", behaviour=behaviour, environment=environment) as cluster:
        yield cluster[0]


def most_at_a_time(runtime: RuntimeProcess, model: str) -> int:
    lines = runtime.seen("predict", model) + runtime.seen("ModelInfer", model)
    return max(int(line["running"]) for line in lines)


def on_copy(pod: PodProcesses, model: str) -> int:
    """Calls that run or wait on this pod's copy, of both planes."""
    return sum(int(copy["calls"]) for copy in pod.facts(f"models/{model}")["copies"] if copy["pod"] == pod.id)


def value(pod: PodProcesses, name: str, model: str = "", **labels: str) -> float:
    wanted = ({"modelId": model} if model else {}) | labels
    for family in text_string_to_metric_families(pod.router.scrape()):
        for sample in family.samples:
            if sample.name == name and wanted.items() <= sample.labels.items():
                return sample.value
    return 0.0


def by_lane(pod: PodProcesses, way: str = "here") -> float:
    return value(pod, "mesh_lane_calls_total", way=way)


def by_python(client: Client, model: str, text: str = "hello") -> Pending:
    """A call that the lane hands over: its message is compressed."""
    request = example.PredictRequest(text=text)
    made: Pending = client.predictor.predict.future(request, timeout=60, metadata=to(model), compression=grpc.Compression.Gzip)
    return made


def infer(pod: PodProcesses, model: str, body: object) -> httpx.Response:
    return plain.post(f"{pod.router.rest}/v2/models/{model}/infer", json=body, timeout=60)


def test_the_lane_is_on(pod: PodProcesses) -> None:
    assert "the express lane is on" in pod.router.process.output()


def test_calls_of_both_planes_are_answered_and_no_more_run_at_a_time_than_the_runtime_takes(pod: PodProcesses, model: str) -> None:
    pod.client.loaded(model)
    before, runtime = by_lane(pod), pod.runtime
    with ThreadPoolExecutor(8) as threads:
        with runtime.holding(f"call:{model}"):
            calls = [make(pod.client, model, "test:hold") for _ in range(12) for make in (Client.predicting, by_python)]
            runtime.awaited("hold", model, times=AT_A_TIME)
            # REST over both planes: the lane reads the v2 form, Python that of proto3.
            bodies = [asking("hold"), PROTO] * 4
            answers = [threads.submit(infer, pod, model, body) for body in bodies]
            until(lambda: on_copy(pod, model) == 32, "all run or stand in line")
            assert len(runtime.seen("hold", model)) == AT_A_TIME
        assert [call.result(60).results[0].category for call in calls] == [answer(model, "test:hold")] * 24
        assert [response.result(60).status_code for response in answers] == [200] * 8
    assert most_at_a_time(runtime, model) == AT_A_TIME
    assert by_lane(pod) == before + 16
    assert value(pod, f"{QUEUE_DELAY}_count", model) == 32
    assert value(pod, f"{QUEUE_DELAY}_sum", model) > 0
    assert on_copy(pod, model) == 0


def test_as_fast_as_both_planes_can_no_more_run_at_a_time(pod: PodProcesses, model: str) -> None:
    pod.client.loaded(model)

    def some(number: int) -> int:
        right = 0
        with Client.insecure(pod.router.address) as client:
            for call in range(60):
                text = f"{number} {call}"
                made = by_python(client, model, text) if number % 2 else client.predicting(model, text)
                right += made.result(60).results[0].category == answer(model, text)
        return right

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(some, range(8))) == 480
    assert most_at_a_time(pod.runtime, model) <= AT_A_TIME
    assert on_copy(pod, model) == 0


@pytest.mark.parametrize("first", [Client.predicting, by_python])
@pytest.mark.parametrize("second", [Client.predicting, by_python])
def test_who_waits_goes_on_when_a_call_leaves(
    pod: PodProcesses, model: str, first: Callable[..., Pending], second: Callable[..., Pending]
) -> None:
    pod.client.loaded(model)
    with pod.runtime.holding(f"call:{model}"):
        held = [first(pod.client, model, "test:hold") for _ in range(AT_A_TIME)]
        pod.runtime.awaited("hold", model, times=AT_A_TIME)
        waits = second(pod.client, model)
        until(lambda: on_copy(pod, model) == AT_A_TIME + 1, "one waits")
        assert not waits.done()
    assert waits.result(60).results[0].category == answer(model)
    assert [call.result(60).results[0].category for call in held] == [answer(model, "test:hold")] * AT_A_TIME


def test_beyond_the_line_calls_of_both_planes_are_refused_in_the_same_words(pod: PodProcesses, model: str) -> None:
    pod.client.loaded(model)
    with pod.runtime.holding(f"call:{model}"):
        held = [make(pod.client, model, "test:hold") for _ in range(IN_ALL // 2) for make in (Client.predicting, by_python)]
        until(lambda: on_copy(pod, model) == IN_ALL, "the line is full")
        for make in (Client.predicting, by_python):
            with refused(StatusCode.RESOURCE_EXHAUSTED, "Model queue overload: 41 calls run or wait on this copy"):
                make(pod.client, model).result(60)
        assert infer(pod, model, tensor("INT8", [1], [1])).status_code == 429
    for call in held:
        assert call.result(60)


def test_a_copy_that_leaves_answers_those_in_line_before_python_and_sends_the_lanes_to_it(pod: PodProcesses, model: str) -> None:
    pod.client.loaded(model)
    with pod.runtime.holding(f"call:{model}"):
        held = [make(pod.client, model, "test:hold") for make in (Client.predicting, by_python)]
        pod.runtime.awaited("hold", model, times=AT_A_TIME)
        of_lane, of_python = ([make(pod.client, model) for _ in range(3)] for make in (Client.predicting, by_python))
        until(lambda: on_copy(pod, model) == AT_A_TIME + 6, "they stand in line")
        pod.client.unregister(model)
        for call in of_lane:
            with refused(StatusCode.NOT_FOUND):
                call.result(60)
        assert not [call for call in of_python if call.done()]
        assert not pod.runtime.unloads(model)
    assert [call.result(60).results[0].category for call in held] == [answer(model, "test:hold")] * AT_A_TIME
    assert [call.result(60).results[0].category for call in of_python] == [answer(model)] * 3
    pod.runtime.awaited("unloadModel", model)


def test_calls_that_other_pods_pass_on_stand_in_the_line_of_the_pod_that_has_the_copy(
    tmp_path_factory: pytest.TempPathFactory, store: str, model: str
) -> None:
    environment = chosen_places(2) | lane.variables("auto")
    behaviour = Behaviour(max_concurrency=AT_A_TIME)
    folder = tmp_path_factory.mktemp("passed-on")
    with a_cluster(folder, store, 2, service="passed-on", behaviour=behaviour, environment=environment) as mesh:
        there, holder = mesh[0], mesh[1]
        there.client.register(model, kind="on-1")
        until(lambda: goes(there, "there", model), "it is called straight over two pods")
        before = by_lane(there, "there"), by_lane(holder, "hop"), by_lane(holder)
        with holder.runtime.holding(f"call:{model}"):
            calls = [make(pod.client, model, "test:hold") for pod in mesh.pods for _ in range(4) for make in (Client.predicting, by_python)]
            until(lambda: on_copy(holder, model) == 16, "all are at the copy")
            with refused(StatusCode.RESOURCE_EXHAUSTED, "Model queue overload"):
                there.client.predict(model)
        assert [call.result(60).results[0].category for call in calls] == [answer(model, "test:hold")] * 16
        assert most_at_a_time(holder.runtime, model) == AT_A_TIME
        # What Python passes on is the lane's, too, where it comes to.
        assert (by_lane(there, "there"), by_lane(holder, "hop"), by_lane(holder)) == (before[0] + 4, before[1] + 8, before[2] + 4)


def test_a_copy_that_the_lane_keeps_busy_all_the_time_gets_company(tmp_path_factory: pytest.TempPathFactory, store: str) -> None:
    environment = {
        "MESH_RATE_INTERVAL_MS": "500",
        # By their latency alone.
        "MM_SCALEUP_RPM_THRESHOLD": "1000000",
        **lane.variables("auto"),
    }
    behaviour = Behaviour(max_concurrency=1)
    folder = tmp_path_factory.mktemp("busy")
    with a_cluster(folder, store, 2, service="busy", behaviour=behaviour, environment=environment) as mesh:
        mesh[0].client.loaded("slow")
        holder = next(pod for pod in mesh.pods if pod.runtime.loads("slow"))
        over: list[bool] = []

        def call(_: int) -> int:
            made = 0
            with Client.insecure(holder.router.address) as client:
                while not over:
                    assert client.said("slow", "test:sleep:20") == answer("slow", "test:sleep:20")
                    made += 1
            return made

        with ThreadPoolExecutor(4) as callers:
            calls = [callers.submit(call, number) for number in range(4)]
            try:
                until(lambda: mesh.loads("slow") >= 2, "more copies")
            finally:
                over.append(True)
            made = sum(one.result(60) for one in calls)
        assert by_lane(holder) > made / 2
