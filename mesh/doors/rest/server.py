"""The REST door's listener: uvicorn inside the event loop that runs already, without its signal handlers, logs and processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mesh.core.errors import Conflict, Leaving, Malformed
from mesh.doors.deaf import deafen
from mesh.doors.rest import errors
from mesh.doors.rest.announced import AnnouncedProtocol
from mesh.doors.tls import TlsFiles, context

KEEP_ALIVE = 75
"""Seconds that an idle connection stays open; longer than the 60 s of common proxies, so that they close first."""

BACKLOG = 2048
"""Connections that may wait to be accepted; uvicorn's default."""

FIRST_WORD = 1.0
"""Seconds in which the first request of a connection has to begin where the port closes: who connected just before it is answered."""
LOOK = 0.01
"""Seconds between looks at whether it has."""


class RestServer:
    """One listener. `start` and `stop` are called once each, in the loop that serves."""

    def __init__(
        self, app: ASGIApp, *, host: str, port: int, shared: int | None = None, tls: TlsFiles | None = None, behind: Path | None = None
    ) -> None:
        """Nothing is bound yet; port 0 means any free one, `shared` a further port on which other routers may listen too.

        `behind` is a Unix socket on which to listen in place of `port`, which the express lane has.
        """
        self._app = app
        self._host = host
        self._port = port
        self._shared = shared
        self._tls = tls
        self._behind = behind
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._leaving = self._stopping = False

    async def start(self) -> int:
        """Binds and serves; returns the port of its own, 0 if it has none.

        Raises:
            Conflict: the port is taken.
            Malformed: the address or port cannot be bound, or a TLS file is wrong.
        """
        secured = context(self._tls) if self._tls else None
        listener = listen(self._host, self._port) if self._behind is None else listen_behind(self._behind)
        listeners = [listener] if self._behind is None else []
        if self._shared is not None:
            try:
                listeners.append(listen(self._host, self._shared, "MESH_SHARED_REST_PORT", shared=True))
            except BaseException:
                listener.close()
                raise
        behind = listener if self._behind is not None else None
        config = uvicorn.Config(
            self._call,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE,
            ssl_context_factory=(lambda *_: secured) if secured else None,
        )
        self._server = _Server(config, behind)
        self._serving = asyncio.create_task(self._server.serve(sockets=listeners))
        started = asyncio.create_task(self._server.up.wait())
        await asyncio.wait((self._serving, started), return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            for each in (listener, *listeners):
                each.close()
            self._serving.result()
        port: int = listener.getsockname()[1] if self._behind is None else 0
        return port

    def farewell(self) -> None:
        """From now on each answer is the last one of its connection, so that clients connect anew, to another router."""
        self._leaving = self._behind is None

    async def stop(self, grace_s: float) -> None:
        """Stops accepting at once, lets calls in progress end for `grace_s` seconds, then ends them with 503."""
        if self._server is None or self._serving is None:
            return
        self.farewell()
        self._stopping = True
        # uvicorn takes whole seconds only and would cancel at once for 0.
        self._server.config.timeout_graceful_shutdown = max(1, math.ceil(grace_s))
        self._server.should_exit = True
        try:
            async with asyncio.timeout(grace_s):
                await asyncio.shield(self._serving)
        except TimeoutError:
            await self._end()
        self._server = self._serving = None

    async def _end(self) -> None:
        assert self._server is not None
        assert self._serving is not None
        calls = list(self._server.server_state.tasks)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for connection in list(self._server.server_state.connections):
            connection.transport.close()
        self._server.force_exit = True
        await self._serving

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def sending(message: Message) -> None:
            nonlocal started
            started = True
            if self._leaving and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            if not self._stopping or started:
                raise
            answer = errors.of_mesh_error(Leaving("this router is shutting down; call again, another one will answer"))
            await answer(scope, receive, send)


class _Server(uvicorn.Server):
    """`behind` is the express lane's way in, in plaintext whatever the other listeners speak."""

    def __init__(self, config: uvicorn.Config, behind: socket.socket | None) -> None:
        super().__init__(config)
        self._behind = behind
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self._behind is not None:

            def protocol() -> asyncio.Protocol:
                return AnnouncedProtocol(self.config, self.server_state, self.lifespan.state)

            self.servers.append(await asyncio.get_running_loop().create_server(protocol, sock=self._behind, backlog=BACKLOG))
        self.up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends it, after those who had connected before."""
        loop, secured = asyncio.get_running_loop(), self.config.ssl
        came = await self._close(sockets or [])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WORD):
                begin = (loop.connect_accepted_socket(self._protocol, each, ssl=secured) for each in came)
                await asyncio.gather(*begin, return_exceptions=True)
                while any(map(_silent, self.server_state.connections)):  # noqa: ASYNC110 - uvicorn tells nobody of a first request
                    await asyncio.sleep(LOOK)
        await super().shutdown(sockets)

    async def _close(self, listeners: list[socket.socket]) -> list[socket.socket]:
        """Closes the ports; those who waited to be accepted, as the kernel would reset their connections."""
        kept = [listener.dup() for listener in listeners]
        for listener in kept:
            deafen(listener)
        for server in self.servers:
            server.close()
        for listener in listeners:
            listener.close()
        # An event loop may close its own handle of a port only in its next round.
        await asyncio.sleep(0)
        return [connection for each in kept for connection in _taken(each)]

    def _protocol(self) -> HttpToolsProtocol:
        return HttpToolsProtocol(self.config, self.server_state, self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, not to one of its doors."""
        yield


def _silent(connection: asyncio.Protocol) -> bool:
    """Whether no request came yet."""
    return isinstance(connection, HttpToolsProtocol) and connection.cycle is None


def _taken(listener: socket.socket) -> list[socket.socket]:
    """Closes it; those who waited to be accepted."""
    came = []
    with listener, contextlib.suppress(OSError):
        listener.setblocking(False)
        while True:
            came.append(listener.accept()[0])
            came[-1].setblocking(False)
    return came


def listen(host: str, port: int, variable: str = "REST_PROXY_LISTEN_PORT", *, shared: bool = False) -> socket.socket:
    """A listening TCP socket, which shares its port with nobody, or with those that share it too.

    Raises:
        Conflict: the port is taken.
        Malformed: the address is not one of this machine, or the port needs privileges.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise Malformed(f"REST: {host!r} is no address of this machine (MESH_BIND_ADDRESS): {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        # Connections of a router that has just ended linger; this does not let two listeners share a port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"REST: port {port} on {host} is taken; end what listens there or set {variable}") from None
        raise Malformed(f"REST: port {port} on {host} cannot be bound ({variable}): {error.strerror}") from None
    return listener


def listen_behind(path: Path) -> socket.socket:
    """A listening Unix socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener
