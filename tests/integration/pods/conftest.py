"""One real etcd for all meshes here; each mesh has a name of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.etcd.server import Etcd
from tests.support import environments


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    server = Etcd(environments.made("etcd"), tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.stop()
