"""Clients of a router with the lane that are no Python: gRPC of Go and Java with their own stubs, and Envoy before it."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from benchmarks import lane_proxies
from tests.lane.foreign import building
from tests.lane.test_calls import infer, straight
from tests.support import environments, lane, ports
from tests.support.client import Client, refused
from tests.support.mesh import Mesh, a_mesh
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

pytestmark = [
    pytest.mark.skipif(not lane.built(), reason="the express lane is not compiled: `make lane` does it where cargo is"),
    pytest.mark.timeout(1200),
]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("foreign"), Behaviour(capacity=64 * 64 * MIB), lane.variables("auto")) as mesh:
        yield mesh


@pytest.fixture
def served(mesh: Mesh, model: str) -> str:
    """A model whose calls go straight."""
    mesh.client.loaded(model)
    until(lambda: straight(mesh.client, model), "the copy is published")
    return model


def told(language: str, address: str, model: str) -> dict[str, Any]:
    """What the client in this language says of the calls that it made."""
    if absent := building.missing(language):
        pytest.skip(f"not on this machine: {', '.join(absent)}")
    done = subprocess.run([*building.command(language), address, model], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def envoy(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Envoy that passes everything on to the router."""
    (port,), folder = ports.free(), tmp_path_factory.mktemp("envoy")
    (program,) = environments.made("proxies").glob("lib/python*/site-packages/envoy/_bin/envoy")
    command = lane_proxies.envoy(str(program), folder, port, int(mesh.router.address.rpartition(":")[2]), None)
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lambda: listens(port), "Envoy listens")
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("before", ["nothing", "envoy"])
@pytest.mark.parametrize("language", building.TOOLS)
def test_a_client_with_the_stubs_of_its_language(mesh: Mesh, envoy: str, served: str, language: str, before: str) -> None:
    found = told(language, envoy if before == "envoy" else mesh.router.address, served)
    codes = {name: code.replace("_", "").upper() for name, code in found.items() if isinstance(code, str)}
    assert codes == {"large": "OK", "unknown": "NOTFOUND", "too late": "DEADLINEEXCEEDED", "afterwards": "OK"}
    assert {name: counts for name, counts in found.items() if name not in codes} == {
        "one after the other": {"OK": 200},
        "at once": {"OK": 64},
        "stream": {"OK": 200},
    }


def test_calls_through_envoy(envoy: str, served: str) -> None:
    with Client.insecure(envoy) as client:
        assert straight(client, served)
        assert client.v2.ModelInfer(infer(served)).raw_output_contents == infer(served).raw_input_contents
        stream = client.v2.ModelStreamInfer(iter([infer(served)] * 5), metadata=(("mm-model-id", served),))
        assert [one.infer_response.raw_output_contents for one in stream] == [infer(served).raw_input_contents] * 5
        with refused(grpc.StatusCode.NOT_FOUND, "nobody"):
            client.v2.ModelInfer(infer("nobody"))
