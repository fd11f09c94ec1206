"""Two pods in one process, on real sockets: a public door that passes every call to the other pod's door, behind which is a real server.

How a pod chooses another is not tested here: every call goes from `ingress` to `holder`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
from grpc import aio

from mesh.core.errors import MeshError
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.routing.hops import Hop, Kind, Load
from mesh.core.units import Millis
from mesh.doors.grpc.peer import PeerDoor
from mesh.doors.grpc.proxy import Proxy
from mesh.pod.peers import Peers, PeerStream
from mesh.settings import Settings
from mesh.wire.call import Answer, Call, Metadata
from mesh.wire.exchange import Answering, Exchange
from mesh.wire.headers import to_runtime
from tests.support.waiting import PATIENCE, until_async

INGRESS, HOLDER = PodId("ingress"), PodId("holder")
DIGITS = ModelId("digits")
SAY, TALK = "inference.GRPCInferenceService/ModelInfer", "test.Server/Talk"
"""A method known to be unary, and one that nobody described."""
STARTED = Millis(1_700_000_000_000)
ALONE = [("grpc.use_local_subchannel_pool", 1)]
"""Channels of one test do not share connections with those of another."""


def hop(kind: Kind = Kind.HIT, dest: PodId = HOLDER) -> Hop:
    return Hop(kind, DIGITS, INGRESS, dest)


def remaining(call: Call) -> float | None:
    return None if call.deadline is None else call.deadline - asyncio.get_running_loop().time()


class Around:
    """What the ingress knows: addresses as the test sets them, and what it was told."""

    def __init__(self) -> None:
        self.records: dict[PodId, InstanceRecord] = {}
        self.running: dict[PodId, int] = {}
        self.loads: list[Load] = []
        self.aside: set[PodId] = set()
        self.put_aside = 0

    def put(self, pod: PodId, port: int) -> None:
        self.records[pod] = InstanceRecord(endpoint=f"127.0.0.1:{port}")

    def instance(self, pod: PodId) -> InstanceRecord | None:
        return self.records.get(pod)

    def began(self, pod: PodId) -> None:
        self.running[pod] = self.running.get(pod, 0) + 1

    def ended(self, pod: PodId) -> None:
        self.running[pod] -= 1

    def reported(self, pod: PodId, load: Load, now: Millis) -> None:
        assert self.running[pod] > 0, "a report comes before its call is over"
        self.loads.append(load)

    def fails(self, pod: PodId) -> None:
        self.put_aside += 1
        self.aside.add(pod)

    def answers(self, pod: PodId) -> None:
        self.aside.discard(pod)


class Flow:
    """A stream as doors take it."""

    def __init__(self, call: Answering, first: bytes | None) -> None:
        self._call, self._first = call, first
        self.headers = call.headers

    @property
    def trailers(self) -> Metadata:
        return self._call.trailers

    async def __aiter__(self) -> AsyncIterator[bytes]:
        message = self._first
        while message is not None:
            yield message
            message = await self._call.next()

    def close(self) -> None:
        self._call.cancel()


async def flow(call: Answering) -> Flow:
    try:
        return Flow(call, await call.next())
    except BaseException:
        call.cancel()
        raise


class Passing:
    """The ingress: every call goes to the holder."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def unary(self, call: Call, payload: bytes) -> Answer:
        return await self._peers.unary(hop(), call, payload, remaining(call))

    async def stream(self, call: Call, requests: AsyncIterator[bytes]) -> Flow:
        return await flow(self._peers.stream(hop(), call, requests, remaining(call)))


class Holding:
    """The holder: every call goes to its server, unless the test sets an `error`.

    Attributes:
        calls: what arrived.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.calls: list[Call] = []
        self.error: Exception | None = None
        self.loading: Callable[[], Awaitable[None]] | None = None
        self.asked: list[tuple[Hop, bool, float | None]] = []

    def _take(self, call: Call) -> Metadata:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        assert call.hop is not None
        return to_runtime(call.metadata, call.hop.model)

    async def unary(self, call: Call, payload: bytes) -> Answer:
        return await self._exchange.unary(call.method, payload, self._take(call), remaining(call))

    async def stream(self, call: Call, requests: AsyncIterator[bytes]) -> Flow:
        return await flow(self._exchange.stream(call.method, requests, self._take(call), remaining(call)))

    async def ensure_loaded(self, hop: Hop, *, wait: bool, deadline: float | None) -> None:
        self.asked.append((hop, wait, deadline))
        if isinstance(self.error, MeshError):
            raise self.error
        if self.loading is not None:
            await self.loading()


class Server(grpc.GenericRpcHandler):
    """The model server: `say` and `talk` are what the test makes of them.

    Attributes:
        metadata: of the last call.
        running: calls in progress.
    """

    def __init__(self) -> None:
        self.metadata: Metadata = ()
        self.running = 0
        self.deadlines: list[float | None] = []
        self.say: Callable[[bytes, aio.ServicerContext[bytes, bytes]], Awaitable[bytes]] = echo
        self.talk: Callable[[AsyncIterator[bytes], aio.ServicerContext[bytes, bytes]], AsyncIterator[bytes]] = echo_all

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        if handler_call_details.method == f"/{SAY}":
            return grpc.unary_unary_rpc_method_handler(self._say)
        return grpc.stream_stream_rpc_method_handler(self._talk)

    async def _say(self, payload: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        self._begin(context)
        try:
            return await self.say(payload, context)
        finally:
            self.running -= 1

    async def _talk(self, requests: AsyncIterator[bytes], context: aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
        self._begin(context)
        try:
            async for message in self.talk(requests, context):
                yield message
        finally:
            self.running -= 1

    def _begin(self, context: aio.ServicerContext[bytes, bytes]) -> None:
        self.running += 1
        self.metadata = tuple((str(key), value) for key, value in context.invocation_metadata() or ())
        self.deadlines.append(context.time_remaining())


async def echo(payload: bytes, _: aio.ServicerContext[bytes, bytes]) -> bytes:
    return payload


async def echo_all(requests: AsyncIterator[bytes], _: aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
    async for message in requests:
        yield message


class Pods:
    """Two pods, the server behind the second, and a client of the first."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self.around = Around()
        self.server = Server()
        self.load = Load(3)
        self.door: PeerDoor | None = None

    async def start(self, **settings: Any) -> Pods:
        await self.start_holder(**settings)
        return await self.start_ingress()

    async def start_holder(self, port: int = 0, **settings: Any) -> Pods:
        self.settings = Settings.load(bind="127.0.0.1", peer_port=0, service_name="digits-mesh", **settings)
        runtime = aio.server()
        runtime.add_generic_rpc_handlers((self.server,))
        where = runtime.add_insecure_port("127.0.0.1:0")
        await runtime.start()
        self._stack.push_async_callback(runtime.stop, None)
        channel = aio.insecure_channel(f"127.0.0.1:{where}", options=ALONE)
        self._stack.push_async_callback(channel.close)
        self.holding = Holding(Exchange(channel))
        await self.open_door(port)
        return self

    async def start_ingress(self, **settings: Any) -> Pods:
        """Settings that are not given are the holder's."""
        mine = Settings.load(bind="127.0.0.1", **settings) if settings else self.settings
        self.peers = Peers(INGRESS, self.around, mine, lambda: STARTED)
        self._stack.push_async_callback(self.peers.close)
        public = aio.server()
        public.add_generic_rpc_handlers((Proxy(Passing(self.peers)),))
        port = public.add_insecure_port("127.0.0.1:0")
        await public.start()
        self._stack.push_async_callback(public.stop, None)
        self.client = aio.insecure_channel(f"127.0.0.1:{port}", options=ALONE)
        self._stack.push_async_callback(self.client.close)
        self.call: aio.UnaryUnaryMultiCallable[bytes, bytes] = self.client.unary_unary(f"/{SAY}")
        return self

    async def open_door(self, port: int = 0, me: PodId = HOLDER) -> None:
        """The holder's door; on the port that it had, if that is given."""
        self.door = self.make_door(port, me)
        self.port = await self.door.start()
        self.around.put(HOLDER, self.port)

    def make_door(self, port: int = 0, me: PodId = HOLDER) -> PeerDoor:
        settings = self.settings.model_copy(update={"peer_port": port})
        return PeerDoor(settings, self.holding, self.holding, me=me, started=STARTED, load=lambda: self.load)

    async def stop(self) -> None:
        if self.door is not None:
            await self.door.stop(0)
        await self._stack.aclose()

    async def say(self, payload: bytes, *, timeout: float | None = None) -> Answer:
        """As the ingress does."""
        return await self.peers.unary(hop(), Call(SAY), payload, timeout)

    def talk(self, requests: AsyncIterator[bytes], *, timeout: float | None = None) -> PeerStream:
        return self.peers.stream(hop(), Call(TALK), requests, timeout)


async def becomes(condition: Callable[[], Any], what: str = "", *, within: float = PATIENCE) -> None:
    """Waits until it does."""

    async def asked() -> bool:
        return bool(condition())

    await until_async(asked, what, within=within)


async def gives(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def refused(call: Awaitable[Any]) -> aio.AioRpcError:
    """The status that a client gets."""
    try:
        answer = await call
    except aio.AioRpcError as error:
        return error
    raise AssertionError(f"it was answered: {answer!r}")
