"""A pod's process as far as its record goes: publishes it and waits to be killed. Arguments: KV_STORE, service, pod, TTL in seconds."""

from __future__ import annotations

import asyncio
import sys

from mesh.core.ids import PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.store.etcd import open_etcd
from tests.integration.etcd.server import settings


async def main(kv_store: str, service: str, pod: str, ttl: str) -> None:
    registry = await open_etcd(settings(kv_store, service), ttl=int(ttl))
    await registry.publish(PodId(pod), InstanceRecord(count=1))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
