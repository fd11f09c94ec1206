"""An etcd for all tests here, and one of a test's own for those that ill-treat it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from mesh.store.etcd import EtcdRegistry, open_etcd
from tests.integration.etcd.server import Etcd, settings
from tests.support import environments

Opener = Callable[..., Awaitable[EtcdRegistry]]


@pytest.fixture(scope="session")
def environment() -> Path:
    return environments.made("etcd")


@pytest.fixture(scope="session")
def etcd(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Shared; a test uses a service name of its own."""
    server = Etcd(environment, tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_etcd(environment: Path, tmp_path: Path) -> Iterator[Etcd]:
    """To be stopped, frozen or compacted."""
    server = Etcd(environment, tmp_path)
    server.start()
    yield server
    server.kill()


_services = itertools.count(1)


@pytest.fixture
def service() -> str:
    """A mesh that no other test uses."""
    return f"mesh-{next(_services)}"


@pytest.fixture
async def opener(service: str) -> AsyncIterator[Opener]:
    """Opens registries of one mesh, closed afterwards: `await opener("host:port", ttl=25)`."""
    opened: list[EtcdRegistry] = []

    async def make(where: str, *, ttl: int = 25) -> EtcdRegistry:
        opened.append(await open_etcd(settings(f"etcd:{where}", service), ttl=ttl))
        return opened[-1]

    yield make
    for registry in opened:
        await registry.close()


@pytest.fixture
async def registry(etcd: Etcd, opener: Opener) -> EtcdRegistry:
    """An empty registry."""
    return await opener(etcd.address)
