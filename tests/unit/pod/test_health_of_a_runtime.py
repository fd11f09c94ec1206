"""A runtime that has no health service is never taken for lost by its lack, also if the first look at it was cut short."""

from __future__ import annotations

import asyncio
from pathlib import Path

from grpc import aio
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from mesh.core.events import RuntimeLost, RuntimeReturned
from mesh.runtime import health


async def test_one_without_the_service_is_not_watched_and_a_watch_of_it_ends(tmp_path: Path) -> None:
    told: list[RuntimeLost | RuntimeReturned] = []
    server = aio.server()
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        assert not await health.offered(channel)
        async with asyncio.timeout(60):
            await health.watch(channel, told.append)
    assert told == []
    await server.stop(None)


async def test_one_that_comes_back_without_the_service_is_back(tmp_path: Path) -> None:
    told: list[RuntimeLost | RuntimeReturned] = []
    with_service = aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), with_service)
    with_service.add_insecure_port(f"unix:{tmp_path}/s")
    await with_service.start()
    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
    async with aio.insecure_channel(f"unix:{tmp_path}/s", options=options) as channel:
        assert await health.offered(channel)
        watching = asyncio.create_task(health.watch(channel, told.append))
        async with asyncio.timeout(60):
            # The watch has begun once the server's end breaks it.
            while not told:
                await asyncio.sleep(0.1)
                await with_service.stop(None)
            without = aio.server()
            without.add_insecure_port(f"unix:{tmp_path}/s")
            await without.start()
            await watching
        assert told == [RuntimeLost(down=False), RuntimeReturned(emptied=False)]
        await without.stop(None)
