"""A router with TLS and the express lane: it takes the doors' files, follows their changes, and stays off where it cannot use them."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx
import pytest

from tests.lane.test_calls import straight
from tests.support import lane
from tests.support.certificates import Authority
from tests.support.client import OPTIONS, Client, Status, answer
from tests.support.mesh import RouterProcess, RuntimeProcess
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not lane.built(), reason="the express lane is not compiled: `make lane` does it where cargo is")
ON, AGAIN, FAULTY = "the express lane is on", "the files of TLS are read again", "the files of TLS are faulty"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "router")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    runtime = RuntimeProcess(tmp_path_factory.mktemp("runtime"), Behaviour(capacity=64 * 8 * MIB))
    yield runtime
    runtime.stop()


@contextmanager
def a_router(folder: Path, runtime: RuntimeProcess, key: Path, cert: Path, **more: str) -> Iterator[RouterProcess]:
    environment = {"MM_TLS_PRIVATE_KEY_PATH": str(key), "MM_TLS_KEY_CERT_PATH": str(cert)} | more
    router = RouterProcess(folder, runtime.environment | lane.variables("auto") | environment)
    try:
        yield router
    finally:
        router.stop()


@contextmanager
def connected(router: RouterProcess, authority: Authority) -> Iterator[Client]:
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
    with Client(grpc.secure_channel(f"localhost:{router.ports['grpc']}", credentials, options=OPTIONS)) as client:
        yield client


def certificate(router: RouterProcess, door: str) -> str:
    """What a port shows, as PEM."""
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", router.ports[door]), timeout=60) as plain, made.wrap_socket(plain) as stream:
        found = stream.getpeercert(binary_form=True)
    assert found is not None
    return ssl.DER_cert_to_PEM_cert(found)


def put(into: Path, text: str) -> None:
    """As Kubernetes does: another file takes the place of the one before."""
    beside = into.with_suffix(".new")
    beside.write_text(text)
    os.replace(beside, into)


def test_files_that_change_count_without_a_restart(authority: Authority, runtime: RuntimeProcess, tmp_path: Path, model: str) -> None:
    (key, cert), mine = authority.issue("before", passphrase="secret"), [tmp_path / name for name in ("tls.key", "tls.crt")]
    for path, found in zip(mine, (key, cert), strict=True):
        put(path, found.read_text())
    with a_router(tmp_path, runtime, *mine, MM_TLS_PRIVATE_KEY_PASSPHRASE="secret") as router, connected(router, authority) as client:
        assert ON in router.process.output()
        assert client.loaded(model)
        until(lambda: straight(client, model), "the copy is published")
        assert certificate(router, "grpc") == certificate(router, "rest") == cert.read_text()

        put(mine[1], "garbage")
        until(lambda: FAULTY in router.process.output(), "the fault is told")
        assert certificate(router, "grpc") == cert.read_text()

        key, cert = authority.issue("after", passphrase="secret")
        put(mine[0], key.read_text())
        put(mine[1], cert.read_text())
        until(lambda: AGAIN in router.process.output(), "the files are read again")
        assert certificate(router, "grpc") == certificate(router, "rest") == cert.read_text()
        assert client.said(model) == answer(model)
        with connected(router, authority) as other:
            assert other.said(model) == answer(model)
        assert router.process.output().count(AGAIN) == 1


def test_a_certificate_that_only_the_python_doors_can_use_leaves_the_ports_to_them(
    authority: Authority, runtime: RuntimeProcess, tmp_path: Path
) -> None:
    """One of the first version of X.509, as `openssl x509 -req` makes them without extensions."""
    key, signed, cert = (tmp_path / name for name in ("old.key", "old.csr", "old.pem"))
    made = ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(signed)]
    subprocess.run(made, check=True, capture_output=True)
    itself = ["openssl", "x509", "-req", "-in", str(signed), "-signkey", str(key), "-days", "2", "-out", str(cert)]
    subprocess.run(itself, check=True, capture_output=True)
    with a_router(tmp_path, runtime, key, cert) as router:
        output = router.process.output()
        assert ON not in output
        assert "the express lane is off, so every call goes through Python: it cannot use the TLS files of the doors" in output
        assert certificate(router, "grpc") == certificate(router, "rest") == cert.read_text()
        trusting = ssl.create_default_context(cafile=str(cert))
        trusting.check_hostname = False
        assert httpx.get(f"{router.rest}/v2/health/live", verify=trusting, trust_env=False, timeout=60).status_code == 200


def test_a_shared_port_keeps_its_tls(authority: Authority, runtime: RuntimeProcess, tmp_path: Path) -> None:
    """It is the Python door's, which has the lane's calls in plaintext beside it."""
    shared = [socket.socket() for _ in range(2)]
    for one in shared:
        one.bind(("127.0.0.1", 0))
    names = ("MESH_SHARED_GRPC_PORT", "MESH_SHARED_REST_PORT")
    ports = {name: one.getsockname()[1] for name, one in zip(names, shared, strict=True)}
    for one in shared:
        one.close()
    key, cert = authority.issue("shared")
    with a_router(tmp_path, runtime, key, cert, **{name: str(port) for name, port in ports.items()}) as router:
        assert ON in router.process.output()
        credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
        address = f"localhost:{ports['MESH_SHARED_GRPC_PORT']}"
        with Client(grpc.secure_channel(address, credentials, options=OPTIONS)) as client, connected(router, authority) as other:
            assert client.status("any").status == other.status("any").status == Status.NOT_FOUND
        trusting = ssl.create_default_context(cafile=str(authority.certificate))
        for port in (ports["MESH_SHARED_REST_PORT"], router.ports["rest"]):
            url = f"https://localhost:{port}/v2/health/live"
            assert httpx.get(url, verify=trusting, trust_env=False, timeout=60).status_code == 200
