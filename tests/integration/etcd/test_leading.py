"""One pod leads, by ModelMesh's rule and keys: the oldest candidacy under a living lease, be it ours or that of another router."""

from __future__ import annotations

import re

from mesh.core.ids import PodId
from mesh.core.registry.instances import InstanceRecord
from tests.integration.etcd.conftest import Opener
from tests.integration.etcd.server import Etcd, Way
from tests.unit.store.stores import eventually
from tests.unit.store.test_many_pods import ONE, TWO, leadership_told

JAVA = PodId("fedcba-00009")
SHORT = 2
"""Seconds; a lease that a test can outwait."""


def java_stands(etcd: Etcd, service: str) -> str:
    """The candidacy of a router of ModelMesh; its lease, in hexadecimal."""
    granted = re.search(r"lease ([0-9a-f]+) granted", etcd.ctl("lease", "grant", "600"))
    assert granted
    etcd.ctl("put", f"--lease={granted[1]}", f"/mm/{service}/leaderLatch/_{JAVA}", f"_{JAVA}")
    return granted[1]


async def test_the_candidacy_lies_where_modelmesh_looks_for_it_under_the_pods_lease(etcd: Etcd, opener: Opener, service: str) -> None:
    pod = await opener(etcd.address)
    await pod.stand_for_leader(ONE)
    key = f"/mm/{service}/leaderLatch/_{ONE}"
    assert etcd.get(key) == f"_{ONE}"
    assert '"Lease" : 0' not in etcd.ctl("get", key, "-w", "fields")
    await pod.close()
    assert etcd.get(key) == ""


async def test_a_router_of_modelmesh_that_stood_first_leads_until_its_lease_ends(etcd: Etcd, opener: Opener, service: str) -> None:
    lease = java_stands(etcd, service)
    pod = await opener(etcd.address)
    told = leadership_told(pod)
    await pod.stand_for_leader(ONE)
    await pod.publish(ONE, InstanceRecord())
    await eventually(lambda: ONE in pod.instances)
    assert (pod.leader, pod.leads, told) == (JAVA, False, [])
    etcd.ctl("lease", "revoke", lease)
    await eventually(lambda: pod.leads)
    java_stands(etcd, service)
    await pod.publish(ONE, InstanceRecord())
    await eventually(lambda: ONE in pod.instances, "what was written before it is seen")
    assert (pod.leader, told) == (ONE, [True]), "who comes back stands behind"


async def test_a_lost_lease_loses_the_lead(etcd: Etcd, opener: Opener, service: str) -> None:
    one, two = await opener(etcd.address), await opener(etcd.address)
    told = leadership_told(one)
    await one.stand_for_leader(ONE)
    await two.stand_for_leader(TWO)
    await eventually(lambda: one.leads)
    etcd.ctl("lease", "revoke", f"{one._session.lease:x}")
    await eventually(lambda: two.leads)
    await eventually(lambda: told == [True, False])
    await eventually(lambda: etcd.get(f"/mm/{service}/leaderLatch/_{ONE}"), "it stands again")
    assert (one.leader, two.leader) == (TWO, TWO)


async def test_who_is_cut_off_ceases_to_lead_by_its_own_clock(etcd: Etcd, opener: Opener) -> None:
    async with Way(etcd.port) as way:
        one, two = await opener(f"127.0.0.1:{way.port}", ttl=SHORT), await opener(etcd.address)
        told = leadership_told(one)
        await one.stand_for_leader(ONE)
        await eventually(lambda: one.leads)
        await two.stand_for_leader(TWO)
        way.shut()
        # No news comes to it: that another one may lead by now it can only know from the time.
        await eventually(lambda: told == [True, False])
        assert (one.leads, one.leader) == (False, None)
        await eventually(lambda: two.leads)
        way.reopen()
        await eventually(lambda: one.leader == TWO)
        assert (one.leads, told) == (False, [True, False])


async def test_a_candidacy_that_somebody_deletes_is_put_again(etcd: Etcd, opener: Opener, service: str) -> None:
    pod = await opener(etcd.address)
    told = leadership_told(pod)
    await pod.stand_for_leader(ONE)
    await eventually(lambda: pod.leads)
    etcd.ctl("del", f"/mm/{service}/leaderLatch/_{ONE}")
    await eventually(lambda: told == [True, False, True])
