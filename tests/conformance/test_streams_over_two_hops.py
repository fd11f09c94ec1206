"""Calls with three pods in their way: the one that is asked, the one that it has load the model, and the one that was quicker.

The first sees nothing of what etcd says from some moment on, and has constraints by which only the second may hold the model; so it goes on
passing calls to the second, which knows of the copy on the third. The third is lost in the last story.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from grpc import StatusCode

from tests.integration.etcd.server import Etcd, Way
from tests.support.client import Client, Conversation, answer, example, refused, to
from tests.support.cluster import Cluster, Special, a_cluster
from tests.support.mesh import RuntimeProcess
from tests.support.runtime_state import Behaviour
from tests.support.waiting import until

INGRESS, LOADER, HOLDER = range(3)
MODEL = "passed-on"
PREDICT, STREAM = "mmesh.ExamplePredictor/predict", "mmesh.ExamplePredictor/predictStream"
EXTRACTING = {"rpcConfigs": {STREAM: {"idExtractionPath": [1]}}, "allowOtherRpcs": True}
MANY = 100
"""Messages of a stream that stands still: far more than fits into the windows of four connections."""
LARGE = "x" * (1 << 20)


def only_on(number: int, **more: str) -> dict[str, str]:
    return {"MM_TYPE_CONSTRAINTS": json.dumps({"passed": {"required": [f"on-{number}"]}}), **more}


def injecting(field: int) -> Behaviour:
    return Behaviour(method_infos={PREDICT: [field]}, allow_any=True)


@contextmanager
def a_way(port: int) -> Iterator[Way]:
    """A way that can be cut, with an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    way = Way(port)
    try:
        asyncio.run_coroutine_threadsafe(way.__aenter__(), loop).result(30)
        yield way
    finally:
        asyncio.run_coroutine_threadsafe(way.__aexit__(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, etcd: Etcd, service: Callable[[], str]) -> Iterator[Cluster]:
    with a_way(etcd.port) as way:
        blind = only_on(LOADER, KV_STORE=f"etcd:127.0.0.1:{way.port}", MM_DATAPLANE_CONFIG=json.dumps(EXTRACTING))
        # If any but the last pod put the model's id into a request, it would be into another field.
        each = [Special(injecting(2), blind), Special(injecting(2), only_on(LOADER)), Special(injecting(1), only_on(HOLDER))]
        folder = tmp_path_factory.mktemp("two-hops")
        with a_cluster(folder, f"etcd:{etcd.address}", 3, service=service(), each=each) as cluster:
            cluster[HOLDER].client.register(MODEL, kind="passed")
            until(lambda: MODEL in {one["id"] for one in cluster[INGRESS].facts("models")["models"]}, "the first pod knows the model")
            way.lose("answers")
            cluster[HOLDER].client.predict(MODEL)
            until(lambda: ready_at(cluster, LOADER) == [cluster[HOLDER].id], "the second pod knows of the copy")
            yield cluster
            for pod in cluster.pods:
                # A pod that ends in order would first wait for etcd.
                pod.kill()


def ready_at(cluster: Cluster, pod: int) -> list[str]:
    """Pods with a ready copy, as one pod sees it."""
    return [copy["pod"] for copy in cluster[pod].facts(f"models/{MODEL}")["copies"] if copy["state"] == "ready"]


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    yield cluster[INGRESS].client
    assert ready_at(cluster, INGRESS) == [], "the first pod knows of no copy, so calls take the long way"


@pytest.fixture
def runtime(cluster: Cluster) -> RuntimeProcess:
    return cluster[HOLDER].runtime


@pytest.fixture(autouse=True)
def no_second_copy(cluster: Cluster) -> Iterator[None]:
    yield
    assert [pod.runtime.loads(MODEL) for pod in cluster.pods] == [0, 0, 1]


def calls_left(cluster: Cluster) -> int:
    return int(sum(copy["calls"] for copy in cluster[HOLDER].facts(f"models/{MODEL}")["copies"]))


# Unary calls


def test_a_call_passes_over_the_pod_between(cluster: Cluster, client: Client) -> None:
    assert client.said(MODEL) == answer(MODEL)
    os.kill(cluster[LOADER].router.process.pid, signal.SIGSTOP)
    try:
        with refused(StatusCode.DEADLINE_EXCEEDED):
            client.predict(MODEL, timeout=2)
        assert cluster[HOLDER].client.said(MODEL) == answer(MODEL)
    finally:
        os.kill(cluster[LOADER].router.process.pid, signal.SIGCONT)
    assert client.said(MODEL) == answer(MODEL)


def test_only_the_last_pod_writes_the_model_into_the_request(client: Client) -> None:
    text, name = (result.category for result in client.predict(MODEL, "as it was", name="something else").results)
    assert (text, name) == (answer(MODEL, "as it was"), MODEL)


def test_headers_and_status_are_the_same_over_two_hops(cluster: Cluster, client: Client) -> None:
    seen, said = [], []
    for asked in (cluster[HOLDER].client, client):
        headers = asked.predict(MODEL, "test:metadata", metadata=(("x-many", "1"), ("x-many", "2"), ("x-bin", b"\xff"))).headers
        seen.append(sorted((item.name, item.value) for item in headers if item.name != "user-agent"))
        with refused(StatusCode.ABORTED, exactly="no") as refusal:
            asked.predict(MODEL, "test:error:code=ABORTED:message=no")
        said.append(dict(refusal.trailers))
    assert "mm-request-id" not in said[0], "a plain hit leaves nothing that could be explained"
    assert said[1].pop("mm-request-id"), "a call on the long way can be explained"
    assert seen[0] == seen[1]
    assert said[0] == said[1]


# Streams


def test_an_answer_comes_before_the_next_message_is_sent(client: Client) -> None:
    talk = Conversation(client, to(MODEL))
    for text in ("one", "two", "three"):
        talk.say(text)
        assert talk.hear() == answer(MODEL, text)
    talk.end()
    assert list(talk.answers) == []


@pytest.mark.parametrize("count", [0, 1, 20])
def test_many_messages_may_have_one_answer(client: Client, count: int) -> None:
    texts = [str(number) for number in range(count)]
    got = client.predictor.predictAll((example.PredictRequest(text=text) for text in texts), metadata=to(MODEL), timeout=30)
    assert got.results[0].category == answer(MODEL, "+".join(texts))


@pytest.mark.parametrize("count", [0, 1, 100])
def test_one_message_may_have_many_answers(client: Client, count: int) -> None:
    answers = client.predictor.predictMany(example.PredictRequest(text=f"test:answers:{count}"), metadata=to(MODEL), timeout=30)
    assert len(list(answers)) == count
    assert dict(answers.trailing_metadata())["x-runtime-trailer"] == MODEL.encode().hex()


@pytest.mark.parametrize(
    "count",
    [pytest.param(0, marks=pytest.mark.xfail(strict=False, reason="gRPC's client can forget headers that come with the end")), 1, 100],
)
def test_the_headers_of_many_answers_come_back(client: Client, count: int) -> None:
    answers = client.predictor.predictMany(example.PredictRequest(text=f"test:answers:{count}"), metadata=to(MODEL), timeout=30)
    assert len(list(answers)) == count
    assert dict(answers.initial_metadata())["x-runtime"] == "example"


def test_the_first_message_names_the_model_and_a_later_one_must_not_name_another(client: Client, runtime: RuntimeProcess) -> None:
    talk = Conversation(client, ())
    talk.say("one", MODEL)
    assert talk.hear() == answer(MODEL, "one")
    talk.say("two", "another")
    with refused(StatusCode.INVALID_ARGUMENT, "another", MODEL):
        talk.hear()
    talk.end()
    runtime.awaited("predictStream", MODEL, at="end", times=len(runtime.seen("predictStream")))


def test_a_deadline_ends_a_stream_everywhere(cluster: Cluster, client: Client, runtime: RuntimeProcess) -> None:
    talk = Conversation(client, to(MODEL), timeout=4)
    talk.say("in time")
    assert talk.hear() == answer(MODEL, "in time")
    with refused(StatusCode.DEADLINE_EXCEEDED):
        talk.hear()
    talk.end()
    runtime.awaited("predictStream", MODEL, at="end", times=len(runtime.seen("predictStream")))
    until(lambda: calls_left(cluster) == 0, "no call is left on the copy")


def test_a_caller_who_leaves_ends_a_stream_everywhere(cluster: Cluster, client: Client, runtime: RuntimeProcess) -> None:
    talk = Conversation(client, to(MODEL))
    talk.say("hello")
    assert talk.hear() == answer(MODEL)
    talk.answers.cancel()
    talk.end()
    runtime.awaited("predictStream", MODEL, at="end", times=len(runtime.seen("predictStream")))
    until(lambda: calls_left(cluster) == 0, "no call is left on the copy")


def test_a_runtime_that_does_not_read_holds_its_caller_back(client: Client, runtime: RuntimeProcess) -> None:
    sent = 0

    def messages() -> Iterator[example.PredictRequest]:
        nonlocal sent
        yield example.PredictRequest(text="test:hold")
        for _ in range(MANY):
            sent += 1
            yield example.PredictRequest(modelName=LARGE)

    with runtime.holding(f"call:{MODEL}"):
        call = client.predictor.predictAll.future(messages(), metadata=to(MODEL), timeout=100)
        runtime.awaited("hold", MODEL, times=len(runtime.seen("hold")) + 1)
        for _ in range(60):
            # Time for messages to pass, and proof that other calls go the same way meanwhile.
            assert client.said(MODEL) == answer(MODEL)
        assert sent < MANY
    assert call.result().results[0].category == answer(MODEL, "test:hold" + "+" * MANY)


def test_a_caller_who_does_not_read_holds_the_runtime_back(client: Client, runtime: RuntimeProcess) -> None:
    request = example.PredictRequest(text=f"test:answers:{MANY}", modelName=LARGE)
    answers = client.predictor.predictMany(request, metadata=to(MODEL), timeout=100)
    next(answers)
    ended = len(runtime.seen("predictMany", MODEL, "end"))
    for _ in range(60):
        assert client.said(MODEL) == answer(MODEL)
    assert len(runtime.seen("predictMany", MODEL, "end")) == ended, "the runtime waits to be read"
    assert sum(1 for _ in answers) == MANY - 1


def test_streams_end_with_the_pod_that_serves_them_and_are_not_repeated_elsewhere(cluster: Cluster, client: Client) -> None:
    talk = Conversation(client, to(MODEL))
    for text in ("one", "two"):
        talk.say(text)
        assert talk.hear() == answer(MODEL, text)
    many = client.predictor.predictMany(
        example.PredictRequest(text=f"test:answers:{MANY}", modelName=LARGE), metadata=to(MODEL), timeout=100
    )
    next(many)
    said: queue.Queue[example.PredictRequest | None] = queue.Queue()
    one_answer = client.predictor.predictAll.future(iter(said.get, None), metadata=to(MODEL), timeout=100)
    for text in ("a", "b"):
        said.put(example.PredictRequest(text=text))
    cluster[HOLDER].runtime.awaited("predictAll", MODEL, times=len(cluster[HOLDER].runtime.seen("predictAll", at="end")) + 1)
    cluster[HOLDER].kill()
    with refused(StatusCode.UNAVAILABLE, cluster[HOLDER].id):
        talk.hear()
    with refused(StatusCode.UNAVAILABLE, cluster[HOLDER].id):
        assert sum(1 for _ in many) < MANY
    with refused(StatusCode.UNAVAILABLE, cluster[HOLDER].id):
        one_answer.result()
    talk.end()
    said.put(None)
    for pod in (INGRESS, LOADER):
        assert not cluster[pod].runtime.seen("predictStream")
        assert not cluster[pod].runtime.seen("predictMany")
        assert not cluster[pod].runtime.seen("predictAll")
