"""A router that is asked to end sees its calls out, within its limit."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack
from pathlib import Path
from select import select

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
    with a_mesh(tmp_path) as mesh, ExitStack() as containers:
        mesh.client.loaded(model)
        with mesh.runtime.holding(f"call:{model}"):
            call = mesh.client.predicting(model, "test:hold")
            mesh.runtime.awaited("hold", model)
            hooks = [containers.enter_context(a_hook(mesh.router.ports["prestop"])) for _ in range(3)]
            mesh.router.process.signal(signal.SIGTERM)
            until(lambda: refuses_new_calls(mesh.router, model), "new calls to be refused")
            assert not select(hooks, [], [], 0)[0], "no hook is answered, and none is hung up on"
        assert call.result().results[0].category == answer(model, "test:hold")
        assert [hook.recv(1024).split()[1] for hook in hooks] == [b"200"] * 3
        assert mesh.router.process.wait() == 0


def a_hook(port: int) -> socket.socket:
    """What a runtime's container runs before it stops: it goes on when this is answered."""
    hook = socket.create_connection(("127.0.0.1", port), timeout=60)
    hook.sendall(b"GET /prestop HTTP/1.1\r\nhost: here\r\n\r\n")
    return hook


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
