"""TLS at the doors and between pods, each with a certificate of its own; and runtimes that serve on ports of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from mesh.protocols import peer_pb2
from tests.integration.etcd.server import Etcd
from tests.support.certificates import Authority
from tests.support.client import OPTIONS, Client, Status, answer, refused
from tests.support.cluster import Cluster, Special, a_cluster, chosen_places
from tests.support.mesh import RouterProcess

Identity = tuple[Path, Path]


def connected(authority: Authority, router: RouterProcess, identity: Identity | None, port: str = "grpc") -> Client:
    key, cert = (path.read_bytes() for path in identity) if identity else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes(), key, cert)
    return Client(grpc.secure_channel(f"localhost:{router.ports[port]}", credentials, options=OPTIONS))


@dataclass(frozen=True)
class Guarded:
    """Two pods, and how to call them."""

    pods: Cluster
    authority: Authority
    identity: Identity
    client_auth: str


@pytest.fixture(scope="module", params=["none", "require"])
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, etcd: Etcd, service: Callable[[], str]
) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder, "cluster")
    each = []
    for number in range(2):
        key, cert = authority.issue(f"pod{number}")
        each.append(Special(environment={"MM_TLS_PRIVATE_KEY_PATH": str(key), "MM_TLS_KEY_CERT_PATH": str(cert)}))
    environment = {
        **chosen_places(2),
        "MM_TLS_CLIENT_AUTH": request.param,
        "MM_TLS_TRUST_CERT_PATH": str(authority.certificate),
        "MM_INTERNAL_TRUST_CERTS": str(authority.certificate),
    }
    identity = authority.issue("client")
    with a_cluster(
        folder,
        f"etcd:{etcd.address}",
        2,
        service=service(),
        environment=environment,
        each=each,
        separate=True,
        connect=lambda router: connected(authority, router, identity if request.param == "require" else None),
    ) as pods:
        yield Guarded(pods, authority, identity, request.param)


def test_every_pod_answers_for_the_other_over_tls(guarded: Guarded, model: str) -> None:
    pods = guarded.pods
    for place in range(2):
        pods[0].client.loaded(f"{model}-{place}", kind=f"on-{place}")
        for pod in pods.pods:
            assert pod.client.said(f"{model}-{place}") == answer(f"{model}-{place}")
            assert pod.client.status(f"{model}-{place}").status == Status.LOADED
        assert pods.held(f"{model}-{place}") == {place}


def test_a_serving_port_of_its_own_is_called_for_other_pods_too(guarded: Guarded, model: str) -> None:
    pods = guarded.pods
    pods[0].client.loaded(model, kind="on-0")
    assert pods[0].runtime.serving_port != pods[0].runtime.port
    for number in range(20):
        assert pods[number % 2].client.said(model, str(number)) == answer(model, str(number))
    pods[0].runtime.do("purge")
    assert pods[1].client.said(model) == answer(model)
    assert pods.loads(model) == 2


def test_clients_that_speak_plaintext_or_show_nothing_that_is_asked_for_are_refused(guarded: Guarded, tmp_path: Path) -> None:
    for pod in guarded.pods.pods:
        with Client.insecure(pod.router.address) as client, refused(StatusCode.UNAVAILABLE):
            client.status("any")
        stranger = Authority(tmp_path, pod.id).issue("stranger")
        for identity in (None, stranger):
            with connected(guarded.authority, pod.router, identity) as client:
                if guarded.client_auth == "none":
                    assert client.status("any").status == Status.NOT_FOUND
                else:
                    with refused(StatusCode.UNAVAILABLE):
                        client.status("any")


def test_who_shows_no_certificate_of_a_pod_is_refused_at_the_port_for_pods(guarded: Guarded, model: str, tmp_path: Path) -> None:
    pod = guarded.pods[0]
    pod.client.loaded(model, kind="on-0")
    hop = peer_pb2.Hop(kind=peer_pb2.Hop.HIT, model=model, sender=guarded.pods[1].id, dest=pod.id)
    metadata = (("mesh-hop-bin", hop.SerializeToString()),)
    for identity in (None, Authority(tmp_path, "stranger").issue("stranger")):
        with connected(guarded.authority, pod.router, identity, "peer") as client, refused(StatusCode.UNAVAILABLE):
            client.predict(model, metadata=metadata)
    with connected(guarded.authority, pod.router, guarded.identity, "peer") as client:
        assert client.said(model, metadata=metadata) == answer(model)
