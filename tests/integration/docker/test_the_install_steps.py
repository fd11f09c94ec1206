"""The steps of the mesh's Dockerfile, carried out in a clean environment, and what comes of them: one file, so that it is done once."""

from __future__ import annotations

import json

import pytest

from tests.integration.docker.conftest import LANE, Pod
from tests.integration.docker.image import Image
from tests.integration.mlserver_adapter.rig import load_request
from tests.support.client import Client
from tests.support.http import plain
from tests.support.stubs import ROOT
from tests.unit.docker.files import compose

BODY = ROOT / "examples" / "walkthrough" / "bodies" / "sklearn-mnist.infer.json"

pytestmark = pytest.mark.timeout(900)  # the first story waits for the image, which installs dozens of packages


def adapter_command() -> list[str]:
    (command,) = {tuple(service["command"]) for name, service in compose()["services"].items() if name.startswith("adapter")}
    return list(command)


def test_the_image_has_all_that_is_read_at_run_time(image: Image) -> None:
    (packages,) = image.root.glob("opt/mesh/lib/python*/site-packages")
    files = {str(path.relative_to(packages)) for path in packages.rglob("*") if path.is_file()}
    generated = {
        f"mesh/protocols/{name}_{kind}.py" for name in ("inference", "model_mesh", "model_runtime") for kind in ("pb2", "pb2_grpc")
    }
    lists = {f"mesh/local/lists/{path.name}" for path in (ROOT / "environments").glob("*.txt")}
    builtin = {str(path.relative_to(ROOT)) for path in (ROOT / "mesh" / "manifests" / "builtin").glob("*.yaml")}
    assert lists
    assert builtin
    assert generated | lists | builtin | {"mesh/py.typed", "runtime_adapters/py.typed"} <= files


def test_it_has_nothing_that_only_builds_or_tests(image: Image) -> None:
    (packages,) = image.root.glob("opt/mesh/lib/python*/site-packages")
    unwanted = ("pip", "hatchling", "grpc_tools", "pytest", "tests", "examples", "protos")
    assert [name for name in unwanted if (packages / name).exists()] == []
    assert {path.name for path in image.root.iterdir()} == {"opt", "usr", "tmp", "models"}


def test_what_runs_is_what_was_installed(image: Image) -> None:
    done = image.run("python", "-c", "import mesh, runtime_adapters; print(mesh.__file__, runtime_adapters.__file__)")
    assert [path.startswith(f"{image.root}/opt/mesh/lib/") for path in done.stdout.split()] == [True, True], done.stderr


@pytest.mark.skipif(LANE is None, reason="the express lane is not compiled: `make lane` does it where cargo is")
def test_the_lane_takes_the_ports_of_its_routers(image: Image, pod: Pod) -> None:
    assert "the express lane is on" in pod.logs[0].read_text()


def test_it_can_send_traces(image: Image) -> None:
    done = image.run("python", "-c", "import opentelemetry.sdk.trace, opentelemetry.exporter.otlp.proto.http.trace_exporter")
    assert done.returncode == 0, done.stderr


def test_a_router_that_is_told_nothing_says_what_it_needs(image: Image) -> None:
    log = image.root / "tmp" / "termination-log"
    done = image.run(*image.command, LL_TERMINATION_MSG_PATH=str(log))
    assert done.returncode == 1
    assert "MM_SERVICE_NAME is not set" in done.stderr
    assert "MM_SERVICE_NAME is not set" in log.read_text()


def test_an_adapter_that_is_told_nothing_says_what_it_needs(image: Image) -> None:
    done = image.run(*adapter_command())
    assert done.returncode == 1
    assert "CONTAINER_MEM_REQ_BYTES is not set" in done.stderr


@pytest.mark.parametrize(("part", "port"), [("router", "MM_PROBE_PORT"), ("adapter", "ADAPTER_PORT")])
def test_where_nothing_runs_nothing_is_well(image: Image, part: str, port: str) -> None:
    done = image.run("python", "/opt/mesh/health.py", part, **{port: "1"})
    assert done.returncode == 1
    assert done.stderr.startswith(f"{part}: ")


@pytest.mark.parametrize("arguments", [[], ["model"], ["router", "adapter"]], ids=" ".join)
def test_a_health_check_of_something_else_is_no_health(image: Image, arguments: list[str]) -> None:
    done = image.run("python", "/opt/mesh/health.py", *arguments)
    assert (done.returncode, done.stderr) == (2, "usage: health.py router|adapter\n")


def test_a_pod_of_its_containers_serves_the_walkthroughs_model_and_writes_only_where_it_may(image: Image, pod: Pod) -> None:
    before = image.files()
    key = load_request("mnist", "mnist-svm.joblib", "sklearn").modelKey
    with Client.insecure(f"127.0.0.1:{pod.grpc}") as client:
        client.register("mnist", "mnist-svm.joblib", kind="mt:sklearn", key=key)
    # The load is the model server's first, which imports what it needs.
    answer = plain.post(f"http://127.0.0.1:{pod.rest}/v2/models/mnist/infer", json=json.loads(BODY.read_text()), timeout=200)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"][0]["contents"]["int64Contents"] == ["8"]
    assert image.files() == before, "the root file system of a container is read-only"
