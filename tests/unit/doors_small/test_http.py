"""The small server answers what is HTTP, refuses what is not, and goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh.core.errors import Conflict, Malformed, Overloaded
from mesh.doors.http_small import Limits, Request, Response, SmallServer, _parse, _Refused
from tests.unit.doors_small.waiting import until

HOST = "127.0.0.1"


async def answer(request: Request) -> Response:
    """Echoes; some paths misbehave."""
    if request.path == "/bug":
        raise RuntimeError("secret detail")
    if request.path == "/full":
        raise Overloaded("too much at once; try later")
    return Response.of_json(200, {"path": request.path, "query": request.query, "agent": request.headers.get("user-agent")})


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = SmallServer(answer, HOST, 0, "SOME_PORT")
    yield await server.start()
    await server.stop()


class Client:
    """One connection that says exactly what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def at(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection(HOST, port))

    def send(self, raw: str | bytes) -> None:
        self.writer.write(raw if isinstance(raw, bytes) else raw.encode())

    async def receive(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(30):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            content = await self.reader.readexactly(int(headers["content-length"])) if body else b""
            return int(first.split()[1]), headers, content

    async def ended(self) -> bool:
        async with asyncio.timeout(30):
            return await self.reader.read() == b""

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def ask(port: int, raw: str | bytes) -> tuple[int, dict[str, str], bytes]:
    client = await Client.at(port)
    client.send(raw)
    result = await client.receive()
    await client.close()
    return result


# What is HTTP


async def test_a_request_arrives_decoded(port: int) -> None:
    status, headers, body = await ask(port, "GET /a%20b/?x=1&y=&x=2 HTTP/1.1\r\nHost: h\r\nUser-Agent:  me \r\n\r\n")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {"path": "/a b", "query": {"x": ["1", "2"], "y": [""]}, "agent": "me"}


async def test_a_connection_takes_one_request_after_another_even_if_sent_at_once(port: int) -> None:
    client = await Client.at(port)
    client.send("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n\r\nGET /3 HTTP/1.1\r\nConnection: close\r\n\r\n")
    answers = [await client.receive() for _ in range(3)]
    assert [json.loads(body)["path"] for _, _, body in answers] == ["/1", "/2", "/3"]
    assert [headers["connection"] for _, headers, _ in answers] == ["keep-alive", "keep-alive", "close"]
    assert await client.ended()
    await client.close()


@pytest.mark.parametrize(("header", "connection"), [("", "close"), ("Connection: Keep-Alive\r\n", "keep-alive")])
async def test_http_1_0_keeps_a_connection_only_on_request(port: int, header: str, connection: str) -> None:
    _, headers, _ = await ask(port, f"GET / HTTP/1.0\r\n{header}\r\n")
    assert headers["connection"] == connection


async def test_head_is_get_without_its_body(port: int) -> None:
    client = await Client.at(port)
    client.send("HEAD /x HTTP/1.1\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
    status, headers, _ = await client.receive(body=False)
    following = await client.receive()
    assert (status, headers["content-length"]) == (200, str(len(following[2])))
    await client.close()


async def test_an_absolute_address_is_understood(port: int) -> None:
    assert json.loads((await ask(port, "GET http://h:1/x HTTP/1.1\r\n\r\n"))[2])["path"] == "/x"


# What is refused


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"\r\n\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET /?" + b"a=1&" * 1001 + b" HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 17_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_not_http_is_refused_and_the_next_client_is_served(port: int, raw: bytes, status: int) -> None:
    client = await Client.at(port)
    client.send(raw)
    assert (await client.receive())[0] == status
    assert await client.ended()
    await client.close()
    assert (await ask(port, "GET / HTTP/1.1\r\n\r\n"))[0] == 200


async def test_other_methods_are_refused_and_their_body_is_not_taken_for_a_request(port: int) -> None:
    client = await Client.at(port)
    client.send("POST / HTTP/1.1\r\nContent-Length: 27\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
    status, headers, _ = await client.receive()
    assert (status, headers["allow"], headers["connection"]) == (405, "GET, HEAD", "close")
    assert await client.ended()
    await client.close()


async def test_an_error_of_the_mesh_keeps_its_status_and_text(port: int) -> None:
    status, _, body = await ask(port, "GET /full HTTP/1.1\r\n\r\n")
    assert (status, json.loads(body)) == (429, {"error": "too much at once; try later"})


async def test_a_bug_is_logged_and_not_shown(port: int, caplog: pytest.LogCaptureFixture) -> None:
    status, _, body = await ask(port, "GET /bug HTTP/1.1\r\n\r\n")
    assert status == 500
    assert b"secret detail" not in body
    assert "secret detail" in caplog.text
    assert (await ask(port, "GET / HTTP/1.1\r\n\r\n"))[0] == 200


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"GET " + rest + b" HTTP/1.1\r\na: b\r\n\r\n"))
def test_any_head_is_understood_or_refused(head: bytes) -> None:
    with contextlib.suppress(_Refused):
        request, _ = _parse(head)
        assert request.path.startswith("/")
        request.path.encode()


# Clients that are slow, silent or gone


@pytest.mark.parametrize("raw", [b"", b"GET / HTTP/1.1\r\nHost:"])
async def test_a_silent_client_is_let_go(raw: bytes) -> None:
    server = SmallServer(answer, HOST, 0, "SOME_PORT", limits=Limits(exchange=0.05, idle=0.05))
    client = await Client.at(await server.start())
    client.send(raw)
    assert await client.ended()
    await client.close()
    await server.stop()


async def test_a_client_that_does_not_read_is_let_go() -> None:
    async def large(_: Request) -> Response:
        return Response(200, bytes(64 * 1024 * 1024))

    server = SmallServer(large, HOST, 0, "SOME_PORT", limits=Limits(exchange=0.1))
    port = await server.start()
    with socket.create_connection((HOST, port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: server._connections)
        await until(lambda: not server._connections)
    await server.stop()


async def test_a_client_that_resets_harms_nobody(port: int) -> None:
    with socket.create_connection((HOST, port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.sendall(b"GET / HTTP/1.1\r\n")
    assert (await ask(port, "GET / HTTP/1.1\r\n\r\n"))[0] == 200


async def test_too_many_connections_are_refused_until_some_end() -> None:
    server = SmallServer(answer, HOST, 0, "SOME_PORT")
    port = await server.start()
    clients = [await Client.at(port) for _ in range(128)]
    for client in clients:
        client.send("GET / HTTP/1.1\r\n\r\n")
        assert (await client.receive())[0] == 200
    assert (await ask(port, "GET / HTTP/1.1\r\n\r\n"))[0] == 503
    for client in clients:
        await client.close()
    await until(lambda: not server._connections)
    assert (await ask(port, "GET / HTTP/1.1\r\n\r\n"))[0] == 200
    await server.stop()


# Start and stop


async def test_a_taken_port_is_named_with_its_setting(port: int) -> None:
    with pytest.raises(Conflict, match=rf"^port 127\.0\.0\.1:{port} \(SOME_PORT\) is taken by another process; end it or set SOME_PORT"):
        await SmallServer(answer, HOST, port, "SOME_PORT").start()


async def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(Malformed, match=r"^cannot listen on 192\.0\.2\.1:0 \(SOME_PORT\): "):
        await SmallServer(answer, "192.0.2.1", 0, "SOME_PORT").start()


async def test_stopping_lets_a_request_in_progress_end_and_closes_idle_connections(caplog: pytest.LogCaptureFixture) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_: Request) -> Response:
        entered.set()
        await leave.wait()
        return Response.text(200, "done")

    server = SmallServer(slow, HOST, 0, "SOME_PORT", limits=Limits(stopping=30))
    port = await server.start()
    idle, busy = await Client.at(port), await Client.at(port)
    busy.send("GET / HTTP/1.1\r\n\r\n")
    await entered.wait()
    stopping = asyncio.create_task(server.stop())
    assert await idle.ended()
    with pytest.raises(OSError, match=r"\d"):
        await Client.at(port)
    leave.set()
    status, headers, _ = await busy.receive()
    assert (status, headers["connection"]) == (200, "close")
    await stopping
    await server.stop()
    await idle.close()
    await busy.close()
    assert not caplog.records


async def test_stopping_does_not_wait_for_a_request_without_end() -> None:
    async def endless(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    server = SmallServer(endless, HOST, 0, "SOME_PORT", limits=Limits(stopping=0.05))
    client = await Client.at(await server.start())
    client.send("GET / HTTP/1.1\r\n\r\n")
    await until(lambda: server._busy)
    async with asyncio.timeout(30):
        await server.stop()
    assert await client.ended()
    await client.close()
