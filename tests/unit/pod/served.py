"""Calls served by a pod whose inference server is a small real one; loads are answered by the bench."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio

from mesh.core.cache.copies import Copy
from mesh.core.ids import ModelId
from mesh.core.routing.dataplane import Dataplane
from mesh.pod.admission import Admission
from mesh.pod.serve import CallServer
from mesh.pod.streams import ServedStream
from mesh.pod.targets import Targets
from mesh.pod.traffic import Traffic
from mesh.pod.travel import Travels
from mesh.pod.turns import Turns
from mesh.runtime.channels import channel
from mesh.runtime.handshake import Runtime
from mesh.runtime.spi import SERVICE, Spi
from mesh.wire.call import Answer, Attempt, Call, Target
from mesh.wire.exchange import Exchange
from tests.unit.pod.bench import OFF, Bench

SAY, TALK = "test.Server/Say", "test.Server/Talk"


class InferenceServer(grpc.GenericRpcHandler):
    """Echoes; `wait` waits until `go` is set, `refuse` is refused, the first `forget` finds no model, and `no such version` none ever.

    The first `restart` gets no answer, as from a server that ends under it, and the second finds no model, as with one that is back.

    In a stream the answer to `last words` is its last but for the end, with which the server seems to die; `refused after` has an end of
    the model server's own.

    Attributes:
        begun: requests that arrived.
        ended: requests that are over, however.
    """

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = self.ended = self.forgotten = self.restarted = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        if handler_call_details.method == f"/{SAY}":
            return grpc.unary_unary_rpc_method_handler(self._say)
        return grpc.stream_stream_rpc_method_handler(self._talk)

    async def _say(self, payload: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        self.begun += 1
        try:
            if payload == b"wait":
                await self.go.wait()
            if payload == b"refuse":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not that")
            if payload == b"no such version":
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such version")
            if payload == b"forget" and not self.forgotten:
                self.forgotten += 1
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
            if payload == b"restart" and self.restarted < 2:
                self.restarted += 1
                code = grpc.StatusCode.UNAVAILABLE if self.restarted == 1 else grpc.StatusCode.NOT_FOUND
                await context.abort(code, "it restarts")
            return payload
        finally:
            self.ended += 1

    async def _talk(self, requests: AsyncIterator[bytes], context: aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        async for payload in requests:
            yield await self._say(payload, context)
            if payload == b"last words":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            if payload == b"refused after":
                await context.abort(grpc.StatusCode.DATA_LOSS, "half of it")


class Served:
    """A call server on a bench."""

    def __init__(self, bench: Bench, port: int, *, max_calls: int = 100, max_held: int = 1000) -> None:
        self.bench = bench
        self.channel = channel(f"127.0.0.1:{port}", 1 << 20)
        self.admission = Admission(max_calls, max_held)
        runtime = Runtime(Spi(self.channel, SERVICE, bench.pod.cache.policy.load_timeout), "test", bench.pod.cache.policy, {}, True, True)
        turns = Turns(OFF, limited=True, longest=0)
        targets = Targets(bench.registry, Dataplane.DEFAULT, Traffic(bench.registry, lambda: 0.0))
        self.calls = CallServer(
            targets,
            runtime,
            Exchange(self.channel),
            bench.peers,
            Travels(bench.conductor, bench.view, targets.lookups, self.admission, turns, OFF),
            self.admission,
            OFF,
            parallel=4,
            log_each=False,
        )

    def say(self, payload: bytes, model: str = "m", *, within: float | None = None, attempt: Attempt | None = None) -> asyncio.Task[Answer]:
        """A unary call; `attempt`: what was tried before."""
        return asyncio.get_running_loop().create_task(self.calls.unary(self._call(SAY, model, within, attempt), payload))

    def talk(self, requests: AsyncIterator[bytes], model: str = "m", *, attempt: Attempt | None = None) -> asyncio.Task[ServedStream]:
        """A stream, up to its first answer."""
        return asyncio.get_running_loop().create_task(self.calls.stream(self._call(TALK, model, None, attempt), requests))

    @staticmethod
    def _call(method: str, model: str, within: float | None, attempt: Attempt | None) -> Call:
        deadline = None if within is None else asyncio.get_running_loop().time() + within
        return Call(method, (), Target(models=(ModelId(model),)), deadline, attempt=attempt)

    def kept(self) -> tuple[int, int, int]:
        """Calls in progress, bytes held, and calls on copies: all of them nothing when nobody calls."""
        copies: list[Copy] = [*self.bench.pod.cache.current.values(), *self.bench.pod.cache.leaving.values()]
        return self.admission.calls, self.admission.held, sum(copy.calls + copy.waiting for copy in copies)


async def messages(*payloads: bytes) -> AsyncIterator[bytes]:
    """The requests of a stream."""
    for payload in payloads:
        yield payload
