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
from tests.integration.mlserver_adapter.conftest import RigMaker, served
from tests.integration.mlserver_adapter.rig import NOT_SERVING, SERVING, TIMEOUT, Rig, load_request
from tests.integration.mlserver_adapter.test_life_of_a_model import EIGHT
from tests.support.waiting import until

pytestmark = pytest.mark.mlserver

SLOW = """
import asyncio, pathlib, time
from mlserver import MLModel

class Slow(MLModel):
    async def load(self):
        marks = pathlib.Path({marks!r})
        (marks / f"{{self.name}}.started").touch()
        while not (marks / f"{{self.name}}.go").exists():
            if (marks / f"{{self.name}}.blocks").exists():
                time.sleep(0.01)
            else:
                await asyncio.sleep(0.01)
        return not (marks / f"{{self.name}}.unready").exists()
"""
"""A model class whose load waits for a file to appear. Further files decide whether MLServer answers nobody meanwhile, and how it ends."""


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


@pytest.fixture(scope="module")
def started(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """MLServer with the slow class for models of no known type."""
    folder = tmp_path_factory.mktemp("slow")
    (folder / "marks").mkdir()
    (folder / "slowmodel.py").write_text(SLOW.format(marks=str(folder / "marks")))
    with served(environment, folder, {"PYTHONPATH": str(folder), "MLSERVER_MODEL_IMPLEMENTATION": "slowmodel.Slow"}) as rig:
        yield rig


@pytest.fixture
def rig(started: Rig) -> Rig:
    """The same for every story, and empty. A story that wants other settings of the adapter restarts that."""
    if started.own:
        started.restart_adapter()
    started.until_ready()
    assert started.loaded() == set()
    return started


def mark(rig: Rig, name: str) -> Path:
    """A file that a slow load makes or looks for: `MODEL.started`, `.go`, `.blocks`, `.unready`."""
    return rig.root.parent / "marks" / name


def test_status_is_starting_until_the_server_answers(make_rig: RigMaker) -> None:
    rig = make_rig()
    assert rig.checked() == NOT_SERVING
    assert rig.status().status == spi.RuntimeStatusResponse.STARTING
    rig.mlserver.start()
    rig.until_ready()
    assert rig.checked() == SERVING


def test_a_restart_shows_as_down_then_up_and_begins_empty(rig: Rig) -> None:
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


def test_a_restarted_adapter_leaves_loaded_models_alone(rig: Rig) -> None:
    rig.load("kept", "mnist-svm.joblib", "sklearn")
    rig.restart_adapter()
    with watching(rig) as seen:
        assert seen.get(timeout=TIMEOUT) == SERVING, "never NOT_SERVING, which would mean that models are lost"
    assert list(rig.infer("kept", EIGHT).outputs[0].contents.int64_contents) == [8]
    rig.unload("kept")
    assert rig.files() == set()


def test_a_new_router_finds_an_empty_server(rig: Rig) -> None:
    rig.load("old", "mnist-svm.joblib", "sklearn")
    (rig.root / "left-over").mkdir()
    (rig.root / "interrupted~3").mkdir()
    assert rig.status().status == spi.RuntimeStatusResponse.READY
    assert rig.loaded() == set()
    assert rig.files() == set()


def test_a_limit_on_the_calls_of_one_model_is_passed_on(rig: Rig) -> None:
    rig.restart_adapter(LIMIT_PER_MODEL_CONCURRENCY="3", LOADING_CONCURRENCY="2")
    status = rig.until_ready()
    assert status.limitModelConcurrency
    assert status.maxLoadingConcurrency == 2
    assert rig.load("limited", "mnist-svm.joblib", "sklearn").maxConcurrency == 3


def test_a_custom_class_serves_types_that_nobody_knows(rig: Rig) -> None:
    mark(rig, "custom.go").touch()
    rig.load("custom", "mnist-svm.joblib", "my-own-type")
    assert rig.loaded() == {"custom"}
    rig.unload("custom")
    assert rig.loaded() == set()


@pytest.mark.parametrize("blocks", [False, True], ids=["answering", "blocked"])
def test_a_caller_that_leaves_stops_the_load_and_nothing_stays(rig: Rig, blocks: bool) -> None:
    model = "left-blocked" if blocks else "left"
    if blocks:
        mark(rig, f"{model}.blocks").touch()
    call = rig.spi.loadModel.future(load_request(model, "mnist-svm.joblib"), timeout=TIMEOUT)
    until(lambda: mark(rig, f"{model}.started").exists(), "the load began")
    call.cancel()
    unload = rig.spi.unloadModel.future(spi.UnloadModelRequest(modelId=model), timeout=TIMEOUT)
    mark(rig, f"{model}.go").touch()
    unload.result()
    assert not rig.model_ready(model)
    assert rig.loaded() == set()
    assert rig.files() == set()


def test_other_models_load_while_one_hangs(rig: Rig) -> None:
    call = rig.spi.loadModel.future(load_request("hanging", "mnist-svm.joblib"), timeout=TIMEOUT)
    until(lambda: mark(rig, "hanging.started").exists(), "the load began")
    rig.load("other", "mnist-svm.joblib", "sklearn")
    assert list(rig.infer("other", EIGHT).outputs[0].contents.int64_contents) == [8]
    assert not call.done()
    mark(rig, "hanging.go").touch()
    assert call.result(timeout=TIMEOUT).sizeInBytes > 0


def test_a_load_that_hangs_ends_by_its_timeout(rig: Rig) -> None:
    rig.restart_adapter(LOADTIME_TIMEOUT="500")
    rig.until_ready()
    code, text = rig.refused("hangs", "mnist-svm.joblib")
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert text == (f"Failed to load Model due to MLServer runtime error: MLServer at 127.0.0.1:{rig.mlserver.port} did not answer in time")
    assert rig.loaded() == set()
    assert rig.files() == set()


def test_a_model_that_is_loaded_but_not_ready_is_a_failure(rig: Rig) -> None:
    mark(rig, "lame.unready").touch()
    mark(rig, "lame.go").touch()
    _, text = rig.refused("lame", "mnist-svm.joblib")
    assert "not ready" in text
    assert rig.files() == set()


def test_a_server_killed_while_loading_fails_the_load_and_heals(rig: Rig) -> None:
    call = rig.spi.loadModel.future(load_request("killed", "mnist-svm.joblib"), timeout=TIMEOUT)
    until(lambda: mark(rig, "killed.started").exists(), "the load began")
    rig.mlserver.kill()
    error = call.exception(timeout=TIMEOUT)
    assert isinstance(error, grpc.Call)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    rig.mlserver.start()
    until(lambda: rig.checked() == SERVING, "serving again", within=TIMEOUT)
    assert rig.files() == set()
    mark(rig, "killed.go").touch()
    rig.load("killed", "mnist-svm.joblib")
    assert rig.loaded() == {"killed"}


def test_a_server_that_is_busy_loading_is_not_taken_for_dead(rig: Rig) -> None:
    rig.restart_adapter(RUNTIME_SILENCE_LIMIT="1000")
    rig.until_ready()
    mark(rig, "busy.blocks").touch()
    with watching(rig) as seen:
        assert seen.get(timeout=TIMEOUT) == SERVING
        call = rig.spi.loadModel.future(load_request("busy", "mnist-svm.joblib"), timeout=TIMEOUT)
        until(lambda: mark(rig, "busy.started").exists(), "the load began")
        with pytest.raises(queue.Empty):  # three of the limits: the only way to see that something does not happen
            seen.get(timeout=3)
        mark(rig, "busy.go").touch()
        call.result(timeout=TIMEOUT)
        assert seen.empty()


def test_a_server_that_hangs_counts_as_down(rig: Rig) -> None:
    rig.restart_adapter(RUNTIME_SILENCE_LIMIT="1000")
    rig.until_ready()
    rig.load("forgotten", "mnist-svm.joblib", "sklearn")
    with watching(rig) as seen:
        assert seen.get(timeout=TIMEOUT) == SERVING
        rig.mlserver.signal(signal.SIGSTOP)
        assert seen.get(timeout=TIMEOUT) == NOT_SERVING
        rig.mlserver.signal(signal.SIGCONT)
        assert seen.get(timeout=TIMEOUT) == SERVING
    assert rig.loaded() == set(), "whoever saw it down takes its models for lost, so they must be"
