"""The listener: real sockets, TLS, clients that leave, and its end."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from mesh.core.errors import Conflict, Malformed
from mesh.doors.rest.app import create_app
from mesh.doors.rest.server import RestServer
from mesh.doors.tls import TlsFiles
from mesh.wire.call import Answer, Call
from tests.support.certificates import Authority
from tests.support.waiting import until_async
from tests.unit.rest.door import LIMIT, Mesh, tensor

BODY = json.dumps(tensor("INT8", [1], [1])).encode()
PATH = "/v2/models/iris/infer"


class Slow(Mesh):
    """Answers when `go` is set; tells when a call began and when one was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def unary(self, call: Call, payload: bytes) -> Answer:
        self.began.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await super().unary(call, payload)


def server_of(mesh: Mesh, *, port: int = 0, tls: TlsFiles | None = None) -> RestServer:
    return RestServer(create_app(mesh, mesh, version="1", max_message=LIMIT), host="127.0.0.1", port=port, tls=tls)


@asynccontextmanager
async def serving(mesh: Mesh, tls: TlsFiles | None = None) -> AsyncIterator[int]:
    server = server_of(mesh, tls=tls)
    port = await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def post(port: int) -> asyncio.StreamWriter:
    """Sends one inference and does not wait for its answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST %s HTTP/1.1\r\nHost: mesh\r\nContent-Length: %d\r\n\r\n%s" % (PATH.encode(), len(BODY), BODY))
    await writer.drain()
    return writer


async def refuses(port: int) -> bool:
    """Whether nothing listens any more."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return True
    writer.close()
    return False


async def within(event: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        await event.wait()


async def test_an_inference_goes_over_a_real_socket_with_the_name_as_it_was_sent() -> None:
    mesh = Mesh()
    async with serving(mesh) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answers = [await client.post("/v2/models/a%2Fb%20c/infer", content=BODY) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert mesh.request.model_name == "a/b c"


async def test_a_body_over_the_limit_leaves_the_connection_usable() -> None:
    async with serving(Mesh()) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.post(PATH, content=bytes(5 * LIMIT))).status_code == 413
        assert (await client.post(PATH, content=BODY)).status_code == 200


async def test_a_client_that_leaves_cancels_its_call() -> None:
    mesh = Slow()
    async with serving(mesh) as port:
        writer = await post(port)
        await within(mesh.began)
        writer.close()
        await within(mesh.cancelled)


async def test_a_client_that_leaves_while_sending_makes_no_call_and_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    mesh = Mesh()
    server = server_of(mesh)
    port = await server.start()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST %s HTTP/1.1\r\nHost: mesh\r\nContent-Length: 100\r\n\r\n{" % PATH.encode())
    await writer.drain()
    writer.close()
    await server.stop(20)
    assert mesh.calls == []
    assert caplog.records == []


async def test_nothing_is_logged_for_ordinary_calls(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving(Mesh()) as port, httpx.AsyncClient() as client:
            await client.get(f"http://127.0.0.1:{port}/v2/health/live")
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []


async def test_signals_stay_with_the_process() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    async with serving(Mesh()):
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


async def test_a_taken_port_is_refused_with_its_number_and_variable() -> None:
    async with serving(Mesh()) as port:
        with pytest.raises(Conflict, match=rf"port {port} on 127.0.0.1 is taken; .* REST_PROXY_LISTEN_PORT"):
            await server_of(Mesh(), port=port).start()


async def test_an_address_of_another_machine_is_refused() -> None:
    mesh = Mesh()
    server = RestServer(create_app(mesh, mesh, version="1", max_message=LIMIT), host="192.0.2.1", port=0)
    with pytest.raises(Malformed, match=r"port 0 on 192.0.2.1 cannot be bound \(REST_PROXY_LISTEN_PORT\)"):
        await server.start()


async def test_a_port_is_free_again_after_the_end() -> None:
    server = server_of(Mesh())
    port = await server.start()
    await server.stop(0)
    again = server_of(Mesh(), port=port)
    assert await again.start() == port
    await again.stop(0)


async def test_stopping_lets_a_call_in_progress_end() -> None:
    mesh = Slow()
    server = server_of(mesh)
    port = await server.start()
    async with httpx.AsyncClient() as client:
        call = asyncio.create_task(client.post(f"http://127.0.0.1:{port}{PATH}", content=BODY))
        await within(mesh.began)
        ending = asyncio.create_task(server.stop(20))
        # The listener closes before the calls in progress end.
        await until_async(lambda: refuses(port), "the listener is closed")
        mesh.go.set()
        assert (await call).status_code == 200
        await ending


async def test_a_call_that_outlives_the_grace_ends_with_503() -> None:
    mesh = Slow()
    server = server_of(mesh)
    port = await server.start()
    async with httpx.AsyncClient() as client:
        call = asyncio.create_task(client.post(f"http://127.0.0.1:{port}{PATH}", content=BODY))
        await within(mesh.began)
        await server.stop(0)
        answer = await call
    assert answer.status_code == 503
    assert answer.json()["code"] == 14
    assert "shutting down" in answer.json()["error"]
    assert mesh.cancelled.is_set()


async def test_stopping_what_never_started_does_nothing() -> None:
    await server_of(Mesh()).stop(0)


def client_context(authority: Authority, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if pair is not None:
        context.load_cert_chain(pair[1], pair[0])
    return context


async def alive(port: int, context: ssl.SSLContext) -> bool:
    """Whether a call over TLS is answered; False if the server refuses the client."""
    try:
        async with httpx.AsyncClient(verify=context) as client:
            return (await client.get(f"https://localhost:{port}/v2/health/live")).status_code == 200
    except httpx.TransportError:
        return False


async def test_an_encrypted_key_serves_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    key, cert = authority.issue("server", passphrase="secret")
    async with serving(Mesh(), TlsFiles(key, cert, "secret")) as port:
        assert await alive(port, client_context(authority))
        assert not await alive(port, ssl.create_default_context())
    with pytest.raises(Malformed, match="MM_TLS_PRIVATE_KEY_PASSPHRASE"):
        await server_of(Mesh(), tls=TlsFiles(key, cert)).start()


@pytest.mark.parametrize(
    ("mode", "expected"), [("NONE", (True, True, True)), ("OPTIONAL", (True, True, False)), ("REQUIRE", (False, True, False))]
)
async def test_client_certificates_are_ignored_checked_or_required(tmp_path: Path, mode: str, expected: tuple[bool, ...]) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    key, cert = ours.issue("server")
    files = TlsFiles(key, cert, None, mode, (ours.certificate,))  # type: ignore[arg-type]  # one of the three
    async with serving(Mesh(), files) as port:
        found = [await alive(port, client_context(ours, pair)) for pair in (None, ours.issue("client"), theirs.issue("stranger"))]
    assert tuple(found) == expected


async def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"nothing\.key \(MM_TLS_PRIVATE_KEY_PATH\) cannot be read"):
        await server_of(Mesh(), tls=TlsFiles(tmp_path / "nothing.key", tmp_path / "nothing.pem")).start()
