"""TLS on the lane's ports: who is let in by what they show, and who is sent away."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from grpc import StatusCode

from mesh.protocols import model_mesh_pb2 as mm
from tests.lane import built
from tests.lane.conftest import Pod, a_lane
from tests.lane.curl import PRIOR, curl, run
from tests.lane.test_calls import straight
from tests.lane.test_rest import AS_SENT, tensor
from tests.support.certificates import Authority
from tests.support.client import OPTIONS, Client, answer, example, refused, to
from tests.support.mesh import Mesh

if TYPE_CHECKING:
    import mesh_lane

Identity = tuple[Path, Path]
"""A key and its certificate."""
SLOW = 1100
"""More handshakes than a worker has under way."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "lane")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Identity:
    return authority.issue("server")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Identity:
    return authority.issue("client")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return Authority(tmp_path_factory.mktemp("stranger"), "stranger").issue("client")


def shown(identity: Identity, clients: str = "NONE", trust: Path | None = None) -> mesh_lane.Tls:
    module = built.load()
    if module is None:
        pytest.skip("the express lane is not compiled: `make lane` does it where cargo is")
    key, cert = identity
    made: mesh_lane.Tls = module.Tls(key.read_bytes(), cert.read_bytes(), clients=clients, trust=trust.read_bytes() if trust else None)
    return made


@contextmanager
def a_secured_lane(mesh: Mesh, tls: mesh_lane.Tls) -> Iterator[Pod]:
    """With one worker, on which all connections meet."""
    with a_lane(mesh, rest=("127.0.0.1:0", f"127.0.0.1:{mesh.router.ports['rest']}"), workers=1, tls=tls) as pod:
        pod.published(rules=AS_SENT)
        yield pod


@pytest.fixture(scope="module")
def pod(mesh: Mesh, server: Identity) -> Iterator[Pod]:
    with a_secured_lane(mesh, shown(server)) as pod:
        yield pod


def port(address: str | None) -> int:
    assert address is not None
    return int(address.rpartition(":")[2])


@contextmanager
def called(pod: Pod, authority: Authority, identity: Identity | None = None) -> Iterator[Client]:
    """A client of gRPC."""
    key, cert = (path.read_bytes() for path in identity) if identity else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes(), key, cert)
    with Client(grpc.secure_channel(f"localhost:{port(pod.lane.address)}", credentials, options=OPTIONS)) as client:
        yield client


def context(authority: Authority, identity: Identity | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(authority.certificate))
    if identity:
        made.load_cert_chain(identity[1], identity[0])
    return made


@contextmanager
def rest(pod: Pod, authority: Authority, identity: Identity | None = None) -> Iterator[httpx.Client]:
    base = f"https://localhost:{port(pod.lane.rest_address)}"
    with httpx.Client(base_url=base, verify=context(authority, identity), trust_env=False, timeout=60) as client:
        yield client


def certificate(pod: Pod, authority: Authority, identity: Identity | None = None) -> bytes:
    """What the REST port shows."""
    with hands(pod.lane.rest_address, context(authority, identity)) as stream:
        found = stream.getpeercert(binary_form=True)
    assert found is not None
    return found


@contextmanager
def hands(address: str | None, made: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """A connection after its handshake."""
    with (
        socket.create_connection(("127.0.0.1", port(address)), timeout=60) as plain,
        made.wrap_socket(plain, server_hostname="localhost") as stream,
    ):
        yield stream


# What goes over it


def test_calls_of_grpc_go_straight_or_to_the_door(pod: Pod, authority: Authority, model: str) -> None:
    pod.resident(model)
    text = "x" * 9_000_000
    with called(pod, authority) as client:
        assert straight(client, model)
        assert client.said(model, text) == answer(model, text)
        assert client.status(model).status
        pod.published(no_models=[model])
        assert not straight(client, model)
        assert client.said(model, text) == answer(model, text)


def test_streams_pass(pod: Pod, authority: Authority, model: str) -> None:
    pod.resident(model)
    with called(pod, authority) as client:
        texts = [f"{number}" * 10_000 for number in range(9)]
        requests = iter([example.PredictRequest(text=text) for text in texts])
        found = list(client.predictor.predictStream(requests, metadata=to(model), timeout=60))
    assert [one.results[0].category for one in found] == [answer(model, text) for text in texts]


def test_many_calls_share_connections(pod: Pod, authority: Authority, model: str) -> None:
    pod.resident(model)
    with ExitStack() as open_:
        clients = [open_.enter_context(called(pod, authority)) for _ in range(5)]
        calls = [(f"{number}", clients[number % 5].predicting(model, f"{number}")) for number in range(300)]
        assert all(call.result(60).results[0].category == answer(model, text) for text, call in calls)


@pytest.mark.parametrize("options", [["--http2"], ["--http1.1"], ["--no-alpn"], ["--http2", "--tls-max", "1.2"]])
def test_rest_is_spoken_as_client_and_port_agree(pod: Pod, authority: Authority, model: str, options: list[str]) -> None:
    pod.resident(model)
    base = f"https://localhost:{port(pod.lane.rest_address)}/v2/models/{model}"
    trusted = ["--cacert", str(authority.certificate), *options]
    found = curl(f"{base}/infer", *trusted, method="POST", body=json.dumps(tensor("INT8", [1], [3])).encode())
    assert (found.version, json.loads(found.content)["outputs"][0]["data"]) == ("2" if "--http2" in options else "1.1", [3])
    assert json.loads(curl(f"{base}/ready", *trusted).content) == {"name": model, "ready": True}
    assert curl(f"{base}/generate", *trusted, method="POST", body=b"{}").status_code == 501
    assert sum(calls for (name, _, _, _, (calls, *_), *_) in pod.lane.collect() if name == model) == 1


def test_megabytes_of_rest_pass_both_ways(pod: Pod, authority: Authority, model: str) -> None:
    pod.resident(model)
    data = [number / 7 for number in range(200_000)]
    with rest(pod, authority) as client:
        for published in (True, False):
            if not published:
                pod.published(no_models=[model])
            found = client.post(f"/v2/models/{model}/infer", json=tensor("FP64", [len(data)], data))
            assert found.json()["outputs"][0]["data"] == data
        # Of an odd request the connection becomes the door's for good.
        odd = client.post(f"/v2/models/{model}/infer", json=tensor("FP64", [len(data)], data), headers={"expect": "100-continue"})
        assert odd.json()["outputs"][0]["data"] == data


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_are_spoken_and_sessions_go_on(pod: Pod, authority: Authority, version: ssl.TLSVersion) -> None:
    made = context(authority)
    made.minimum_version = made.maximum_version = version
    with hands(pod.lane.rest_address, made) as first:
        first.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(4096).startswith(b"HTTP/1.1 200 ")
        session = first.session
    plain = socket.create_connection(("127.0.0.1", port(pod.lane.rest_address)), timeout=60)
    with plain, made.wrap_socket(plain, server_hostname="localhost", session=session) as second:
        assert (second.version(), second.session_reused) == (version.name.replace("_", "."), True)


def test_older_versions_are_not(pod: Pod, authority: Authority) -> None:
    older = ["--cacert", str(authority.certificate), "--tlsv1.0", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]
    done, _, _ = run(f"https://localhost:{port(pod.lane.rest_address)}/v2", *older)
    assert done.returncode == 35, done.stderr


# Who is let in


def let_in(pod: Pod, authority: Authority, identity: Identity | None) -> bool:
    """Whether both ports answer; they agree."""
    with called(pod, authority, identity) as client:
        pending = client.mesh.getModelStatus.future(mm.GetStatusRequest(modelId="any"), timeout=60)
        found = pending.code() is StatusCode.OK
        assert found or pending.code() is StatusCode.UNAVAILABLE
    with rest(pod, authority, identity) as http:
        if found:
            assert http.get("/v2/health/live").status_code == 200
        else:
            with pytest.raises(httpx.TransportError):
                http.get("/v2/health/live")
    return found


@pytest.mark.parametrize(
    ("clients", "nobody", "known", "unknown"),
    [("NONE", True, True, True), ("OPTIONAL", True, True, False), ("REQUIRE", False, True, False)],
)
def test_clients_show_what_is_asked_for(
    mesh: Mesh,
    authority: Authority,
    server: Identity,
    client: Identity,
    stranger: Identity,
    clients: str,
    nobody: bool,
    known: bool,
    unknown: bool,
) -> None:
    with a_secured_lane(mesh, shown(server, clients, authority.certificate)) as pod:
        found = [let_in(pod, authority, identity) for identity in (None, client, stranger)]
    assert found == [nobody, known, unknown]


def test_certificates_for_servers_only_and_old_ones_are_refused(mesh: Mesh, authority: Authority, server: Identity, tmp_path: Path) -> None:
    for_servers = authority.issue("for-servers", usage="serverAuth")
    with a_secured_lane(mesh, shown(server, "REQUIRE", authority.certificate)) as pod:
        assert not let_in(pod, authority, for_servers)


def test_a_certificate_may_be_trusted_itself(mesh: Mesh, authority: Authority, server: Identity, client: Identity, tmp_path: Path) -> None:
    """Whether it signed itself, or its authority is not trusted."""
    other = Authority(tmp_path, "itself")
    itself = (tmp_path / "itself.authority.key", other.certificate)
    trust = tmp_path / "trust.pem"
    trust.write_bytes(client[1].read_bytes() + other.certificate.read_bytes())
    with a_secured_lane(mesh, shown(server, "REQUIRE", trust)) as pod:
        assert let_in(pod, authority, client)
        assert let_in(pod, authority, itself)
        assert not let_in(pod, authority, authority.issue("another"))


# Who is sent away


def test_plaintext_and_garbage_are_sent_away(pod: Pod, authority: Authority) -> None:
    with Client.insecure(pod.lane.address) as client, refused(StatusCode.UNAVAILABLE):
        client.status("any")
    for address in (pod.lane.address, pod.lane.rest_address):
        for said in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x00" * 999,
            b"\x16\x03\x01\xff\xff" + b"\x00" * 99_999,
            b"",
        ):
            with socket.create_connection(("127.0.0.1", port(address)), timeout=60) as stream, contextlib.suppress(OSError):
                stream.sendall(said)
                stream.shutdown(socket.SHUT_WR)
                found = b"".join(iter(lambda: stream.recv(4096), b""))
                assert not found.startswith(b"HTTP")
    assert let_in(pod, authority, None)
    done, _, _ = run(f"http://127.0.0.1:{port(pod.lane.rest_address)}/v2", PRIOR)
    assert done.returncode != 0


def test_tls_on_a_port_of_plaintext_is_sent_away(mesh: Mesh, authority: Authority) -> None:
    with a_lane(mesh, rest=("127.0.0.1:0", f"127.0.0.1:{mesh.router.ports['rest']}")) as pod:
        with called(pod, authority) as client, refused(StatusCode.UNAVAILABLE):
            client.status("any")
        with rest(pod, authority) as http, pytest.raises(httpx.TransportError):
            http.get("/v2")


@pytest.mark.parametrize("protocols", [[], ["http/1.1"], ["grpc-exp"]])
def test_grpc_is_spoken_by_nobody_who_does_not_say_so(pod: Pod, authority: Authority, protocols: list[str]) -> None:
    """As gRPC's own servers have it."""
    made = context(authority)
    if protocols:
        made.set_alpn_protocols(protocols)
    with contextlib.suppress(ssl.SSLError, ConnectionError), hands(pod.lane.address, made) as stream:
        stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        assert stream.recv(1) == b""


def test_slow_handshakes_are_sent_away_and_hold_up_nobody(pod: Pod, authority: Authority) -> None:
    """The oldest where there are too many; all after a time."""
    beginning = client_hello()
    with ExitStack() as open_:
        open_.enter_context(descriptors(3 * SLOW))
        slow = [open_.enter_context(socket.create_connection(("127.0.0.1", port(pod.lane.address)), timeout=60)) for _ in range(SLOW)]
        for number, stream in enumerate(slow):
            stream.sendall(beginning[: number % 99])
        assert slow[0].recv(1) == b""
        assert let_in(pod, authority, None)
        for stream in slow[1:]:
            with contextlib.suppress(ConnectionError):
                assert stream.recv(99) == b""
    assert let_in(pod, authority, None)


@contextmanager
def descriptors(most: int) -> Iterator[None]:
    """Lets this process, which has both ends of its connections, open so many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def client_hello() -> bytes:
    """The first bytes of a handshake."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(there, back, server_hostname="localhost").do_handshake()
    return back.read()


# Other files


def test_other_certificates_count_for_those_who_connect_from_then_on(
    mesh: Mesh, authority: Authority, server: Identity, client: Identity, stranger: Identity, tmp_path: Path
) -> None:
    others = Authority(tmp_path, "others")
    tls, other = shown(server, "REQUIRE", authority.certificate), authority.issue("other")
    with a_secured_lane(mesh, tls) as pod, rest(pod, authority, client) as before, called(pod, authority, client) as calls:
        assert before.get("/v2/health/live").status_code == 200
        assert calls.status("any") is not None
        assert certificate(pod, authority, client) == ssl.PEM_cert_to_DER_cert(server[1].read_text().strip())
        for key, chain, trust in (
            (b"", other[1].read_bytes(), None),
            (other[0].read_bytes(), b"garbage", None),
            (server[0].read_bytes(), other[1].read_bytes(), None),
            (other[0].read_bytes(), other[1].read_bytes(), b"garbage"),
        ):
            with pytest.raises(ValueError, match=r"certificate|key|trust"):
                tls.replace(key, chain, clients="REQUIRE", trust=trust)
        assert certificate(pod, authority, client) == ssl.PEM_cert_to_DER_cert(server[1].read_text().strip())
        tls.replace(other[0].read_bytes(), other[1].read_bytes(), clients="REQUIRE", trust=others.certificate.read_bytes())
        assert not let_in(pod, authority, client)
        assert certificate(pod, authority, others.issue("client")) == ssl.PEM_cert_to_DER_cert(other[1].read_text().strip())
        assert before.get("/v2/health/live").status_code == 200
        assert calls.status("any") is not None


UNUSABLE: dict[str, tuple[Callable[[Authority], tuple[bytes, bytes, dict[str, Any]]], str]] = {
    "no key": (lambda authority: (b"", authority.issue("a")[1].read_bytes(), {}), "private key"),
    "an encrypted key": (lambda authority: (*read(authority.issue("b", passphrase="secret")), {}), "private key"),
    "no certificate": (lambda authority: (authority.issue("c")[0].read_bytes(), b"", {}), "no certificates"),
    "another's certificate": (
        lambda authority: (authority.issue("d")[0].read_bytes(), authority.certificate.read_bytes(), {}),
        "cannot be used",
    ),
    "nobody to trust": (lambda authority: (*read(authority.issue("e")), {"clients": "REQUIRE"}), "whom to trust"),
    "an unknown way": (lambda authority: (*read(authority.issue("f")), {"clients": "require"}), "NONE, OPTIONAL or REQUIRE"),
}


def read(identity: Identity) -> tuple[bytes, bytes]:
    key, cert = identity
    return key.read_bytes(), cert.read_bytes()


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_cannot_be_shown_is_named(authority: Authority, what: str) -> None:
    make, text = UNUSABLE[what]
    key, chain, more = make(authority)
    module = built.load()
    if module is None:
        pytest.skip("the express lane is not compiled: `make lane` does it where cargo is")
    with pytest.raises(ValueError, match=text):
        module.Tls(key, chain, **more)


def test_idle_connections_are_let_go_when_the_lane_stops(mesh: Mesh, authority: Authority, server: Identity) -> None:
    with a_secured_lane(mesh, shown(server)) as pod, hands(pod.lane.rest_address, context(authority)) as stream:
        stream.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"".join(iter(lambda: stream.recv(1), b"}")).startswith(b"HTTP/1.1 200 ")
        pod.lane.stop(60)
        assert stream.recv(1) == b""
