"""A StatsD server on the pod's machine gets what ModelMesh sent it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from functools import partial

import pytest
from grpc import RpcError

from tests.support.mesh import Mesh, a_mesh
from tests.support.waiting import until

LINE = re.compile(r"([A-Za-z_][\w.\-]*)(?:#(\w+=[\w.\-]+(?:,\w+=[\w.\-]+)*))?:(-?\d+)\|(c|ms|g)")


class StatsdServer:
    """Takes datagrams on a port of its own and keeps their lines."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        self.largest = 0
        self._lines: list[str] = []

    def lines(self) -> list[str]:
        """All that came."""
        while True:
            try:
                datagram = self._socket.recv(65536)
            except BlockingIOError:
                return self._lines
            self.largest = max(self.largest, len(datagram))
            self._lines += datagram.decode("ascii").split("\n")

    def count(self, name: str) -> int:
        """How much a counter, labels included, was raised."""
        return sum(
            int(line.removeprefix(f"{name}:").removesuffix("|c"))
            for line in self.lines()
            if line.startswith(f"{name}:") and line.endswith("|c")
        )

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def server() -> Iterator[StatsdServer]:
    server = StatsdServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, server: StatsdServer) -> Iterator[Mesh]:
    with a_mesh(tmp_path_factory.mktemp("statsd"), environment={"MM_METRICS": f"statsd:port={server.port}"}) as mesh:
        yield mesh


def test_calls_loads_and_failures_reach_the_server(mesh: Mesh, server: StatsdServer, model: str) -> None:
    def reached(name: str, times: int) -> bool:
        return server.count(name) >= times

    client = mesh.client
    client.loaded(model)
    for _ in range(3):
        client.predict(model)
    with pytest.raises(RpcError):
        client.predict(model, "test:error:code=ABORTED:message=no")
    client.register(f"{model}-broken", "FAILALWAYS_broken", load=True, sync=True)
    client.unregister(model)
    for name, times in (
        ("modelmesh_api_request_statsd#method=predict,code=OK", 3),
        ("modelmesh_api_request_statsd#method=predict,code=ABORTED", 1),
        ("modelmesh_invoke_model_statsd#method=predict,code=OK", 3),
        ("modelmesh_loadmodel_statsd", 1),
        ("modelmesh_unloadmodel_statsd", 1),
        ("modelmesh_loadmodel_failure_statsd", 1),
    ):
        until(partial(reached, name, times), f"{times} x {name}")
    times_told = [line for line in server.lines() if line.startswith("modelmesh_api_request_milliseconds_statsd")]
    assert len(times_told) == 3, "of calls that ended well only"
    assert all(line.startswith("modelmesh_api_request_milliseconds_statsd#method=predict,code=OK:") for line in times_told)


def test_gauges_come_by_themselves(mesh: Mesh, server: StatsdServer) -> None:
    until(lambda: f"modelmesh_instance_capacity_bytes_statsd:{(131_072 - 9_600) * 8192}|g" in server.lines(), "the pod's gauges")
    until(lambda: any(line.startswith("modelmesh_models_managed_total_statsd:") for line in server.lines()), "the leader's gauges")


def test_every_line_can_be_read_and_no_datagram_is_too_large(mesh: Mesh, server: StatsdServer) -> None:
    assert [line for line in server.lines() if not LINE.fullmatch(line)] == []
    assert 0 < server.largest <= 1400


def test_there_is_no_door_for_prometheus(mesh: Mesh) -> None:
    assert "metrics" not in mesh.router.ports
