"""TLS at the doors, with and without certificates of clients."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from grpc import StatusCode

from tests.support.certificates import Authority
from tests.support.client import OPTIONS, Client, Status, refused
from tests.support.mesh import Mesh, RouterProcess, RuntimeProcess
from tests.support.runtime_state import Behaviour


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "conformance")


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    runtime = RuntimeProcess(tmp_path_factory.mktemp("tls"), Behaviour())
    yield runtime
    runtime.stop()


@pytest.fixture
def router(request: pytest.FixtureRequest, authority: Authority, lone: RuntimeProcess, tmp_path: Path) -> Iterator[RouterProcess]:
    """With the client authentication that the test names, and a key with a passphrase."""
    key, cert = authority.issue("server", passphrase="open sesame")
    environment = {
        "MM_TLS_PRIVATE_KEY_PATH": str(key),
        "MM_TLS_PRIVATE_KEY_PASSPHRASE": "open sesame",
        "MM_TLS_KEY_CERT_PATH": str(cert),
        "MM_TLS_CLIENT_AUTH": request.param,
        "MM_TLS_TRUST_CERT_PATH": str(authority.certificate),
    }
    router = RouterProcess(tmp_path, {**lone.environment, **environment})
    yield router
    router.stop()


def connected(router: RouterProcess, authority: Authority, identity: tuple[Path, Path] | None = None) -> Client:
    key, cert = identity or (None, None)
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(), key.read_bytes() if key else None, cert.read_bytes() if cert else None
    )
    return Client(grpc.secure_channel(router.address.replace("127.0.0.1", "localhost"), credentials, options=OPTIONS))


def rest_live(router: RouterProcess, authority: Authority, identity: tuple[Path, Path] | None = None) -> int:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if identity:
        context.load_cert_chain(identity[1], identity[0])
    return httpx.get(f"{router.rest}/v2/health/live", verify=context, timeout=20).status_code


@pytest.mark.parametrize("router", ["NONE", ""], indirect=True)
def test_the_doors_speak_tls(router: RouterProcess, authority: Authority) -> None:
    with connected(router, authority) as client:
        assert client.status("any").status == Status.NOT_FOUND
    assert rest_live(router, authority) == 200
    with Client.insecure(router.address) as client, refused(StatusCode.UNAVAILABLE):
        client.status("any")


@pytest.mark.parametrize("router", ["require"], indirect=True)
def test_clients_must_show_a_certificate_that_is_trusted(router: RouterProcess, authority: Authority, tmp_path: Path) -> None:
    trusted = authority.issue("client")
    with connected(router, authority, trusted) as client:
        assert client.status("any").status == Status.NOT_FOUND
    assert rest_live(router, authority, trusted) == 200
    with connected(router, authority) as client, refused(StatusCode.UNAVAILABLE):
        client.status("any")
    stranger = Authority(tmp_path, "stranger").issue("client")
    with connected(router, authority, stranger) as client, refused(StatusCode.UNAVAILABLE):
        client.status("any")
    with pytest.raises(httpx.TransportError):
        rest_live(router, authority)


@pytest.mark.parametrize("router", ["optional"], indirect=True)
def test_clients_may_show_a_certificate(router: RouterProcess, authority: Authority) -> None:
    for identity in (None, authority.issue("client")):
        with connected(router, authority, identity) as client:
            assert client.status("any").status == Status.NOT_FOUND


def test_the_registered_models_are_served_over_tls(authority: Authority, lone: RuntimeProcess, tmp_path: Path, model: str) -> None:
    key, cert = authority.issue("plain-key")
    environment = {"MM_TLS_PRIVATE_KEY_PATH": str(key), "MM_TLS_KEY_CERT_PATH": str(cert)}
    router = RouterProcess(tmp_path, {**lone.environment, **environment})
    try:
        with connected(router, authority) as client:
            client.loaded(model)
            assert Mesh(lone, router, client).runtime.loads(model) == 1
            client.predict(model)
    finally:
        router.stop()
