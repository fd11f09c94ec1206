"""A small HTTP/1.1 server for what operators ask: probes, metrics, state. It answers GET and HEAD, and reads no bodies.

It needs nothing but asyncio, holds few connections, and nothing that a client sends ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mesh.core.errors import Conflict, Malformed, MeshError

_log = logging.getLogger(__name__)
_LARGEST_HEAD = 16 * 1024
"""Bytes of request line and headers; Prometheus and the kubelet send some hundreds."""
_MOST_CONNECTIONS = 128
_MOST_QUERY_FIELDS = 1000
_BODY_HEADERS = ("content-length", "transfer-encoding")


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        path: decoded, without query; has no slash at its end unless it is `/`.
        query: values of each name in order.
        headers: names in lower case; of several with one name, the last.
    """

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """What it gets."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def text(cls, status: int, text: str) -> Response:
        """One line of text."""
        return cls(status, f"{text}\n".encode())

    @classmethod
    def of_json(cls, status: int, document: Any) -> Response:
        """`document` as JSON; what JSON has no form for becomes text."""
        return cls(status, json.dumps(document, default=str).encode() + b"\n", "application/json")


Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """The request cannot be answered, nor a next one on its connection."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for a head to arrive and a response to be taken, between requests, and for requests in progress when stopping."""

    exchange: float = 10.0
    idle: float = 75.0
    stopping: float = 2.0


class SmallServer:
    """One port that answers with `handler`.

    Args:
        handler: its errors become responses: a `MeshError` with its status and message, any other 500.
        bind: address.
        port: 0 takes a free one.
        setting: name of the environment variable that the port comes from, for messages.
        tls: makes the context of TLS at start.
    """

    def __init__(
        self,
        handler: Handler,
        bind: str,
        port: int,
        setting: str,
        tls: Callable[[], Awaitable[ssl.SSLContext]] | None = None,
        limits: Limits = Limits(),
    ) -> None:
        self._handler, self._bind, self._port, self._setting, self._tls, self._limits = handler, bind, port, setting, tls, limits
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listens, and answers the port.

        Raises:
            Conflict: the port is taken.
            Malformed: the address cannot be bound.
        """
        context = await self._tls() if self._tls else None
        where = f"{self._bind}:{self._port} ({self._setting})"
        try:
            patience = self._limits.exchange if context else None
            self._server = await asyncio.start_server(
                *(self._connected, self._bind, self._port),
                limit=_LARGEST_HEAD,
                ssl=context,
                ssl_handshake_timeout=patience,
                ssl_shutdown_timeout=patience,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Conflict(f"port {where} is taken by another process; end it or set {self._setting} to another port") from None
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
            raise Malformed(f"cannot listen on {where}: {reason}") from None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Stops listening, lets requests in progress end for a moment, and closes all connections. May be called at any time."""
        if self._server is None:
            return
        self._server.close()
        for task in self._connections - self._busy:
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=self._limits.stopping)
        remaining = list(self._connections)
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)
        # From Python 3.12 on this waits for handshakes of TLS too, which have no task to cancel.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), self._limits.stopping)
        self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A task of its own, because asyncio would log the cancellation of one that it made from a coroutine.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._connections) > _MOST_CONNECTIONS:
                await self._send(writer, Response.text(503, "too many connections"), close=True)
            else:
                while await self._exchange(task, reader, writer):
                    pass
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # The client has left or is silent.
        except Exception:
            _log.exception("a connection to %s ended by an error", self._setting)
        finally:
            writer.close()

    async def _exchange(self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its response; whether another may follow on the connection."""
        try:
            request, keep = _parse(await self._head(reader))
        except _Refused as refusal:
            await self._send(writer, Response.text(refusal.status, str(refusal)), close=True)
            return False
        self._busy.add(task)
        try:
            response = await self._answer(request)
            keep = keep and self._server is not None and self._server.is_serving()
            await self._send(writer, response, not keep, request.method == "HEAD")
        finally:
            self._busy.discard(task)
        return keep

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._limits.idle):
                first = await reader.readexactly(1)
            async with asyncio.timeout(self._limits.exchange):
                return first + await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            raise _Refused(431, f"request line and headers have more than {_LARGEST_HEAD} bytes") from None

    async def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response(405, f"method {request.method} is not offered here; use GET\n".encode(), headers=(("allow", "GET, HEAD"),))
        try:
            return await self._handler(request)
        except MeshError as error:
            return Response.of_json(error.http, {"error": str(error)})
        except Exception:
            _log.exception("the answer to GET %s failed", request.path)
            return Response.of_json(500, {"error": f"the answer to GET {request.path} failed; the log says why"})

    async def _send(self, writer: asyncio.StreamWriter, response: Response, close: bool, head_only: bool = False) -> None:
        lines = [
            f"HTTP/1.1 {response.status} {_phrase(response.status)}",
            f"content-type: {response.content_type}",
            f"content-length: {len(response.body)}",
            *(f"{name}: {value}" for name, value in response.headers),
            f"connection: {'close' if close else 'keep-alive'}",
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if not head_only:
            writer.write(response.body)
        async with asyncio.timeout(self._limits.exchange):
            await writer.drain()
            if close:
                writer.close()
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    await writer.wait_closed()


def _parse(head: bytes) -> tuple[Request, bool]:
    """The request, and whether its connection can be used again."""
    line, *rest = head.decode("latin-1").lstrip("\r\n").split("\r\n")
    parts = line.split(" ")
    if len(parts) != 3 or not parts[0].isalpha() or not parts[2].startswith("HTTP/"):
        raise _Refused(400, "the request line is not that of HTTP/1.1")
    method, target, version = parts
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise _Refused(505, f"{version} is not spoken here; use HTTP/1.1")
    headers: dict[str, str] = {}
    for text in rest:
        if not text:
            continue
        name, colon, value = text.partition(":")
        if not colon or not name or name != name.strip():
            raise _Refused(400, "a header is not of the form name: value")
        headers[name.lower()] = value.strip()
    try:
        url = urlsplit(target)
        query = parse_qs(url.query, keep_blank_values=True, max_num_fields=_MOST_QUERY_FIELDS)
    except ValueError:
        raise _Refused(400, "the address is not that of HTTP") from None
    path = unquote(url.path)
    if not path.startswith("/"):
        raise _Refused(400, "the address does not begin with /")
    connection = headers.get("connection", "").lower()
    keep = "keep-alive" in connection if version == "HTTP/1.0" else "close" not in connection
    # A body is not read, so its bytes would be taken for the next request.
    has_body = any(headers.get(name, "0") != "0" for name in _BODY_HEADERS)
    return Request(method, path.rstrip("/") or "/", query, headers), keep and not has_body


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
