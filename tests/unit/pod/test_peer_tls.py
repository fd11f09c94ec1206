"""Pods show each other certificates; who shows none, or one that nobody vouches for, is refused."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from mesh.core.errors import Malformed, PeerUnavailable
from mesh.settings import Settings
from mesh.wire.hops import to_peer
from mesh.wire.peer_tls import PeerTls
from tests.support.certificates import Authority
from tests.unit.pod.pods import ALONE, SAY, Pods, hop, refused

LOCAL = [*ALONE, ("grpc.ssl_target_name_override", "localhost")]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pods"), "pods")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("strangers"), "strangers")


@pytest.fixture
async def pods() -> AsyncIterator[Pods]:
    made = Pods()
    yield made
    await made.stop()


def files(pair: tuple[Path, Path], **more: Any) -> dict[str, Any]:
    return {"tls_key": pair[0], "tls_cert": pair[1], **more}


async def raw(pods: Pods, credentials: grpc.ChannelCredentials | None) -> Any:
    """A call of the holder's door, as somebody makes it who knows how pods call."""
    where = f"127.0.0.1:{pods.port}"
    async with aio.secure_channel(where, credentials, LOCAL) if credentials else aio.insecure_channel(where, ALONE) as channel:
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SAY}")
        return await call(b"x", metadata=to_peer((), hop()))


async def test_pods_with_one_certificate_talk_which_is_all_the_trust_they_need(pods: Pods, authority: Authority) -> None:
    await pods.start(**files(authority.issue("shared")))
    assert await pods.call(b"x") == b"x"
    greeting = await pods.peers.greet(f"127.0.0.1:{pods.port}", 20)
    assert greeting.pod == "holder"


async def test_pods_with_certificates_of_one_authority_talk_if_they_trust_it(pods: Pods, authority: Authority) -> None:
    trust = {"peer_trust": (authority.certificate,)}
    await pods.start_holder(**files(authority.issue("one", passphrase="open sesame"), tls_passphrase="open sesame", **trust))
    await pods.start_ingress(**files(authority.issue("two"), **trust))
    assert await pods.call(b"x") == b"x"


async def test_a_folder_of_certificates_is_trusted_whole(pods: Pods, authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "pods.crt").write_bytes(authority.certificate.read_bytes())
    (folder / "README").write_text("not a certificate")
    await pods.start_holder(**files(authority.issue("one"), peer_trust=(folder,)))
    await pods.start_ingress(**files(authority.issue("two"), peer_trust=(folder,)))
    assert await pods.call(b"x") == b"x"


async def test_a_pod_with_a_strangers_certificate_is_refused_and_the_log_says_what_to_check(
    pods: Pods, authority: Authority, strangers: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    await pods.start_holder(**files(authority.issue("own")))
    # It trusts the holder, which does not trust it.
    await pods.start_ingress(**files(strangers.issue("foreign"), peer_trust=(authority.certificate,)))
    with pytest.raises(PeerUnavailable, match=r"pod holder at .* does not answer"):
        await pods.say(b"x")
    assert pods.holding.calls == []
    assert "pod holder at" in caplog.text
    assert "check the files of both pods" in caplog.text


async def test_a_pod_that_is_not_trusted_gets_no_call(
    pods: Pods, authority: Authority, strangers: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    await pods.start_holder(**files(strangers.issue("foreign"), peer_trust=(authority.certificate,)))
    await pods.start_ingress(**files(authority.issue("own")))
    with pytest.raises(PeerUnavailable):
        await pods.say(b"x")
    assert pods.holding.calls == []
    assert "MM_INTERNAL_TRUST_CERTS" in caplog.text


async def test_trusted_certificates_without_a_common_name_are_refused_and_the_log_says_that_they_need_one(
    pods: Pods, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    trust = {"peer_trust": (authority.certificate,)}
    await pods.start_holder(**files(authority.issue("one"), **trust))
    await pods.start_ingress(**files(authority.issue("named", names="DNS:elsewhere"), **trust))
    with pytest.raises(PeerUnavailable):
        await pods.say(b"x")
    assert "have a DNS name in common" in caplog.text


@pytest.mark.parametrize(("names", "name"), [("DNS:*.pods", "pod.pods"), ("IP:127.0.0.9,DNS:a.b", "a.b"), ("IP:127.0.0.9", "127.0.0.9")])
async def test_any_kind_of_name_does(pods: Pods, authority: Authority, names: str, name: str) -> None:
    await pods.start(**files(authority.issue("named", names=names)))
    made = PeerTls.of(pods.settings)
    assert made is not None
    assert made.name == name
    assert await pods.call(b"x") == b"x"


async def test_a_pod_that_talks_plaintext_is_refused_and_the_log_names_the_switch(
    pods: Pods, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    pair = authority.issue("own")
    await pods.start_holder(**files(pair))
    await pods.start_ingress(**files(pair, peer_tls=False))
    with pytest.raises(PeerUnavailable):
        await pods.say(b"x")
    assert pods.holding.calls == []
    assert "MM_ENABLE_SSL" in caplog.text


async def test_clients_without_a_certificate_or_of_the_clients_authority_cannot_speak_as_pods(
    pods: Pods, authority: Authority, strangers: Authority
) -> None:
    # The strangers' authority vouches for clients of the public doors, and for nobody else.
    await pods.start(**files(authority.issue("own"), tls_trust=(strangers.certificate,), tls_client_auth="REQUIRE"))
    trusted = authority.certificate.read_bytes()
    key, cert = (path.read_bytes() for path in strangers.issue("client"))
    for credentials in (None, grpc.ssl_channel_credentials(trusted), grpc.ssl_channel_credentials(trusted, key, cert)):
        assert (await refused(raw(pods, credentials))).code() is grpc.StatusCode.UNAVAILABLE
    assert pods.holding.calls == []


async def test_the_original_switch_lets_pods_call_without_a_certificate(pods: Pods, authority: Authority) -> None:
    await pods.start(**files(authority.issue("own"), peer_client_auth=False))
    assert await raw(pods, grpc.ssl_channel_credentials(authority.certificate.read_bytes())) == b"x"
    assert await pods.call(b"x") == b"x"


async def test_the_original_switch_turns_tls_between_pods_off(pods: Pods, authority: Authority) -> None:
    await pods.start(**files(authority.issue("own"), peer_tls=False))
    assert await raw(pods, None) == b"x"
    assert await pods.call(b"x") == b"x"


# Files


@pytest.mark.parametrize("key", ["MM_TLS_PRIVATE_KEY_PATH", "MM_SVC_GRPC_PRIVATE_KEY_PATH", "TAS_SVC_GRPC_PRIVATE_KEY_PATH"])
@pytest.mark.parametrize("trust", ["MM_INTERNAL_TRUST_CERTS", "MM_TRUST_CERTS"])
def test_a_key_by_any_of_its_names_is_enough(monkeypatch: pytest.MonkeyPatch, authority: Authority, key: str, trust: str) -> None:
    pair = authority.issue("own")
    monkeypatch.setenv(key, str(pair[0]))
    monkeypatch.setenv("MM_SVC_GRPC_CA_CERT_PATH", str(pair[1]))
    monkeypatch.setenv(trust, str(authority.certificate))
    made = PeerTls.of(Settings.load())
    assert made is not None
    assert made.mutual
    assert made.name == "localhost"
    assert authority.certificate.read_bytes() in made.trust
    for switch in ("MM_ENABLE_SSL", "MM_INTRACLUSTER_CLIENTAUTH"):
        monkeypatch.setenv(switch, "false")
        made = PeerTls.of(Settings.load())
        assert made is None or not made.mutual
        monkeypatch.delenv(switch)


def test_without_a_key_pods_talk_plaintext() -> None:
    assert PeerTls.of(Settings.load()) is None


def test_a_file_that_is_not_there_is_named_with_its_variable(authority: Authority, tmp_path: Path) -> None:
    pair, missing = authority.issue("own"), tmp_path / "missing.pem"
    with pytest.raises(Malformed, match=r"missing.pem \(MM_TLS_PRIVATE_KEY_PATH\) cannot be read"):
        PeerTls.of(Settings.load(**files((missing, pair[1]))))
    with pytest.raises(Malformed, match=r"missing.pem \(MM_INTERNAL_TRUST_CERTS\) cannot be read"):
        PeerTls.of(Settings.load(**files(pair, peer_trust=(missing,))))


def test_a_folder_without_certificates_and_a_file_of_something_else_are_named(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"\(MM_INTERNAL_TRUST_CERTS\) has no .pem or .crt files"):
        PeerTls.of(Settings.load(**files(authority.issue("own"), peer_trust=(tmp_path,))))
    text = tmp_path / "text.pem"
    text.write_text("hello")
    with pytest.raises(Malformed, match=r"text.pem \(MM_INTERNAL_TRUST_CERTS\) has no PEM certificates"):
        PeerTls.of(Settings.load(**files(authority.issue("own"), peer_trust=(text,))))


def test_a_certificate_that_pods_would_refuse_is_found_at_start(authority: Authority) -> None:
    only_for_servers = authority.issue("server-only", names="DNS:localhost", usage="serverAuth")
    with pytest.raises(Malformed, match=r"pods cannot use .* with each other: .* purpose"):
        PeerTls.of(Settings.load(**files(only_for_servers)))
    assert PeerTls.of(Settings.load(**files(only_for_servers, peer_client_auth=False))) is not None


def test_the_key_is_not_written_where_settings_are(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    made = PeerTls.of(Settings.load(**files(authority.issue("own"))))
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("%r", made)
    assert "PRIVATE KEY" not in caplog.text
