"""The network between pods: messages take time, links break for a while or for good, processes vanish."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any, Protocol

from mesh.core.errors import Code
from mesh.simulation.loop import NEUTRAL, Process, later
from mesh.wire.call import Metadata, RuntimeStatus

SILENCE = 10.0
"""Seconds after which an interrupted connection counts as broken (`mesh.wire.peer_channel`, SILENCE and SILENCE_LIMIT)."""
CONNECT = 6.0
"""Seconds after which a connection that does not come about has failed (`mesh.wire.peer_channel`, CONNECT_LIMIT)."""

Message = Callable[[], object]


class Server(Protocol):
    """Who answers at an address."""

    @property
    def process(self) -> Process:
        """In which it runs."""
        ...

    def serve(self, method: str, payload: Any, metadata: Metadata, deadline: float | None) -> Awaitable[tuple[Any, Metadata]]:
        """Answers a call with a message and trailers; `deadline` on the loop's clock.

        Raises:
            RuntimeStatus: the call ends with that status.
        """
        ...


class _Call:
    """One call under way between two processes."""

    __slots__ = ("answer", "client", "ended", "server", "task", "where")

    def __init__(self, client: Process, where: str) -> None:
        self.client, self.where = client, where
        self.server: Process | None = None
        self.task: asyncio.Task[Any] | None = None
        self.answer: asyncio.Future[tuple[Any, Metadata]] = asyncio.get_running_loop().create_future()
        self.ended = False

    def fail(self, code: Code, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(RuntimeStatus(code, why))

    def stop(self) -> None:
        """The server learns that nobody waits any more."""
        if self.task is not None and not self.task.done() and self.server is not None and self.server.alive:
            self.task.cancel()


class Network:
    """All links of a world.

    Args:
        random: draws the delays.
        delay: seconds that a message takes: least and most.

    Attributes:
        delay: may be changed while the world lives.
        breaks: told of each call that the network broke: its metadata and why. Such a call may have been carried out.
    """

    def __init__(self, random: Random, delay: tuple[float, float]) -> None:
        self._random, self.delay = random, delay
        self.breaks: Callable[[Metadata, str], object] = lambda _metadata, _why: None
        self._servers: dict[str, Server] = {}
        self._gone: set[str] = set()
        self._open: dict[_Call, None] = {}
        self._blocked: dict[frozenset[str], list[Message]] = {}
        self._down: set[frozenset[str]] = set()
        self._slow: dict[str, float] = {}

    # What there is

    def listen(self, where: str, server: Server) -> None:
        """Somebody answers at an address from now on."""
        self._servers[where] = server

    def welcome(self, process: Process) -> None:
        """A process begins, perhaps under the name of one that is gone."""
        self._gone.discard(process.name)

    def hang_up(self, where: str) -> None:
        """Nobody answers there any more."""
        self._servers.pop(where, None)

    def lose(self, process: Process, *, silently: bool = False) -> None:
        """A process was killed; with its machine (`silently`), or so that connections are reset."""
        self._servers = {where: server for where, server in self._servers.items() if server.process is not process}
        if silently:
            self._gone.add(process.name)
        for call in list(self._open):
            if call.client is process:
                later(self._draw(), call.stop)
            elif self._name(call) == process.name and not call.answer.done():
                later(SILENCE if silently else self._draw(), call.fail, Code.UNAVAILABLE, f"{process.name} was killed")

    # Faults

    def cut(self, one: str, other: str) -> None:
        """Nothing gets through between two processes until `mend`; what is sent is delivered then, unless that takes too long."""
        pair = frozenset((one, other))
        if pair not in self._blocked:
            held = self._blocked[pair] = []
            later(SILENCE, self._broken, pair, held)

    def mend(self, one: str, other: str) -> None:
        """Ends `cut`."""
        pair = frozenset((one, other))
        self._down.discard(pair)
        for message in self._blocked.pop(pair, ()):
            later(self._draw(), message)

    def slow(self, process: str, seconds: float) -> None:
        """All messages from and to a process take so much longer; 0 ends that."""
        self._slow[process] = seconds

    def _broken(self, pair: frozenset[str], held: list[Message]) -> None:
        if self._blocked.get(pair) is not held:
            return
        held.clear()
        self._down.add(pair)
        for call in list(self._open):
            if {call.client.name, self._name(call)} == pair:
                call.fail(Code.UNAVAILABLE, "the connection is silent")

    # Calls

    async def call(
        self, client: Process, where: str, method: str, payload: Any, metadata: Metadata, timeout: float | None
    ) -> tuple[Any, Metadata]:
        """Has a call made at an address. Errors as of `mesh.simulation.channels.Unary`."""
        loop = asyncio.get_running_loop()
        call = _Call(client, where)
        self._open[call] = None
        deadline = None if timeout is None else loop.time() + timeout
        limit = later(timeout, call.fail, Code.DEADLINE_EXCEEDED, "Deadline Exceeded") if timeout is not None else None
        self._reach(call, lambda: self._arrived(call, method, payload, metadata, deadline))
        try:
            return await call.answer
        except RuntimeStatus as status:
            if status.code is Code.UNAVAILABLE and not status.trailers:
                self.breaks(metadata, status.details)
            raise
        finally:
            call.ended = True
            del self._open[call]
            if limit is not None:
                limit.cancel()
            if call.task is not None and not call.task.done():
                # Cancelled, or out of time: the server learns of it.
                self._send(client.name, self._name(call), call.stop)

    def _reach(self, call: _Call, arrive: Message) -> None:
        """Sends a call's request, on a connection that may have to come about first."""
        dest = self._name(call)
        if dest in self._gone or frozenset((call.client.name, dest)) in self._down:
            later(CONNECT, call.fail, Code.UNAVAILABLE, "no connection comes about")
        else:
            self._send(call.client.name, dest, arrive)

    def _arrived(self, call: _Call, method: str, payload: Any, metadata: Metadata, deadline: float | None) -> None:
        server = self._servers.get(call.where)
        if call.ended or call.answer.done() or self._name(call) in self._gone:
            return
        if server is None or not server.process.alive:
            later(self._draw(), call.fail, Code.UNAVAILABLE, "connection refused")
            return
        call.server = server.process
        task = call.task = call.server.begin(_served(server, method, payload, metadata, deadline))
        task.add_done_callback(lambda done: self._answered(call, done), context=NEUTRAL)

    def _answered(self, call: _Call, done: asyncio.Task[tuple[Any, Metadata]]) -> None:
        assert call.server is not None

        def deliver() -> None:
            if call.answer.done():
                return
            if done.cancelled():
                call.fail(Code.CANCELLED, "the server ended the call")
            elif (error := done.exception()) is None:
                call.answer.set_result(done.result())
            else:
                call.answer.set_exception(error)

        if not done.cancelled():
            done.exception()
        self._send(call.server.name, call.client.name, deliver)

    def _send(self, source: str, dest: str, message: Message) -> None:
        held = self._blocked.get(frozenset((source, dest)))
        if held is not None:
            held.append(message)
            return
        later(self._draw() + self._slow.get(source, 0.0) + self._slow.get(dest, 0.0), message)

    def _draw(self) -> float:
        return self._random.uniform(*self.delay)

    def _name(self, call: _Call) -> str:
        """Whose address a call goes to; addresses are made of names."""
        return call.server.name if call.server is not None else call.where.partition(":")[0]


async def _served(server: Server, method: str, payload: Any, metadata: Metadata, deadline: float | None) -> tuple[Any, Metadata]:
    try:
        async with asyncio.timeout_at(deadline):
            return await server.serve(method, payload, metadata, deadline)
    except TimeoutError:
        raise RuntimeStatus(Code.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
