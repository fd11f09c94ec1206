"""The line to one other pod: what its answers and failures mean. A pod that does not answer is put aside and asked again until it does."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.message import DecodeError
from grpc import aio

from mesh.core.errors import Code, DeadlineExceeded, MeshError, PeerUnavailable, TooLarge
from mesh.core.ids import PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.routing.hops import Load
from mesh.core.routing.probing import probe_after
from mesh.core.units import Millis
from mesh.protocols import peer_pb2 as pb
from mesh.wire.call import Metadata, RuntimeStatus
from mesh.wire.exchange import Exchange
from mesh.wire.headers import from_runtime
from mesh.wire.hops import error_of, load_of, pod_of
from mesh.wire.peer_channel import CONNECT_LIMIT

log = logging.getLogger(__name__)

SERVICE = "mesh.peer.v1.Peer"


class Neighbours(Protocol):
    """What this pod knows of the others, and is told about them."""

    def instance(self, pod: PodId, /) -> InstanceRecord | None:
        """The pod's record; None if it is gone."""
        ...

    def began(self, pod: PodId, /) -> None:
        """A call to the pod begins."""
        ...

    def ended(self, pod: PodId, /) -> None:
        """A call to the pod is over."""
        ...

    def reported(self, pod: PodId, load: Load, now: Millis, /) -> None:
        """The pod said how busy it is, without the call whose answer brought the word; that call is not over yet."""
        ...

    def fails(self, pod: PodId, /) -> None:
        """The pod does not answer: put aside."""
        ...

    def answers(self, pod: PodId, /) -> None:
        """A pod that was put aside answers again."""
        ...


@dataclass(frozen=True, slots=True)
class Greeting:
    """Who answers at an address."""

    pod: PodId
    start_time: Millis
    service: str
    version: str


async def hello(exchange: Exchange, timeout: float) -> Greeting:
    """Asks who is there.

    Raises:
        RuntimeStatus: nobody answers, or with an error.
        PeerUnavailable: the answer is not that of a pod.
    """
    answer = await exchange.unary(f"{SERVICE}/Hello", pb.HelloRequest().SerializeToString(), (), timeout)
    try:
        said = pb.HelloResponse.FromString(answer.payload)
    except DecodeError as error:
        raise PeerUnavailable(f"the answer is not a {pb.HelloResponse.DESCRIPTOR.full_name}: {error}") from None
    if not said.pod:
        raise PeerUnavailable("what answers is no pod: it has no name")
    return Greeting(PodId(said.pod), Millis(said.start_time), said.service, said.version)


class Line:
    """A connection to one pod at one address.

    Args:
        pod: who is to be there.
        endpoint: `host:port`.
        channel: to it; closed with the line.
        neighbours: told about calls and failures.
        now: the clock.
        secure: whether the channel talks TLS.
    """

    def __init__(
        self, pod: PodId, endpoint: str, channel: aio.Channel, neighbours: Neighbours, now: Callable[[], Millis], *, secure: bool = False
    ) -> None:
        self.pod, self.endpoint, self._secure = pod, endpoint, secure
        self.exchange = Exchange(channel, _everything)
        self._channel, self._neighbours, self._now = channel, neighbours, now
        self._calls = 0
        self._counted = _Counted(self)
        self._established = False
        self._probing: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._retired: Callable[[], None] | None = None
        self._closing: asyncio.Task[None] | None = None

    def counted(self) -> AbstractContextManager[None]:
        """A context of one call."""
        return self._counted

    def began(self) -> None:
        """A call begins."""
        self._calls += 1
        self._neighbours.began(self.pod)

    def ended(self) -> None:
        """A call is over; the last one on a line that is retired closes it."""
        self._calls -= 1
        self._neighbours.ended(self.pod)
        if self._retired is not None and self._calls == 0:
            self._close()

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Raises what an answer of the other side means to this pod, instead of what gRPC says. Errors as of `Peers.unary`."""
        try:
            yield
        except RuntimeStatus as status:
            if pod_of(status.trailers) is None:
                raise self._unanswered(status) from None
            self.heard(status.trailers)
            error = error_of(status)
            if error is not None:
                raise error from None
            raise RuntimeStatus(status.code, status.details, from_runtime(status.headers), from_runtime(status.trailers)) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise PeerUnavailable(f"the connection to pod {self.pod} was closed") from None

    def heard(self, trailers: Metadata) -> None:
        """Takes in what the end of an answer says about who gave it.

        Raises:
            PeerUnavailable: it was not the pod.
        """
        pod = pod_of(trailers)
        if pod != self.pod:
            raise self._lost("a server that is no pod answers" if pod is None else f"pod {pod} answers")
        load = load_of(trailers)
        if load is not None:
            self._neighbours.reported(self.pod, load, self._now())
        self._answers()

    def hurry(self) -> None:
        """Asks a pod that was put aside at once."""
        if self._probing is not None:
            self._hurry.set()

    def retire(self, closed: Callable[[], None]) -> None:
        """Ends the line with the last call on it, and calls `closed` then."""
        self._retired = closed
        if self._probing is not None:
            # Another line of this pod starts without a past.
            self._probing.cancel()
            self._probing = None
            self._neighbours.answers(self.pod)
        if self._calls == 0:
            self._close()

    async def cut(self) -> None:
        """Ends the line, and the calls on it."""
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None
        await self._close()

    def _close(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._channel.close())
            if self._retired is not None:
                closed = self._retired
                self._closing.add_done_callback(lambda _: closed())
        return self._closing

    # Failing and answering

    def _unanswered(self, status: RuntimeStatus) -> MeshError:
        """What a status means that no pod gave."""
        match status.code:
            case Code.DEADLINE_EXCEEDED:
                return DeadlineExceeded(f"pod {self.pod} did not answer before the caller's deadline")
            case Code.RESOURCE_EXHAUSTED:
                return TooLarge(f"the call cannot be passed to pod {self.pod}, or its answer back: {status.details}; send shorter headers")
            case _:
                return self._lost(str(status))

    def _lost(self, why: str) -> PeerUnavailable:
        """Puts the pod aside and asks it until it answers."""
        broke, self._established = self._established, False
        if self._probing is None and self._retired is None and self._closing is None:
            log.warning("pod %s at %s is put aside: %s%s", self.pod, self.endpoint, why, "" if broke else _advice(why, self._secure))
            self._neighbours.fails(self.pod)
            self._probing = asyncio.get_running_loop().create_task(self._probe(broke))
        return PeerUnavailable(f"pod {self.pod} at {self.endpoint} does not answer: {why}")

    def _answers(self) -> None:
        self._established = True
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None
            self._neighbours.answers(self.pod)
            log.info("pod %s at %s answers again", self.pod, self.endpoint)

    async def _probe(self, broke: bool) -> None:
        failed = 0
        while True:
            wait = probe_after(failed, broke=broke, draw=random.random())
            try:
                async with asyncio.timeout(wait / 1000):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            record = self._neighbours.instance(self.pod)
            if record is None or record.endpoint != self.endpoint:
                self._probing = None
                return
            try:
                greeting = await hello(self.exchange, CONNECT_LIMIT / 1000)
                if greeting.pod == self.pod:
                    self._answers()
                    return
            except Exception as error:
                # Whatever it is: a pod that nobody asks any more would stay aside.
                log.debug("pod %s at %s still does not answer: %s", self.pod, self.endpoint, error)
            failed += 1


class _Counted(AbstractContextManager[None]):
    """One for all calls of a line, since it remembers nothing of them."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def __enter__(self) -> None:
        self._line.began()

    def __exit__(self, *_: object) -> None:
        self._line.ended()


def _everything(metadata: Metadata) -> Metadata:
    return metadata


def _advice(why: str, secure: bool) -> str:
    """What to do about a connection that did not come about, where its words say little: who refuses a handshake just hangs up."""
    said = why.lower()
    if not any(word in said for word in ("handshake", "verification", "ssl", "closed", "reset")):
        return ""
    if not secure:
        return "; this pod talks plaintext: if that one talks TLS, give both a key (MM_TLS_PRIVATE_KEY_PATH) and the same MM_ENABLE_SSL"
    return (
        "; if it talks TLS, too (MM_ENABLE_SSL): pods trust their own certificate chain, the cluster's authority and "
        "MM_INTERNAL_TRUST_CERTS, and their certificates have a DNS name in common; check the files of both pods"
    )
