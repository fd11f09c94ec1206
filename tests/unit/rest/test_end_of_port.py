"""The end of the REST port: who had connected is answered, and is told to go elsewhere."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx
import pytest

from mesh.doors.tls import TlsFiles
from tests.support.certificates import Authority
from tests.support.waiting import until_async
from tests.unit.rest.door import Mesh
from tests.unit.rest.test_server import BODY, PATH, client_context, refuses, server_of

REQUEST = b"POST %s HTTP/1.1\r\nHost: mesh\r\nContent-Length: %d\r\n\r\n%s" % (PATH.encode(), len(BODY), BODY)


def connected(port: int) -> socket.socket:
    """What the kernel does by itself: no turn of the loop accepts it."""
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def heard(caller: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    with caller:
        return b"".join(iter(lambda: caller.recv(65536), b""))


async def test_who_waits_to_be_accepted_when_the_port_closes_is_answered() -> None:
    server = server_of(Mesh())
    callers = [connected(await server.start())]
    callers += [connected(callers[0].getpeername()[1]) for _ in range(4)]
    for caller in callers:
        caller.sendall(REQUEST)
    await server.stop(60)
    for caller in callers:
        answer = heard(caller)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.lower().count(b"connection: close") == 1


async def test_so_are_those_who_have_yet_to_shake_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.doors.rest.server.FIRST_WORD", 60.0)
    authority = Authority(tmp_path, "ours")
    server = server_of(Mesh(), tls=TlsFiles(*authority.issue("server")))
    caller = connected(await server.start())
    stopping = asyncio.create_task(server.stop(60))

    def call() -> bytes:
        with client_context(authority).wrap_socket(caller, server_hostname="localhost") as secured:
            secured.sendall(REQUEST)
            return heard(secured)

    assert (await asyncio.to_thread(call)).startswith(b"HTTP/1.1 200 ")
    await stopping


async def test_a_connection_that_has_not_begun_its_first_request_may_do_so_while_the_port_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.doors.rest.server.FIRST_WORD", 60.0)
    server = server_of(Mesh())
    port = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stopping = asyncio.create_task(server.stop(60))
    await until_async(lambda: refuses(port), "the port is closed")
    writer.write(REQUEST)
    assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await stopping


async def test_after_a_farewell_each_answer_is_the_last_of_its_connection() -> None:
    server = server_of(Mesh())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{await server.start()}") as client:
        assert "connection" not in (await client.post(PATH, content=BODY)).headers
        server.farewell()
        for _ in range(2):
            assert (await client.post(PATH, content=BODY)).headers["connection"] == "close"
    await server.stop(0)
