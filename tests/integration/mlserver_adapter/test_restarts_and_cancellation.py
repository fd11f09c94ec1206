"""MLServer dies, hangs, comes back; callers leave. Nothing may stay loaded or lie around that nobody asked for."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from mesh.protocols import model_runtime_pb2 as spi
from tests.integration.mlserver_adapter.conftest import RigMaker
from tests.integration.mlserver_adapter.rig import NOT_SERVING, SERVING, TIMEOUT, Rig, load_request
from tests.integration.mlserver_adapter.test_life_of_a_model import EIGHT
from tests.support.waiting import until

pytestmark = pytest.mark.mlserver

SLOW = """
import asyncio, pathlib
from mlserver import MLModel

class Slow(MLModel):
    async def load(self):
        marks = pathlib.Path({marks!r})
        (marks / f"{{self.name}}.started").touch()
        while not (marks / f"{{self.name}}.go").exists():
            {pause}
        return {answer}
"""
"""A model class whose load waits for a file to appear; `{pause}` decides whether MLServer answers meanwhile."""


@contextmanager
def watching(rig: Rig) -> Iterator[queue.Queue[int]]:
    """Every health status that a router would see, in order. As a router does, it watches again when a connection breaks."""
    seen: queue.Queue[int] = queue.Queue()
    over = threading.Event()

    def follow() -> None:
        while not over.is_set():
            call = rig.health.Watch(health_pb2.HealthCheckRequest(service="mmesh.ModelRuntime"), wait_for_ready=True)
            calls.append(call)
            with suppress(grpc.RpcError):
                for answer in call:
                    seen.put(answer.status)

    calls: list[grpc.Future[object]] = []
    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        while thread.is_alive():
            for call in calls:
                call.cancel()
            thread.join(0.1)


@pytest.fixture
def slow_rig(make_rig: RigMaker, tmp_path: Path) -> Rig:
    """MLServer with a custom class for models of no known type; load `NAME`, then make `NAME.go` in the rig's `marks`."""
    return slow(make_rig, tmp_path, pause="await asyncio.sleep(0.01)")


def slow(make_rig: RigMaker, folder: Path, pause: str, answer: str = "True", **settings: str) -> Rig:
    (folder / "marks").mkdir()
    (folder / "slowmodel.py").write_text(SLOW.format(marks=str(folder / "marks"), pause=pause, answer=answer))
    server = {"PYTHONPATH": str(folder), "MLSERVER_MODEL_IMPLEMENTATION": "slowmodel.Slow"}
    rig = make_rig(server=server, **settings)
    rig.mlserver.start()
    rig.until_ready()
    return rig


def marks(rig: Rig) -> Path:
    return rig.root.parent / "marks"


def test_status_is_starting_until_the_server_answers(make_rig: RigMaker) -> None:
    rig = make_rig()
    assert rig.checked() == NOT_SERVING
    assert rig.status().status == spi.RuntimeStatusResponse.STARTING
    rig.mlserver.start()
    rig.until_ready()
    assert rig.checked() == SERVING


def test_a_restart_shows_as_down_then_up_and_begins_empty(make_rig: RigMaker) -> None:
    rig = make_rig()
    rig.mlserver.start()
    rig.until_ready()
    rig.load("lost", "mnist-svm.joblib", "sklearn")
    with watching(rig) as seen:
        assert seen.get(timeout=TIMEOUT) == SERVING
        rig.mlserver.kill()
        assert seen.get(timeout=TIMEOUT) == NOT_SERVING
        rig.mlserver.start()
        assert seen.get(timeout=TIMEOUT) == SERVING
    assert rig.files() == set()
    assert rig.loaded() == set()
    rig.load("lost", "mnist-svm.joblib", "sklearn")
    assert list(rig.infer("lost", EIGHT).outputs[0].contents.int64_contents) == [8]


def test_a_restarted_adapter_leaves_loaded_models_alone(make_rig: RigMaker, environment: Path, tmp_path: Path) -> None:
    rig = make_rig()
    rig.mlserver.start()
    rig.until_ready()
    rig.load("kept", "mnist-svm.joblib", "sklearn")
    rig.restart_adapter()
    with watching(rig) as seen:
        assert seen.get(timeout=TIMEOUT) == SERVING, "never NOT_SERVING, which would mean that models are lost"
    assert list(rig.infer("kept", EIGHT).outputs[0].contents.int64_contents) == [8]
    rig.unload("kept")
    assert rig.files() == set()


def test_a_new_router_finds_an_empty_server(make_rig: RigMaker) -> None:
    rig = make_rig()
    rig.mlserver.start()
    rig.until_ready()
    rig.load("old", "mnist-svm.joblib", "sklearn")
    (rig.root / "left-over").mkdir()
    (rig.root / "interrupted~3").mkdir()
    assert rig.status().status == spi.RuntimeStatusResponse.READY
    assert rig.loaded() == set()
    assert rig.files() == set()


def test_a_limit_on_the_calls_of_one_model_is_passed_on(make_rig: RigMaker) -> None:
    rig = make_rig(LIMIT_PER_MODEL_CONCURRENCY="3", LOADING_CONCURRENCY="2")
    rig.mlserver.start()
    status = rig.until_ready()
    assert status.limitModelConcurrency
    assert status.maxLoadingConcurrency == 2
    assert rig.load("limited", "mnist-svm.joblib", "sklearn").maxConcurrency == 3


def test_a_custom_class_serves_types_that_nobody_knows(slow_rig: Rig) -> None:
    (marks(slow_rig) / "custom.go").touch()
    slow_rig.load("custom", "mnist-svm.joblib", "my-own-type")
    assert slow_rig.loaded() == {"custom"}
    slow_rig.unload("custom")
    assert slow_rig.loaded() == set()


@pytest.mark.parametrize("pause", ["await asyncio.sleep(0.01)", "__import__('time').sleep(0.01)"], ids=["answering", "blocked"])
def test_a_caller_that_leaves_stops_the_load_and_nothing_stays(make_rig: RigMaker, tmp_path: Path, pause: str) -> None:
    rig = slow(make_rig, tmp_path, pause)
    call = rig.spi.loadModel.future(load_request("left", "mnist-svm.joblib"), timeout=TIMEOUT)
    until(lambda: (marks(rig) / "left.started").exists(), "the load began")
    call.cancel()
    unload = rig.spi.unloadModel.future(spi.UnloadModelRequest(modelId="left"), timeout=TIMEOUT)
    (marks(rig) / "left.go").touch()
    unload.result()
    assert not rig.model_ready("left")
    assert rig.loaded() == set()
    assert rig.files() == set()


def test_other_models_load_while_one_hangs(slow_rig: Rig) -> None:
    rig = slow_rig
    call = rig.spi.loadModel.future(load_request("hanging", "mnist-svm.joblib"), timeout=TIMEOUT)
    until(lambda: (marks(rig) / "hanging.started").exists(), "the load began")
    rig.load("other", "mnist-svm.joblib", "sklearn")
    assert list(rig.infer("other", EIGHT).outputs[0].contents.int64_contents) == [8]
    assert not call.done()
    (marks(rig) / "hanging.go").touch()
    assert call.result(timeout=TIMEOUT).sizeInBytes > 0


def test_a_load_that_hangs_ends_by_its_timeout(make_rig: RigMaker, tmp_path: Path) -> None:
    rig = slow(make_rig, tmp_path, pause="await asyncio.sleep(0.01)", LOADTIME_TIMEOUT="500")
    code, text = rig.refused("hangs", "mnist-svm.joblib")
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert text == (f"Failed to load Model due to MLServer runtime error: MLServer at 127.0.0.1:{rig.mlserver.port} did not answer in time")
    assert rig.loaded() == set()
    assert rig.files() == set()


def test_a_model_that_is_loaded_but_not_ready_is_a_failure(make_rig: RigMaker, tmp_path: Path) -> None:
    rig = slow(make_rig, tmp_path, pause="await asyncio.sleep(0.01)", answer="False")
    (marks(rig) / "unready.go").touch()
    _, text = rig.refused("unready", "mnist-svm.joblib")
    assert "not ready" in text
    assert rig.files() == set()


def test_a_server_killed_while_loading_fails_the_load_and_heals(slow_rig: Rig) -> None:
    rig = slow_rig
    call = rig.spi.loadModel.future(load_request("killed", "mnist-svm.joblib"), timeout=TIMEOUT)
    until(lambda: (marks(rig) / "killed.started").exists(), "the load began")
    rig.mlserver.kill()
    error = call.exception(timeout=TIMEOUT)
    assert isinstance(error, grpc.Call)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    rig.mlserver.start()
    until(lambda: rig.checked() == SERVING, "serving again", within=TIMEOUT)
    assert rig.files() == set()
    (marks(rig) / "killed.go").touch()
    rig.load("killed", "mnist-svm.joblib")
    assert rig.loaded() == {"killed"}


def test_a_server_that_is_busy_loading_is_not_taken_for_dead(make_rig: RigMaker, tmp_path: Path) -> None:
    rig = slow(make_rig, tmp_path, pause="__import__('time').sleep(0.01)", RUNTIME_SILENCE_LIMIT="1000")
    with watching(rig) as seen:
        assert seen.get(timeout=TIMEOUT) == SERVING
        call = rig.spi.loadModel.future(load_request("busy", "mnist-svm.joblib"), timeout=TIMEOUT)
        until(lambda: (marks(rig) / "busy.started").exists(), "the load began")
        with pytest.raises(queue.Empty):  # three of the limits: the only way to see that something does not happen
            seen.get(timeout=3)
        (marks(rig) / "busy.go").touch()
        call.result(timeout=TIMEOUT)
        assert seen.empty()


def test_a_server_that_hangs_counts_as_down(make_rig: RigMaker) -> None:
    rig = make_rig(RUNTIME_SILENCE_LIMIT="1000")
    rig.mlserver.start()
    rig.until_ready()
    rig.load("forgotten", "mnist-svm.joblib", "sklearn")
    with watching(rig) as seen:
        assert seen.get(timeout=TIMEOUT) == SERVING
        rig.mlserver.signal(signal.SIGSTOP)
        assert seen.get(timeout=TIMEOUT) == NOT_SERVING
        rig.mlserver.signal(signal.SIGCONT)
        assert seen.get(timeout=TIMEOUT) == SERVING
    assert rig.loaded() == set(), "whoever saw it down takes its models for lost, so they must be"
