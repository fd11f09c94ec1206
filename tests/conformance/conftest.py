"""One pod that most tests share, and the logs of whatever pod a failed test used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.mesh import Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import MIB, Behaviour


@pytest.fixture(scope="session")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A pod with room for every model of every test that shares it: nothing is ever evicted here."""
    with a_mesh(tmp_path_factory.mktemp("roomy"), Behaviour(capacity=64 * 1024 * MIB)) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def mesh(roomy: Mesh) -> Mesh:
    """The pod of this module's tests; a module with needs of its own has its own `mesh`."""
    return roomy


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
        for pod in {id(value): value for value in used if isinstance(value, Mesh)}.values():
            report.sections.append(("logs of the pod", pod.logs()))
    return report
