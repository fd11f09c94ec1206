"""A pod's record lives as long as the pod: through a busy event loop, a lost lease and a broken connection, and not longer."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from mesh.core.errors import StoreUnavailable
from mesh.core.ids import PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.store.etcd import EtcdRegistry
from tests.integration.etcd.conftest import Opener
from tests.integration.etcd.server import Etcd, Way
from tests.support.processes import Server
from tests.unit.store.stores import eventually

POD = PodId("abcdef-12345")
SHORT = 2
"""Seconds; a lease that a test can outwait."""


class Watcher:
    """Writes down how a pod's record came and went."""

    def __init__(self, registry: EtcdRegistry) -> None:
        self.told: list[InstanceRecord | None] = []
        registry.listen_to_instances(lambda pod, record: self.told.append(record) if pod == POD else None)


async def test_a_record_is_seen_by_others_until_its_pod_closes(etcd: Etcd, opener: Opener, service: str) -> None:
    pod, other = await opener(etcd.address), await opener(etcd.address)
    record = InstanceRecord(count=3, zone="z", labels=("a", "b"), endpoint="10.0.0.1:8080", unknown={"future": 1})
    watcher = Watcher(other)
    await pod.publish(POD, InstanceRecord())
    await pod.publish(POD, record)
    await eventually(lambda: other.instances.get(POD) == record)
    assert json.loads(etcd.get(f"/mm/{service}/instances/{POD}"))["meshEndpoint"] == "10.0.0.1:8080"
    await pod.close()
    await eventually(lambda: POD not in other.instances)
    assert watcher.told == [InstanceRecord(), record, None]


async def test_the_record_of_a_pod_that_is_killed_goes_with_its_lease(etcd: Etcd, opener: Opener, service: str, tmp_path: Path) -> None:
    other = await opener(etcd.address)
    arguments = ["tests.integration.etcd.publisher", f"etcd:{etcd.address}", service, POD, str(SHORT)]
    process = Server(arguments, tmp_path / "log")
    try:
        await eventually(lambda: POD in other.instances, process.tail())
        other_lease = lease(etcd, service)
        assert other_lease
    finally:
        process.kill()
    await eventually(lambda: POD not in other.instances)


async def test_a_lease_that_is_lost_is_replaced_and_the_record_put_again(etcd: Etcd, opener: Opener, service: str) -> None:
    pod, other = await opener(etcd.address, ttl=SHORT), await opener(etcd.address)
    watcher = Watcher(other)
    await pod.publish(POD, InstanceRecord(count=1))
    first = lease(etcd, service)
    etcd.ctl("lease", "revoke", f"{first:x}")
    await eventually(lambda: watcher.told == [InstanceRecord(count=1), None, InstanceRecord(count=1)])
    assert lease(etcd, service) not in (0, first)


async def test_a_pod_that_was_cut_off_longer_than_its_lease_comes_back(etcd: Etcd, opener: Opener) -> None:
    async with Way(etcd.port) as way:
        pod, other = await opener(f"127.0.0.1:{way.port}", ttl=SHORT), await opener(etcd.address)
        watcher = Watcher(other)
        await pod.publish(POD, InstanceRecord(count=1))
        await eventually(lambda: POD in other.instances)
        way.shut()
        await eventually(lambda: POD not in other.instances, "its lease expires")
        with pytest.raises(StoreUnavailable, match=r"instances/abcdef-12345 is written as soon as it does"):
            await pod.publish(POD, InstanceRecord(count=2))
        way.reopen()
        await eventually(lambda: other.instances.get(POD) == InstanceRecord(count=2))
        assert watcher.told == [InstanceRecord(count=1), None, InstanceRecord(count=2)]


async def test_an_event_loop_that_hangs_longer_than_the_lease_costs_no_membership(etcd: Etcd, opener: Opener, service: str) -> None:
    pod, other = await opener(etcd.address, ttl=SHORT), await opener(etcd.address)
    watcher = Watcher(other)
    await pod.publish(POD, InstanceRecord(count=1))
    before = lease(etcd, service)
    end = time.monotonic() + 2 * SHORT
    while time.monotonic() < end:
        # Python code, not a sleep: the lease's thread has to compete for the interpreter.
        sum(range(10_000))
    await pod.publish(POD, InstanceRecord(count=2))
    await eventually(lambda: other.instances.get(POD) == InstanceRecord(count=2))
    assert watcher.told == [InstanceRecord(count=1), InstanceRecord(count=2)]
    assert lease(etcd, service) == before


async def test_a_record_that_somebody_deletes_is_put_again(etcd: Etcd, opener: Opener, service: str) -> None:
    pod, other = await opener(etcd.address), await opener(etcd.address)
    watcher = Watcher(other)
    await pod.publish(POD, InstanceRecord(count=1))
    etcd.ctl("del", f"/mm/{service}/instances/{POD}")
    await eventually(lambda: watcher.told == [InstanceRecord(count=1), None, InstanceRecord(count=1)])


async def test_a_session_survives_a_restart_of_etcd(own_etcd: Etcd, opener: Opener, service: str) -> None:
    pod = await opener(own_etcd.address)
    await pod.publish(POD, InstanceRecord(count=1))
    own_etcd.stop()
    publishing = asyncio.ensure_future(pod.publish(POD, InstanceRecord(count=2)))
    await asyncio.sleep(0)
    own_etcd.start()
    await asyncio.gather(publishing, return_exceptions=True)
    await eventually(lambda: pod.instances.get(POD) == InstanceRecord(count=2))
    assert lease(own_etcd, service)


async def test_closing_while_etcd_is_away_ends(own_etcd: Etcd, opener: Opener) -> None:
    pod = await opener(own_etcd.address)
    await pod.publish(POD, InstanceRecord())
    own_etcd.stop()
    async with asyncio.timeout(15):
        await pod.close()


def lease(etcd: Etcd, service: str) -> int:
    """The lease of the pod's record; 0 without one."""
    fields = etcd.ctl("get", f"/mm/{service}/instances/{POD}", "-w", "fields").splitlines()
    return next((int(line.split(":")[1]) for line in fields if line.startswith('"Lease"')), 0)


async def test_a_lease_that_is_not_kept_alive_shows_that_etcd_is_away_where_nobody_asks_it_anything(own_etcd: Etcd, opener: Opener) -> None:
    registry = await opener(own_etcd.address, ttl=SHORT)
    await registry.publish(POD, InstanceRecord())
    with own_etcd.frozen():
        await eventually(lambda: registry.trouble, "nobody waits for the connection to time out")
        assert registry.trouble
        assert "does not answer" in registry.trouble.message
    await eventually(lambda: registry.trouble is None)
