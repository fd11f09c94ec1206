"""A router starts, or says in one message what is wrong and with which variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import ports
from tests.support.client import Client, answer
from tests.support.http import plain
from tests.support.mesh import RouterProcess, RuntimeProcess, a_mesh
from tests.support.runtime_state import Behaviour
from tests.support.waiting import until


def failed_start(folder: Path, environment: dict[str, str]) -> str:
    """What a router says that cannot start."""
    router = RouterProcess(folder, environment, ready=False)
    try:
        assert router.process.wait() not in (0, None)
    finally:
        router.process.stop(1)
    output = router.process.output()
    assert "Traceback" not in output, output
    assert router.termination_log.read_text().startswith("Service startup failed: "), output
    return output


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MM_SVC_GRPC_PORT", "{}"),
        ("REST_PROXY_LISTEN_PORT", "{}"),
        ("MESH_PEER_PORT", "{}"),
        ("MM_PRESTOP_WAIT_PORT", "{}"),
        ("MM_PROBE_PORT", "{}"),
        ("MM_METRICS", "prometheus:port={};scheme=http"),
    ],
)
def test_a_taken_port_is_named_with_its_variable(lone: RuntimeProcess, tmp_path: Path, variable: str, value: str) -> None:
    with ports.taken() as port:
        output = failed_start(tmp_path, {**lone.environment, variable: value.format(port)})
    assert variable in output
    assert str(port) in output


def test_without_a_runtime_the_start_fails(tmp_path: Path) -> None:
    (port,) = ports.free()
    output = failed_start(tmp_path, {"INTERNAL_GRPC_PORT": str(port), "MESH_RUNTIME_START_TIMEOUT": "1"})
    assert "Model server container did not start after 1 seconds" in output
    assert str(port) in output


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({"MM_SERVICE_NAME": "UNSET"}, ["MM_SERVICE_NAME"]),
        ({"MM_SERVICE_NAME": "a/b"}, ["MM_SERVICE_NAME"]),
        ({"MM_SVC_GRPC_PORT": "eighty"}, ["MM_SVC_GRPC_PORT", "eighty"]),
        ({"INTERNAL_GRPC_SOCKET_PATH": "/tmp/x"}, ["INTERNAL_GRPC_PORT", "INTERNAL_GRPC_SOCKET_PATH"]),
        ({"MM_TLS_CLIENT_AUTH": "REQUIRE"}, ["MM_TLS_CLIENT_AUTH", "MM_TLS_PRIVATE_KEY_PATH"]),
        ({"MM_TLS_PRIVATE_KEY_PATH": "/no/key", "MM_TLS_KEY_CERT_PATH": "/no/cert"}, ["/no/key"]),
        ({"MM_DATAPLANE_CONFIG": "{"}, ["dataplane config"]),
        ({"MM_DATAPLANE_CONFIG_PATH": "/no/such/file"}, ["MM_DATAPLANE_CONFIG_PATH", "/no/such/file"]),
        ({"MM_METRICS": "prometheus:port"}, ["MM_METRICS"]),
        ({"MM_AUTO_REGISTER_MODELS": "{}"}, ["MM_AUTO_REGISTER_MODELS", "list"]),
        ({"MM_AUTO_REGISTER_MODEL_PATH": "/no/such/file"}, ["MM_AUTO_REGISTER_MODELS_PATH", "/no/such/file"]),
        ({"MM_LOG_REQUEST_HEADERS": "[]"}, ["MM_LOG_REQUEST_HEADERS"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_named(lone: RuntimeProcess, tmp_path: Path, environment: dict[str, str], parts: list[str]) -> None:
    output = failed_start(tmp_path, {**lone.environment, **environment})
    for part in parts:
        assert part in output


@pytest.mark.parametrize(
    ("script", "part"),
    [
        (Behaviour(failing=True), "FAILING"),
        (Behaviour(loading_concurrency=0), "maxLoadingConcurrency"),
        (Behaviour(capacity=1 << 20), "capacityInBytes"),
        (Behaviour(load_timeout_ms=99), "modelLoadingTimeoutMs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_runtime_that_makes_no_sense_ends_the_start(tmp_path: Path, script: Behaviour, part: str) -> None:
    runtime = RuntimeProcess(tmp_path, script)
    try:
        assert part in failed_start(tmp_path, runtime.environment)
    finally:
        runtime.stop()


def test_a_starting_runtime_is_waited_for_and_asked_no_more(tmp_path: Path, model: str) -> None:
    with a_mesh(tmp_path, Behaviour(starting_polls=1)) as mesh:
        mesh.client.loaded(model)
        mesh.client.predict(model)
        assert [line["status"] for line in mesh.runtime.seen("runtimeStatus", at="end")] == ["STARTING", "READY"]


def test_a_router_may_be_there_before_its_runtime(tmp_path: Path, model: str) -> None:
    runtime = RuntimeProcess(tmp_path)
    runtime.kill()
    router = RouterProcess(tmp_path, runtime.environment, ready=False)
    try:
        runtime.start()
        router.await_ready()
    finally:
        router.stop()
        runtime.stop()


@pytest.mark.parametrize(
    ("name", "program", "reason"),
    [
        (
            "sitecustomize.py",
            "import sys; sys.modules['mesh_lane'] = None",
            "is not built; `make lane` builds it where cargo is",
        ),
        (
            "mesh_lane.py",
            "raise ImportError('made for another machine')",
            "cannot be loaded (made for another machine)",
        ),
    ],
    ids=["not-there", "unusable"],
)
def test_without_the_express_lane_that_is_wanted_a_router_serves_and_says_so(
    lone: RuntimeProcess, tmp_path: Path, model: str, name: str, program: str, reason: str
) -> None:
    (tmp_path / name).write_text(program)
    router = RouterProcess(tmp_path, {**lone.environment, "MESH_LANE": "auto", "PYTHONPATH": str(tmp_path)})
    try:
        (line,) = [line for line in router.process.output().splitlines() if "express lane" in line]
        assert reason in line
        with Client.insecure(router.address) as client:
            client.register(model)
            assert client.said(model) == answer(model)
    finally:
        router.stop()


def test_the_probes_answer(lone: RuntimeProcess, tmp_path: Path) -> None:
    router = RouterProcess(tmp_path, lone.environment)
    try:
        wanted = {"/ready": 200, "/ready/": 200, "/live": 200, "/live/": 200, "/": 404, "/other": 404}
        assert {path: router.probe(path) for path in wanted} == wanted
    finally:
        router.stop()


def test_a_runtime_behind_a_unix_socket_is_served(tmp_path: Path, model: str) -> None:
    with a_mesh(tmp_path, socket=tmp_path / "grpc.sock") as mesh:
        mesh.client.register(model)
        assert mesh.client.said(model) == answer(model)


def test_a_new_router_beside_the_same_runtime_starts_from_nothing(lone: RuntimeProcess, tmp_path: Path, model: str) -> None:
    begin = len(lone.seen("runtimeStatus", at="end"))
    for _ in range(2):
        router = RouterProcess(tmp_path, lone.environment)
        router.process.kill()
    assert len(lone.seen("runtimeStatus", at="end")) == begin + 2


def test_a_start_that_takes_too_long_says_what_it_waited_for(tmp_path: Path) -> None:
    (port,) = ports.free()
    output = failed_start(tmp_path, {"INTERNAL_GRPC_PORT": str(port), "MESH_START_TIMEOUT": "2"})
    assert "the start is not over after 2 s (MESH_START_TIMEOUT); it was waiting for the registry and the model server" in output


def test_a_pod_on_which_most_loads_fail_serves_on_but_is_not_ready(tmp_path: Path) -> None:
    with a_mesh(tmp_path) as mesh:
        mesh.client.loaded("good")
        for number in range(20):
            mesh.client.register(f"bad-{number}", "FAILALWAYS_broken", load=True)
        until(lambda: mesh.router.probe("/ready") == 503, "the probe to say that the pod failed its probation")
        assert mesh.router.probe("/live") == 200
        assert mesh.client.said("good") == answer("good")
        failed = "of the first 21 loads failed here"
        assert failed in plain.get(f"http://127.0.0.1:{mesh.router.ports['probe']}/ready", timeout=5).text


def test_that_can_be_switched_off(tmp_path: Path) -> None:
    with a_mesh(tmp_path, environment={"MM_FAILFAST_UPGRADE_ENABLED": "false"}) as mesh:
        for number in range(25):
            mesh.client.register(f"bad-{number}", "FAILALWAYS_broken", load=True)
        until(lambda: len(mesh.runtime.seen("loadModel", at="end")) >= 25, "all loads to fail")
        until(lambda: all(mesh.client.status(f"bad-{number}").errors for number in range(25)), "all failures to be known")
        assert mesh.router.probe("/ready") == 200
