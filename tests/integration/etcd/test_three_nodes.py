"""Of three nodes each may fail, the leader too: nothing is lost and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mesh.core.errors import StoreUnavailable
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.store.etcd import EtcdRegistry
from tests.integration.etcd.changing import counted
from tests.integration.etcd.conftest import Opener
from tests.integration.etcd.nodes import leader, three_nodes
from tests.integration.etcd.server import Etcd
from tests.support.waiting import until_async
from tests.unit.store.edits import Count, Witness, create
from tests.unit.store.stores import eventually

A, POD = ModelId("a"), PodId("abcdef-12345")


@pytest.fixture
def nodes(environment: Path, tmp_path: Path) -> Iterator[list[Etcd]]:
    with three_nodes(environment, tmp_path) as nodes:
        yield nodes


async def count(registry: EtcdRegistry, times: int) -> int:
    """Counts in one record; how often etcd did not answer, so that nobody knows whether it counted."""
    unknown = 0
    for _ in range(times):
        try:
            assert await registry.change(Count("a")) is None
        except StoreUnavailable:
            unknown += 1
    return unknown


@pytest.mark.parametrize("failure", ["killed", "frozen"])
async def test_the_leader_fails_under_load(nodes: list[Etcd], opener: Opener, failure: str) -> None:
    addresses = [node.address for node in nodes]
    pods = [await opener(",".join(addresses[start:] + addresses[:start])) for start in range(3)]
    witnesses = [Witness(pod) for pod in pods]
    await pods[0].change(create("a"))
    await pods[0].publish(POD, InstanceRecord())
    for pod in pods:
        await eventually(lambda pod=pod: A in pod.models and POD in pod.instances)  # type: ignore[misc] # default
    counting = asyncio.gather(*(count(pod, 60) for pod in pods))
    await eventually(lambda: pods[0].models[A].refs > 20)
    first = leader(nodes)
    if failure == "killed":
        first.kill()
        unknown = sum(await counting)
    else:
        with first.frozen():
            unknown = sum(await counting)
    for pod in pods:
        await eventually(lambda pod=pod: 180 - unknown <= pod.models[A].refs <= 180)  # type: ignore[misc] # default
    await eventually(lambda: len({pod.models[A].refs for pod in pods}) == 1)
    for witness in witnesses:
        told = counted(witness, "a")
        assert told == list(range(told[0] or 0, len(told) + (told[0] or 0)))

    async def published() -> bool:
        # A leader may still have to be found.
        with suppress(StoreUnavailable):
            await pods[0].publish(POD, InstanceRecord(count=1))
            return True
        return False

    assert await until_async(published, "a record of its own to be written again")
    await eventually(lambda: all(pod.instances[POD].count == 1 for pod in pods))
