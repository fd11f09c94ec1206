"""Calls of other pods: as bytes, with deadline and cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from grpc import aio

from mesh.core.errors import DeadlineExceeded, PeerUnavailable
from mesh.core.ids import PodId
from mesh.core.routing.hops import Hop
from mesh.core.units import Millis
from mesh.pod.peer_lines import SERVICE, Greeting, Line, Neighbours, hello
from mesh.protocols import peer_pb2 as pb
from mesh.settings import Settings
from mesh.wire.call import Answer, Call, Metadata, RuntimeStatus
from mesh.wire.exchange import Exchange, StreamCall
from mesh.wire.headers import from_runtime
from mesh.wire.hops import to_peer
from mesh.wire.peer_channel import dial
from mesh.wire.peer_tls import PeerTls

Connect = Callable[[str, PeerTls | None, int], aio.Channel]


class Peers:
    """All calls that this pod makes of others; one connection to each, made when it is first needed.

    Args:
        me: this pod.
        neighbours: asked for addresses, told about calls and failures.
        settings: limits and TLS.
        now: the clock.
        connect: makes a channel to `host:port`, given TLS and the largest metadata in bytes.

    Raises:
        Malformed: a file of TLS is unusable.
    """

    def __init__(self, me: PodId, neighbours: Neighbours, settings: Settings, now: Callable[[], Millis], connect: Connect = dial) -> None:
        self._me, self._neighbours, self._now, self._connect = me, neighbours, now, connect
        self._tls, self._max_headers = PeerTls.of(settings), settings.max_headers
        self._lines: dict[PodId, Line] = {}
        self._retired: set[Line] = set()

    async def unary(self, hop: Hop, call: Call, payload: bytes, timeout: float | None) -> Answer:
        """One message each way, with the pod that the hop names.

        Args:
            hop: why, and to whom.
            call: method and metadata.
            payload: passed untouched.
            timeout: in seconds.

        Raises:
            RuntimeStatus: the runtime behind the pod answered another status than OK.
            PeerUnavailable: the pod did not answer; it is put aside.
            DeadlineExceeded: it did not answer in time.
            MeshError: the pod's own error, of the class and with the message that it had there.
        """
        line, metadata = self._line(hop.dest), to_peer(call.metadata, hop)
        timeout = _left(hop.dest, timeout)
        with line.counted(), line.understood():
            answer = await line.exchange.unary(call.method, payload, metadata, timeout)
            line.heard(answer.trailers)
        return Answer(answer.payload, from_runtime(answer.headers), from_runtime(answer.trailers))

    def stream(self, hop: Hop, call: Call, requests: AsyncIterator[bytes], timeout: float | None) -> PeerStream:
        """Any number of messages each way. Arguments and errors as of `unary`; errors of the pod come from `PeerStream.next`."""
        line, metadata = self._line(hop.dest), to_peer(call.metadata, hop)
        return PeerStream(line, line.exchange.stream(call.method, requests, metadata, _left(hop.dest, timeout)))

    def ask(self, hop: Hop, call: Call, payload: bytes, timeout: float | None) -> PeerStream:
        """One message there, any number back; otherwise as `stream`."""
        line, metadata = self._line(hop.dest), to_peer(call.metadata, hop)
        return PeerStream(line, line.exchange.ask(call.method, payload, metadata, _left(hop.dest, timeout)))

    def judge(self, hop: Hop, status: RuntimeStatus) -> None:
        """Takes a status for what the pod of a hop answered just now to somebody else who asked. Raises one of the errors of `unary`."""
        line = self._line(hop.dest)
        with line.counted(), line.understood():
            raise status

    async def ensure_loaded(self, hop: Hop, *, wait: bool, timeout: float | None) -> None:
        """Has the hop's model loaded there; with `wait`, returns when it is. Errors as of `unary`, but never `RuntimeStatus`."""
        request = pb.EnsureLoadedRequest(wait=wait).SerializeToString()
        try:
            await self.unary(hop, Call(f"{SERVICE}/EnsureLoaded"), request, timeout)
        except RuntimeStatus as status:
            raise PeerUnavailable(f"pod {hop.dest} does not load for other pods: {status}; is its version another?") from None

    async def greet(self, endpoint: str, timeout: float) -> Greeting:
        """Asks who is at `endpoint` (host:port), on a connection of its own; `timeout` in seconds.

        Raises:
            PeerUnavailable: nobody, or no pod.
        """
        channel = self._connect(endpoint, self._tls, self._max_headers)
        try:
            return await hello(Exchange(channel), timeout)
        except RuntimeStatus as status:
            raise PeerUnavailable(f"no pod answers at {endpoint}: {status}") from None
        finally:
            await channel.close()

    def changed(self, pod: PodId) -> None:
        """To be told when a pod's record was written or is gone: a connection that leads elsewhere is closed, a pod put aside is asked."""
        line = self._lines.get(pod)
        if line is not None and self._current(line):
            line.hurry()

    async def close(self) -> None:
        """Ends all connections, and the calls on them."""
        lines, self._lines = list(self._lines.values()), {}
        await asyncio.gather(*(line.cut() for line in lines), *(line.cut() for line in self._retired))

    def _line(self, pod: PodId) -> Line:
        line = self._lines.get(pod)
        if line is not None and self._current(line):
            return line
        record = self._neighbours.instance(pod)
        if record is None:
            raise PeerUnavailable(f"pod {pod} is gone: it has no record in the registry any more")
        if not record.endpoint:
            raise PeerUnavailable(f"pod {pod} cannot be called: its record in the registry has no meshEndpoint")
        channel = self._connect(record.endpoint, self._tls, self._max_headers)
        line = self._lines[pod] = Line(pod, record.endpoint, channel, self._neighbours, self._now, secure=self._tls is not None)
        return line

    def _current(self, line: Line) -> bool:
        """Whether a line leads to where its pod is; if not, it ends with the last call on it, for a pod that leaves serves to the end."""
        record = self._neighbours.instance(line.pod)
        if record is not None and record.endpoint == line.endpoint:
            return True
        self._lines.pop(line.pod, None)
        self._retired.add(line)
        line.retire(lambda: self._retired.discard(line))
        return False


class PeerStream:
    """One stream with another pod; whoever opened it cancels it at its end."""

    def __init__(self, line: Line, call: StreamCall) -> None:
        self._line, self._call = line, call
        self._counted = line.counted()
        self._counted.__enter__()
        self._over = False
        self.headers: Metadata = ()
        self.trailers: Metadata = ()

    async def next(self) -> bytes | None:
        """The next response message; None after the last. Errors as of `Peers.unary`; after a message was told, too."""
        with self._line.understood():
            message = await self._call.next()
            if message is None:
                self._line.heard(self._call.trailers)
                self.trailers = from_runtime(self._call.trailers)
        self.headers = self.headers or from_runtime(self._call.headers)
        return message

    def cancel(self) -> None:
        """Ends the stream from this side. Doing it again changes nothing."""
        self._call.cancel()
        if not self._over:
            self._over = True
            self._counted.__exit__(None, None, None)


def _left(pod: PodId, timeout: float | None) -> float | None:
    if timeout is not None and timeout <= 0:
        raise DeadlineExceeded(f"the deadline passed before the call went to pod {pod}")
    return timeout
