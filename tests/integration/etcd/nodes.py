"""An etcd of three nodes, of which some are down at times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.integration.etcd.server import START, Etcd
from tests.support.waiting import until


@contextmanager
def three_nodes(environment: Path, folder: Path) -> Iterator[list[Etcd]]:
    """Nodes of one etcd that is healthy, for as long as the context lasts; their data is under `folder`."""
    folders = [folder / name for name in ("one", "two", "three")]
    for place in folders:
        place.mkdir()
    nodes = [Etcd(environment, place) for place in folders]
    cluster = ",".join(node.cluster for node in nodes)
    for node in nodes:
        node.cluster = cluster
    try:
        for node in nodes:
            node.launch()
        await_healthy(nodes)
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def await_healthy(nodes: Sequence[Etcd]) -> None:
    """Returns when each of these nodes answers as a part of a whole etcd."""
    for node in nodes:
        until(node.healthy, f"etcd node {node.name} is healthy", within=START)


def leader(nodes: Sequence[Etcd]) -> Etcd:
    """The one that leads; all have to be up."""

    def found() -> list[Etcd]:
        return [node for node in nodes if node.ctl("endpoint", "status").split(", ")[4] == "true"]

    return until(found, "there is a leader")[0]
