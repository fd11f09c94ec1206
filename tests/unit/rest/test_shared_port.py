"""Routers of one machine share a port on purpose only; each has a port of its own beside it."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.responses import PlainTextResponse

from mesh.core.errors import Conflict
from mesh.doors.rest.server import RestServer, listen

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def serving(name: str, shared: int) -> AsyncIterator[int]:
    """A server that answers its name, and its own port."""

    async def answer(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await PlainTextResponse(name)(scope, receive, send)

    server = RestServer(answer, host=HOST, port=0, shared=shared)
    port = await server.start()
    try:
        yield port
    finally:
        await server.stop(1)


async def test_each_answers_on_its_own_port_and_all_on_the_shared_one() -> None:
    shared = free_port()
    async with serving("one", shared) as one, serving("other", shared) as other, httpx.AsyncClient() as client:
        assert [(await client.get(f"http://{HOST}:{port}/")).text for port in (one, other)] == ["one", "other"]
        heard: set[str] = set()
        # The kernel chooses by the client's address: each of these comes from another port.
        for _ in range(200):
            async with httpx.AsyncClient() as fresh:
                heard.add((await fresh.get(f"http://{HOST}:{shared}/")).text)
            if len(heard) == 2:
                break
        assert heard == {"one", "other"}


async def test_what_ends_leaves_the_shared_port_to_the_others() -> None:
    shared = free_port()
    async with serving("one", shared):
        async with serving("other", shared):
            pass
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://{HOST}:{shared}/")).text == "one"


async def test_a_shared_port_of_another_program_is_refused_by_its_own_setting_and_nothing_stays_bound() -> None:
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        own = free_port()
        server = RestServer(lambda *_: None, host=HOST, port=own, shared=other.getsockname()[1])  # type: ignore[arg-type]
        with pytest.raises(Conflict, match="is taken; end what listens there or set MESH_SHARED_REST_PORT"):
            await server.start()
        listen(HOST, own).close()


def test_a_port_of_its_own_is_shared_with_nobody() -> None:
    with listen(HOST, 0) as mine, pytest.raises(Conflict, match="set REST_PROXY_LISTEN_PORT"):
        listen(HOST, mine.getsockname()[1], shared=True)
