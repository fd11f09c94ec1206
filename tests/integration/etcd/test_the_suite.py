"""The registry in etcd passes the suite that every store passes."""

import pytest

from mesh.store.registry import Registry
from tests.integration.etcd.conftest import Opener
from tests.integration.etcd.server import Etcd
from tests.unit.store.stores import Store
from tests.unit.store.test_changing import *  # noqa: F403 # its tests run here with this folder's registry
from tests.unit.store.test_listening import *  # noqa: F403
from tests.unit.store.test_many_pods import *  # noqa: F403


class EtcdOfSeveral:
    """One etcd; operators set parameters with etcdctl."""

    def __init__(self, etcd: Etcd, opener: Opener, service: str) -> None:
        self._etcd, self._opener, self._config = etcd, opener, f"/mm/{service}/config/"

    async def open(self) -> Registry:
        return await self._opener(self._etcd.address)

    def set_parameter(self, name: str, value: str | None) -> None:
        self._etcd.ctl(*(["del", self._config + name] if value is None else ["put", self._config + name, value]))

    async def close(self) -> None:
        """The opener closes what it opened."""


@pytest.fixture
def store(etcd: Etcd, opener: Opener, service: str) -> Store:
    return EtcdOfSeveral(etcd, opener, service)
