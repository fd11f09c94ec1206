"""The store is away for longer than pods' leases live: what is loaded is served throughout, from wherever it is asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from grpc import RpcError

from mesh.store.etcd.session import TTL
from tests.integration.etcd.server import Etcd
from tests.support import environments
from tests.support.client import Client, answer
from tests.support.cluster import Cluster, a_cluster, chosen_places
from tests.support.waiting import until


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """To be stopped."""
    (tmp_path / "etcd").mkdir()
    server = Etcd(environments.made("etcd"), tmp_path / "etcd")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def pair(tmp_path: Path, own_etcd: Etcd, service: Callable[[], str]) -> Iterator[Cluster]:
    with a_cluster(tmp_path, f"etcd:{own_etcd.address}", 2, service=service(), environment=chosen_places(2)) as cluster:
        yield cluster


def test_loaded_models_are_served_while_the_store_is_away_to_new_clients_too(pair: Cluster, own_etcd: Etcd) -> None:
    models = [pair[0].client.loaded(f"m{number}", kind=f"on-{number % 2}") for number in range(4)]
    for pod in pair.pods:
        for model in models:
            assert pod.client.said(model) == answer(model)
    own_etcd.stop()
    end = time.monotonic() + TTL + 2
    while time.monotonic() < end:
        for pod in pair.pods:
            with Client.insecure(pod.router.address) as fresh:
                for client in (pod.client, fresh):
                    for model in models:
                        assert client.said(model) == answer(model)
        time.sleep(0.1)
    own_etcd.start()
    until(lambda: _registers(pair[1].client), "changes are taken again")
    pair.await_all()
    for pod in pair.pods:
        for model in (*models, "new"):
            assert pod.client.said(model) == answer(model)
    assert pair.loads() == len(models) + 1, "nothing was loaded twice"


def _registers(client: Client) -> bool:
    try:
        client.register("new")
    except RpcError:
        return False
    return True
