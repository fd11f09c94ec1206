"""Who calls, as the doors behind the lane learn it: of plaintext and TLS, HTTP/1.1, HTTP/2 and gRPC; nobody but the lane is believed."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc import StatusCode, aio
from starlette.types import Receive, Scope, Send

from mesh.doors.grpc.proxy import call_of_lane
from mesh.doors.grpc.status import abort, caller_of
from mesh.doors.rest.app import Entrance
from mesh.doors.rest.server import RestServer
from tests.lane import built
from tests.lane.curl import PRIOR, curl
from tests.support.certificates import Authority
from tests.support.client import refused

if TYPE_CHECKING:
    import mesh_lane

WAIT = 60
CALLED, BROKEN = "/any.Service/Method", "/any.Service/Broken"
SAID_BY_CALLER = (("mm-lane-peer", "ipv4:10.0.0.1:1"), ("mm-lane-subject", "CN=admin"), ("mm-lane-tried", "x"), ("mm-model-id", "m"))
SUBJECT = "CN=caller"


@dataclass(frozen=True)
class Doors:
    """A lane before doors that tell who called them; `tls` has the client's files as curl takes them."""

    lane: mesh_lane.Lane
    secured: mesh_lane.Lane
    authority: Authority
    identity: tuple[Path, Path]

    @property
    def tls(self) -> list[str]:
        key, cert = self.identity
        return ["--cacert", str(self.authority.certificate), "--key", str(key), "--cert", str(cert)]


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    """As a door with a bug."""
    raise ZeroDivisionError


async def telling(scope: Scope, receive: Receive, send: Send) -> None:
    """What the REST door knows of who calls."""
    if scope["path"] == BROKEN:
        await Entrance(broken)(scope, receive, send)
        return
    body = json.dumps({name: scope.get(name) for name in ("client", "server", "scheme", "extensions", "path")}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})


class Telling(grpc.GenericRpcHandler):
    """What the gRPC door knows of who calls, and what it would pass on."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        async def answer(_: bytes, context: aio.ServicerContext[Any, Any]) -> bytes:
            if details.method == BROKEN:
                await abort(context, ZeroDivisionError())
            caller, call = caller_of(context), call_of_lane(CALLED, context)
            names = sorted(name for name, _ in call.metadata if name.startswith("mm-"))
            return json.dumps([caller.address, caller.subject, names, call.attempt is None]).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[None]:
    door = RestServer(telling, host="127.0.0.1", port=0, behind=folder / "rest.sock")
    await door.start()
    server = aio.server()
    server.add_generic_rpc_handlers((Telling(),))
    server.add_insecure_port(f"unix:{folder / 'grpc.sock'}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)
        await door.stop(0)


@pytest.fixture(scope="module")
def loop() -> Iterator[Callable[[Coroutine[Any, Any, None]], Future[None]]]:
    """Runs the doors beside the stories."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT)
    loop.close()


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, loop: Callable[[Coroutine[Any, Any, None]], Future[None]]) -> Iterator[Doors]:
    module = built.load()
    if module is None:
        pytest.skip("the express lane is not compiled: `make lane` does it where cargo is")
    folder = tmp_path_factory.mktemp("c")
    authority = Authority(folder, "callers")
    key, cert = authority.issue("server")
    up, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with listening(folder):
            up.set()
            await over.wait()

    serving = loop(serve())
    assert up.wait(WAIT)
    behind = {"rest": ("127.0.0.1:0", f"unix:{folder / 'rest.sock'}"), "workers": 1}
    tls = module.Tls(key.read_bytes(), cert.read_bytes(), clients="OPTIONAL", trust=authority.certificate.read_bytes())
    lanes = [module.Lane("127.0.0.1:0", f"unix:{folder / 'grpc.sock'}", **behind, **more) for more in ({}, {"tls": tls})]
    yield Doors(lanes[0], lanes[1], authority, authority.issue("caller"))
    for lane in lanes:
        lane.stop(0)

    async def end() -> None:
        over.set()

    loop(end()).result(WAIT)
    serving.result(WAIT)


def told(doors: Doors, *options: str, tls: list[str] | None = None) -> dict[str, Any]:
    """What the REST door says, and the port that curl called from."""
    lane, scheme = (doors.lane, "http") if tls is None else (doors.secured, "https")
    address = str(lane.rest_address).replace("127.0.0.1", "localhost")
    found = curl(f"{scheme}://{address}/x", *options, *(tls or []), "-4", "-w", "%{http_version} %{http_code}")
    said: dict[str, Any] = json.loads(found.content)
    assert (said["client"][0], said["path"]) == ("127.0.0.1", "/x")
    assert said["client"][1] > 0
    assert said["server"] == ["127.0.0.1", int(address.rpartition(":")[2])]
    return said


@pytest.mark.parametrize("options", [["--http1.1"], [PRIOR], ["--http1.1", "-H", "connection: x"]], ids=["1.1", "2", "for good"])
def test_the_rest_door_learns_the_address(doors: Doors, options: list[str]) -> None:
    said = told(doors, *options)
    assert (said["scheme"], said["extensions"]) == ("http", None)


@pytest.mark.parametrize("options", [["--http1.1"], ["--http2"], ["--http1.1", "-H", "connection: x"]], ids=["1.1", "2", "for good"])
def test_the_rest_door_learns_what_was_shown_over_tls(doors: Doors, options: list[str]) -> None:
    said = told(doors, *options, tls=doors.tls)
    assert (said["scheme"], said["extensions"]) == ("https", {"tls": {"client_cert_name": SUBJECT}})
    said = told(doors, *options, tls=doors.tls[:2])
    assert (said["scheme"], said["extensions"]) == ("https", {"tls": {"client_cert_name": None}})


def test_all_requests_of_a_connection_are_one_callers(doors: Doors) -> None:
    with socket.create_connection(("127.0.0.1", int(str(doors.lane.rest_address).rpartition(":")[2])), timeout=WAIT) as stream:
        own = list(stream.getsockname())
        for _ in range(2):
            stream.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            found = b""
            while found.count(b"}") < 2:
                found += stream.recv(4096)
            assert found.count(json.dumps(own).encode()) == 2


def grpc_told(channel: grpc.Channel) -> list[Any]:
    call: grpc.UnaryUnaryMultiCallable[bytes, Any] = channel.unary_unary(CALLED, None, json.loads)
    found: list[Any] = call(b"", metadata=SAID_BY_CALLER, timeout=WAIT)
    return found


def test_the_grpc_door_learns_the_address(doors: Doors) -> None:
    with grpc.insecure_channel(doors.lane.address) as channel:
        address, *rest = grpc_told(channel)
    assert address.startswith("ipv4:127.0.0.1:")
    assert rest == [None, ["mm-model-id"], True]


def test_the_grpc_door_learns_what_was_shown_over_tls(doors: Doors) -> None:
    key, cert = (path.read_bytes() for path in doors.identity)
    port = doors.secured.address.rpartition(":")[2]
    for pair, subject in (((key, cert), SUBJECT), ((None, None), None)):
        credentials = grpc.ssl_channel_credentials(doors.authority.certificate.read_bytes(), *pair)
        with grpc.secure_channel(f"localhost:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            address, *rest = grpc_told(channel)
        assert "127.0.0.1" in address
        assert rest == [subject, ["mm-model-id"], True]


def test_the_log_names_who_met_a_bug(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    address = str(doors.secured.rest_address).replace("127.0.0.1", "localhost")
    assert curl(f"https://{address}{BROKEN}", *doors.tls, "--http2").status_code == 500
    key, cert = (path.read_bytes() for path in doors.identity)
    credentials = grpc.ssl_channel_credentials(doors.authority.certificate.read_bytes(), key, cert)
    with grpc.secure_channel(f"localhost:{doors.secured.address.rpartition(':')[2]}", credentials) as channel, refused(StatusCode.INTERNAL):
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(BROKEN)
        call(b"", timeout=WAIT)
    of_rest, of_grpc = [str(vars(record)["caller"]) for record in caplog.records if "caller" in vars(record)]
    assert of_rest.startswith("127.0.0.1:")
    assert of_grpc.startswith("ipv4:127.0.0.1:")
    assert all(told.endswith(f" ({SUBJECT})") for told in (of_rest, of_grpc))
