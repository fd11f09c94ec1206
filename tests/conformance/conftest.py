"""One pod that most tests share, and the logs of whatever pod a failed test used."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.etcd.server import Etcd
from tests.support import environments
from tests.support.client import Client
from tests.support.cluster import Cluster, a_cluster, chosen_places
from tests.support.mesh import Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import MIB, Behaviour

ROOM = Behaviour(capacity=64 * 1024 * MIB)
"""Nothing is ever evicted here."""


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Shared by meshes of different names."""
    server = Etcd(environments.made("etcd"), tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.stop()


_services = itertools.count(1)


@pytest.fixture(scope="session")
def service() -> Callable[[], str]:
    """Names of meshes that no other test uses."""
    return lambda: f"mesh{next(_services)}"


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory, etcd: Etcd, service: Callable[[], str]) -> Iterator[Cluster]:
    """Three pods that stay; a model's type says where it may be."""
    folder = tmp_path_factory.mktemp("three")
    # These stories count loads, and some of them call often enough to be given a further copy.
    environment = {**chosen_places(3), "MM_SCALEUP_RPM_THRESHOLD": "1000000"}
    with a_cluster(folder, f"etcd:{etcd.address}", 3, service=service(), behaviour=ROOM, environment=environment) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A pod with room for every model of every test that shares it: nothing is ever evicted here."""
    with a_mesh(tmp_path_factory.mktemp("roomy"), ROOM) as mesh:
        yield mesh


@pytest.fixture(scope="session")
def roomy_on_etcd(tmp_path_factory: pytest.TempPathFactory, etcd: Etcd, service: Callable[[], str]) -> Iterator[Mesh]:
    """As `roomy`, with its registry in etcd."""
    with a_mesh(tmp_path_factory.mktemp("roomy-on-etcd"), ROOM, on(etcd, service())) as mesh:
        yield mesh


def on(etcd: Etcd, service: str) -> dict[str, str]:
    """Variables of a router that keeps its registry there."""
    return {"KV_STORE": f"etcd:{etcd.address}", "MM_SERVICE_NAME": service}


@pytest.fixture(scope="module")
def registry() -> str:
    """`memory` or `etcd`; a module that looks at what the registry bears on has both, by a fixture of its own."""
    return "memory"


@pytest.fixture(scope="module")
def store(registry: str, service: Callable[[], str], request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables of a router, by which it has that registry."""
    return {} if registry == "memory" else on(request.getfixturevalue("etcd"), service())


@pytest.fixture(scope="module")
def mesh(registry: str, request: pytest.FixtureRequest) -> Mesh:
    """The pod of this module's tests; a module with needs of its own has its own `mesh`."""
    found: Mesh = request.getfixturevalue("roomy" if registry == "memory" else "roomy_on_etcd")
    return found


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """A runtime in want of a router."""
    runtime = RuntimeProcess(tmp_path_factory.mktemp("lone"))
    yield runtime
    runtime.stop()


@pytest.fixture
def client(mesh: Mesh) -> Client:
    return mesh.client


@pytest.fixture
def runtime(mesh: Mesh) -> RuntimeProcess:
    return mesh.runtime


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """An id that no other test uses."""
    return str(request.node.name).removeprefix("test_").replace("[", "-").replace("]", "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    used = getattr(item, "funcargs", {}).values()
    if report.failed:
        for pods in {id(value): value for value in used if isinstance(value, Mesh | Cluster)}.values():
            report.sections.append(("logs of the pods", pods.logs()))
    return report
