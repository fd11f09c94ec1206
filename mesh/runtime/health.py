"""Whether the runtime is there: a watch of `grpc.health.v1` on its management port, where it offers that.

An adapter answers NOT_SERVING while its server is down, and SERVING when it is back with nothing loaded; calls wait in between.
A broken connection pauses loads but proves nothing about what is loaded: an adapter may restart beside a server that goes on.
What is gone then shows in NOT_FOUND answers and heals model by model, as it does with a runtime that has no health service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2 as pb

from mesh.core.events import RuntimeLost, RuntimeReturned

CHECK_TIMEOUT = 5.0
"""Seconds for the first look at whether there is a health service."""

PAUSE = 0.25
"""Seconds before a broken watch is begun again."""

Tell = Callable[[RuntimeLost | RuntimeReturned], None]


async def offered(channel: aio.Channel) -> bool:
    """Whether the runtime has a health service."""
    check: aio.UnaryUnaryMultiCallable[pb.HealthCheckRequest, pb.HealthCheckResponse] = channel.unary_unary(
        "/grpc.health.v1.Health/Check", pb.HealthCheckRequest.SerializeToString, pb.HealthCheckResponse.FromString
    )
    try:
        await check(pb.HealthCheckRequest(), timeout=CHECK_TIMEOUT)
    except aio.AioRpcError as error:
        return error.code() is not grpc.StatusCode.UNIMPLEMENTED
    return True


async def watch(channel: aio.Channel, tell: Tell) -> None:
    """Tells when the runtime is lost and when it is back; runs until cancelled, or until it shows that there is no health service.

    The first look may have been cut short: a runtime without the service that was slow then must not count as lost for ever.
    """
    begin: aio.UnaryStreamMultiCallable[pb.HealthCheckRequest, pb.HealthCheckResponse] = channel.unary_stream(
        "/grpc.health.v1.Health/Watch", pb.HealthCheckRequest.SerializeToString, pb.HealthCheckResponse.FromString
    )
    there, down = True, False
    while True:
        try:
            async for answer in begin(pb.HealthCheckRequest()):
                serving = answer.status == pb.HealthCheckResponse.SERVING
                if serving and not there:
                    tell(RuntimeReturned(emptied=down))
                elif not serving and not down:
                    tell(RuntimeLost(down=True))
                there, down = serving, not serving
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                if not there:
                    tell(RuntimeReturned(emptied=down))
                return
        if there:
            there = False
            tell(RuntimeLost(down=False))
        await asyncio.sleep(PAUSE)
