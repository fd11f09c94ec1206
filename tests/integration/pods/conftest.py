"""One real etcd for all meshes here, each with a name of its own; and the logs of a mesh when a story of it fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import pytest

from tests.integration.etcd.server import Etcd
from tests.support import environments


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    server = Etcd(environments.made("etcd"), tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.stop()


@runtime_checkable
class Logging(Protocol):
    """A fixture that can tell what its processes wrote."""

    def logs(self) -> str: ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.failed:
        for fixture in (value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Logging)):
            report.sections.append(("logs of the mesh", fixture.logs()))
    return report
