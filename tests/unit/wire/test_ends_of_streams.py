"""How a stream ended is told as the other side said it, whatever was being written to it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc import aio

from mesh.core.errors import Code
from mesh.wire.call import RuntimeStatus
from mesh.wire.exchange import Exchange

STREAMS = 50
"""At a time; with gRPC's own way of writing nearly half of them end with its own error."""


async def third_is_wrong(requests: AsyncIterator[bytes], context: aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
    """Answers two messages and refuses the third."""
    count = 0
    async for request in requests:
        count += 1
        if count == 3:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the third message is wrong", (("which", "3"),))
        yield request


class Server(grpc.GenericRpcHandler):
    def service(self, _: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.stream_stream_rpc_method_handler(third_is_wrong)


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    server = aio.server()
    server.add_generic_rpc_handlers((Server(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Exchange(channel)
    await server.stop(None)


async def many() -> AsyncIterator[bytes]:
    for _ in range(200):
        yield b"x" * 20_000
        await asyncio.sleep(0)


async def test_the_status_that_the_other_side_gave_is_told_while_messages_are_being_written(exchange: Exchange) -> None:
    async def converse() -> tuple[int, RuntimeStatus]:
        stream, answers = exchange.stream("any.Service/Method", many(), (), 30), 0
        try:
            while await stream.next() is not None:
                answers += 1
        except RuntimeStatus as status:
            return answers, status
        finally:
            stream.cancel()
        raise AssertionError("the stream ended well")

    for answers, status in await asyncio.gather(*(converse() for _ in range(STREAMS))):
        assert (answers, status.code, status.details) == (2, Code.INVALID_ARGUMENT, "the third message is wrong")
        assert ("which", "3") in status.trailers
