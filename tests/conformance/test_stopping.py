"""A router that is asked to end sees its calls out, within its limit."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from grpc import RpcError, StatusCode

from tests.support import ports
from tests.support.client import Client, answer, refused
from tests.support.mesh import RouterProcess, a_mesh
from tests.support.waiting import until


def refuses_new_calls(router: RouterProcess, model: str) -> bool:
    if router.process.returncode is not None:
        return True
    with Client.insecure(router.address) as client:
        try:
            client.predict(model, timeout=2)
        except RpcError:
            return True
    return False


def test_a_call_under_way_is_answered(tmp_path: Path, model: str) -> None:
    with a_mesh(tmp_path) as mesh:
        mesh.client.loaded(model)
        with mesh.runtime.holding(f"call:{model}"):
            call = mesh.client.predicting(model, "test:hold")
            mesh.runtime.awaited("hold", model)
            mesh.router.process.signal(signal.SIGTERM)
            until(lambda: mesh.router.probe("/ready") != 200, "the probe to say that it is leaving")
            until(lambda: refuses_new_calls(mesh.router, model), "new calls to be refused")
        assert call.result().results[0].category == answer(model, "test:hold")
        assert mesh.router.process.wait() == 0
        assert mesh.runtime.unloads(model) == 0, "the runtime goes away by itself"


def test_a_call_that_does_not_end_is_ended(tmp_path: Path, model: str) -> None:
    with a_mesh(tmp_path, environment={"SHUTDOWN_TIMEOUT_MS": "6000"}) as mesh:
        mesh.client.loaded(model)
        with mesh.runtime.holding(f"call:{model}"):
            call = mesh.client.predicting(model, "test:hold")
            mesh.runtime.awaited("hold", model)
            mesh.router.process.signal(signal.SIGTERM)
            with refused(StatusCode.UNAVAILABLE):
                call.result()
        assert mesh.router.process.wait() == 0


def test_an_idle_router_ends_with_a_load_going_on(tmp_path: Path, model: str) -> None:
    with a_mesh(tmp_path) as mesh, mesh.runtime.holding(f"load:{model}"):
        mesh.client.register(model, load=True)
        mesh.runtime.awaited("loadModel", model)
        mesh.router.process.signal(signal.SIGTERM)
        assert mesh.router.process.wait() == 0
        assert "Traceback" not in mesh.router.process.output()


def test_asking_twice_is_asking_once(tmp_path: Path, model: str) -> None:
    with a_mesh(tmp_path) as mesh:
        mesh.client.loaded(model)
        with mesh.runtime.holding(f"call:{model}"):
            call = mesh.client.predicting(model, "test:hold")
            mesh.runtime.awaited("hold", model)
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
                mesh.router.process.signal(number)
                until(lambda: mesh.router.probe("/ready") != 200, "the probe to say that it is leaving")
        assert call.result().results[0].category == answer(model, "test:hold")
        assert mesh.router.process.wait() == 0


def test_hooks_of_runtime_containers_wait_for_the_last_call(tmp_path: Path, model: str) -> None:
    with a_mesh(tmp_path) as mesh, ThreadPoolExecutor(3) as containers:
        mesh.client.loaded(model)
        with mesh.runtime.holding(f"call:{model}"):
            call = mesh.client.predicting(model, "test:hold")
            mesh.runtime.awaited("hold", model)
            hook = f"http://127.0.0.1:{mesh.router.ports['prestop']}/prestop"
            hooks = [containers.submit(httpx.get, hook, timeout=60) for _ in range(3)]
            mesh.router.process.signal(signal.SIGTERM)
            until(lambda: refuses_new_calls(mesh.router, model), "new calls to be refused")
            assert not any(waiting.done() for waiting in hooks)
        assert call.result().results[0].category == answer(model, "test:hold")
        assert [waiting.result().status_code for waiting in hooks] == [200] * 3
        assert mesh.router.process.wait() == 0


def test_a_start_can_be_ended(tmp_path: Path) -> None:
    (port,) = ports.free()
    router = RouterProcess(tmp_path, {"INTERNAL_GRPC_PORT": str(port)}, ready=False)
    try:
        until(lambda: "waiting for the runtime" in router.process.output(), "it waits for its runtime")
        router.process.signal(signal.SIGTERM)
        assert router.process.wait() == 0
        assert "Traceback" not in router.process.output()
    finally:
        router.process.stop(1)
