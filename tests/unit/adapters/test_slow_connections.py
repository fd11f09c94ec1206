"""A model server that is busy with a load accepts a connection and says nothing on it for a while: that is no server that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc import aio

from mesh.protocols import inference_pb2 as v2
from mesh.protocols.inference_pb2_grpc import GRPCInferenceServiceStub
from mesh.runtime.channels import channel
from runtime_adapters.v2_client import V2Client

SILENCE = 0.5
"""Seconds: many times what a connection takes otherwise."""


async def live(request: v2.ServerLiveRequest, context: object) -> v2.ServerLiveResponse:
    return v2.ServerLiveResponse(live=True)


@pytest.fixture
async def busy() -> AsyncIterator[int]:
    """The port of a server that is silent at first."""
    server = aio.server()
    method = grpc.unary_unary_rpc_method_handler(live, v2.ServerLiveRequest.FromString, v2.ServerLiveResponse.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ServerLive": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with silent_at_first(port) as found:
        yield found
    await server.stop(0)


@asynccontextmanager
async def silent_at_first(port: int) -> AsyncIterator[int]:
    """A way to a port on which nothing passes at first."""

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(SILENCE)
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(passed_on(reader, back), passed_on(there, writer), return_exceptions=True)

    way = await asyncio.start_server(accepted, "127.0.0.1", 0)
    yield way.sockets[0].getsockname()[1]
    way.close()


async def test_a_routers_call_waits_for_it(busy: int) -> None:
    async with channel(f"127.0.0.1:{busy}", 1 << 20) as made:
        answer = await GRPCInferenceServiceStub(made).ServerLive(v2.ServerLiveRequest(), timeout=60)
        assert answer.live


async def test_an_adapters_call_waits_for_it(busy: int) -> None:
    client = V2Client("the server", f"127.0.0.1:{busy}")
    await client.live(60)
    await client.close()
