"""What the environment says becomes settings: names, old spellings, lists, what is off."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.settings import Settings, describe, termination_log

ALIASED = {
    "service_name": ["MM_SERVICE_NAME", "TAS_SERVICE_NAME"],
    "pod_name": ["WKUBE_POD_NAME", "HOSTNAME"],
    "location": ["MM_LOCATION", "WKUBE_NODE_IP"],
}
ALIASED_PORTS = ["MM_SVC_GRPC_PORT", "TAS_SVC_GRPC_PORT"]
KEYS = ["MM_TLS_PRIVATE_KEY_PATH", "MM_SVC_GRPC_PRIVATE_KEY_PATH", "TAS_SVC_GRPC_PRIVATE_KEY_PATH"]
CHAINS = ["MM_TLS_KEY_CERT_PATH", "MM_SVC_GRPC_CA_CERT_PATH", "TAS_SVC_GRPC_CA_CERT_PATH"]


def test_with_nothing_set_all_is_as_modelmesh_has_it() -> None:
    settings = Settings.load()
    assert (settings.grpc_port, settings.rest_port, settings.probe_port, settings.prestop_port) == (8033, 8008, 8089, 8090)
    assert (settings.kv_store, settings.runtime_port, settings.runtime_socket, settings.tls_key) == ("", None, None, None)
    assert settings.metrics == "prometheus:port=2112;scheme=http"
    assert settings.load_failure_expiry == 15 * 60 * 1000


@pytest.mark.parametrize(("field", "names"), ALIASED.items())
def test_every_spelling_is_read_and_the_first_one_set_counts(field: str, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in reversed(names):
        monkeypatch.setenv(name, f"by {name}")
        assert getattr(Settings.load(), field) == f"by {name}"


def test_the_old_spelling_of_the_port_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for port, name in enumerate(reversed(ALIASED_PORTS), start=9000):
        monkeypatch.setenv(name, str(port))
        assert Settings.load().grpc_port == port


def test_old_spellings_of_key_and_certificate_may_be_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, chain in zip(reversed(KEYS), CHAINS, strict=True):
        with monkeypatch.context() as one:
            one.setenv(key, "/tls/key.pem")
            one.setenv(chain, "/tls/chain.pem")
            settings = Settings.load()
            assert (settings.tls_key, settings.tls_cert) == (Path("/tls/key.pem"), Path("/tls/chain.pem"))


def test_names_of_variables_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_UNHEARD_OF", "1")
    monkeypatch.setenv("GRPC_PORT", "1")
    assert Settings.load() == Settings()


@pytest.mark.parametrize(
    ("text", "labels"),
    [("", ()), (" , ,", ()), ("gpu", ("gpu",)), ("b,a", ("a", "b")), (" gpu , large ", ("gpu", "large")), ("a=b,c", ("a=b", "c"))],
)
def test_a_list_is_separated_by_commas(text: str, labels: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_LABELS", text)
    assert Settings.load().labels == labels


@given(st.lists(st.text(st.characters(codec="ascii", exclude_characters=", \0", exclude_categories=["C", "Z"]), min_size=1)))
def test_any_list_is_read_whole(labels: list[str]) -> None:
    assert sorted(Settings.load(MM_LABELS=",".join(labels)).labels) == sorted(labels)


def test_a_list_of_paths_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_TLS_TRUST_CERT_PATH", "/tls/b.pem, /tls/a.pem")
    assert Settings.load().tls_trust == (Path("/tls/a.pem"), Path("/tls/b.pem"))


@pytest.mark.parametrize("text", ["NONE", "none", " None "])
def test_the_probe_port_may_be_off(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_PROBE_PORT", text)
    assert Settings.load().probe_port is None


@pytest.mark.parametrize(("text", "meant"), [("optional", "OPTIONAL"), ("Require", "REQUIRE"), ("none", "NONE"), ("", "NONE")])
def test_client_authentication_is_read_in_any_case(text: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_TLS_CLIENT_AUTH", text)
    monkeypatch.setenv(KEYS[0], "/tls/key.pem")
    monkeypatch.setenv(CHAINS[0], "/tls/chain.pem")
    assert Settings.load().tls_client_auth == meant


@pytest.mark.parametrize(
    ("name", "instance"),
    [("modelmesh-serving-mlserver-1.x-5f8b7d9c4-x2k9p", "5f8b7d9c4-x2k9p"[-12:]), ("short", "short"), ("", f"pod-{os.getpid()}")],
    ids=["long", "short", "none"],
)
def test_an_instance_is_named_by_the_end_of_its_pods_name(name: str, instance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WKUBE_POD_NAME", name)
    assert Settings.load().instance_id == instance


def test_where_a_failed_start_is_told_is_known_without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert termination_log() == Path("/dev/termination-log") == Settings.load().termination_log
    monkeypatch.setenv("LL_TERMINATION_MSG_PATH", "/tmp/why")
    monkeypatch.setenv("MM_SVC_GRPC_PORT", "no number")
    assert termination_log() == Path("/tmp/why")


def test_a_default_is_what_the_reference_says() -> None:
    told = {setting["names"][0]: setting["default"] for setting in describe()}
    assert told["MM_PROBE_PORT"] == "8089"
    assert told["MM_LOG_EACH_INVOKE"] == "false"
    assert told["INTERNAL_GRPC_PORT"] == told["MM_LABELS"] == told["KV_STORE"] == ""
