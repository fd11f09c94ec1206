"""A router with the express lane on its REST port: what goes straight, what is counted, and how it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.lane.test_rest import BODIES, comparable, tensor
from tests.lane.test_router import counted
from tests.support import lane
from tests.support.http import plain
from tests.support.mesh import Mesh, a_mesh
from tests.support.processes import Died
from tests.support.runtime_state import MIB, Behaviour

pytestmark = pytest.mark.skipif(not lane.built(), reason="the express lane is not compiled: `make lane` does it where cargo is")
API_TIMES = "modelmesh_api_request_milliseconds"
BODY = tensor("INT8", [1], [1])


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    metrics = {"MM_METRICS": "prometheus:port=0;scheme=http;per_model_metrics=true"}
    with a_mesh(tmp_path_factory.mktemp("rest"), Behaviour(capacity=64 * 8 * MIB), lane.variables("auto") | metrics) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("without"), Behaviour(capacity=64 * 8 * MIB), lane.variables("off")) as mesh:
        yield mesh


def infer(mesh: Mesh, model: str, body: object = BODY) -> httpx.Response:
    return plain.post(f"{mesh.router.rest}/v2/models/{model}/infer", json=body, timeout=60)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_answers_are_those_of_a_router_without_it(mesh: Mesh, without: Mesh, model: str, body: dict[str, object]) -> None:
    for each in (mesh, without):
        each.client.loaded(model)
    assert comparable(infer(mesh, model, body)) == comparable(infer(without, model, body))
    assert plain.get(f"{mesh.router.rest}/v2/models/{model}").json() == plain.get(f"{without.router.rest}/v2/models/{model}").json()


def test_a_cold_model_is_loaded_and_all_its_calls_are_counted(mesh: Mesh, model: str) -> None:
    mesh.client.register(model)
    with httpx.Client(base_url=mesh.router.rest, trust_env=False, timeout=60) as client:
        for _ in range(20):
            assert client.post(f"/v2/models/{model}/infer", json=BODY).json()["outputs"][0]["data"] == [1]
        assert client.post(f"/v2/models/{model}/infer", content=b"{").status_code == 400
    assert mesh.runtime.loads(model) == 1
    assert counted(mesh, API_TIMES, model)["_count"] == 20


def test_a_port_that_is_taken_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        variables = lane.variables("auto") | {"REST_PROXY_LISTEN_PORT": str(taken.getsockname()[1])}
        with pytest.raises(Died, match="REST_PROXY_LISTEN_PORT"), a_mesh(tmp_path_factory.mktemp("taken"), Behaviour(), variables):
            pass
