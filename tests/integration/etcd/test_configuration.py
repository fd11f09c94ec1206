"""`KV_STORE` is read in all forms that ModelMesh knows; what is wrong with it is said by name."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import Malformed, Unsupported
from mesh.store.etcd.configuration import Configuration, Tls, parse
from mesh.store.etcd.layout import Layout

PEM = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"
KEY = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----"


def from_file(folder: Path, **keys: Any) -> Configuration:
    (folder / "ca.pem").write_text(PEM)
    (folder / "etcd").write_text(json.dumps(keys))
    return parse(f"etcd:{folder / 'etcd'}")


@pytest.mark.parametrize(
    ("text", "endpoints", "root", "secure"),
    [
        ("etcd:one", ("one:2379",), "", False),
        ("etcd:one:1,two", ("one:1", "two:2379"), "", False),
        ("etcd: http://one:1 , http://two ;rootPrefix=/a/b/", ("one:1", "two:2379"), "/a/b", False),
        ("etcd:https://one;rootPrefix=r", ("one:2379",), "r", True),
        ("etcd://one:1", ("one:1",), "", False),
        ("etcd:[::1]:5,[::2]", ("[::1]:5", "[::2]:2379"), "", False),
        ("ETCD:10.0.0.1:2379", ("10.0.0.1:2379",), "", False),
    ],
)
def test_endpoints(text: str, endpoints: tuple[str, ...], root: str, secure: bool) -> None:
    found = parse(text)
    assert (found.endpoints, found.root, found.tls is not None) == (endpoints, root, secure)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("etcd:", "it has to be etcd:<JSON file> or etcd:<host:port>"),
        ("redis:one", "it has to be etcd:<JSON file> or etcd:<host:port>"),
        ("etcd:/no/such/file", "there is no file /no/such/file"),
        ("etcd:etcd-config.json", "there is no file etcd-config.json"),
        ("etcd:,", "it names no endpoint"),
        ("etcd:one:port", r"endpoint 'one:port': .*an endpoint is \[http"),
        ("etcd:ftp://one", "endpoint 'ftp://one' has to be"),
        ("etcd:one:1/path", "endpoint 'one:1/path' has to be"),
        ("etcd:one two", "endpoint 'one two' has to be"),
        ("etcd:one;rootprefix=x", "'rootprefix' is not known; only rootPrefix=<prefix>"),
        ("etcd:one;rootPrefix=a b", "'a b' must not contain white space"),
    ],
)
def test_endpoints_that_are_wrong(text: str, fault: str) -> None:
    with pytest.raises(Malformed, match=rf"^KV_STORE={text.replace('[', '.')}: .*{fault}"):
        parse(text)


def test_zookeeper_is_not_offered() -> None:
    with pytest.raises(Unsupported, match="ZooKeeper is not supported; move the registry to etcd"):
        parse("zookeeper:one:2181")


def test_a_file_with_everything(tmp_path: Path) -> None:
    found = from_file(
        tmp_path,
        endpoints="https://one:1,two:2",
        userid="me",
        password="secret",
        root_prefix="root",
        certificate_file="ca.pem",
        client_key=KEY,
        client_certificate=PEM,
        override_authority="name",
    )
    tls = Tls(PEM.encode(), KEY.encode(), PEM.encode())
    assert found == Configuration(found.source, ("one:1", "two:2"), "root", tls, "me", "secret", "name")
    assert str(tmp_path / "etcd") in found.source
    assert "secret" not in repr(found)
    assert "PRIVATE" not in repr(found)


@pytest.mark.parametrize(
    ("keys", "secure"),
    [
        ({"endpoints": "one"}, False),
        ({"endpoints": "one", "certificate": PEM}, True),
        ({"endpoints": "http://one", "certificate": PEM}, False),
        ({"endpoints": "https://one"}, True),
        ({"endpoints": "https://one", "tls_mode": "plaintext"}, False),
        ({"endpoints": "http://one", "tls_mode": "TLS"}, True),
        ({"endpoints": "one", "tls_mode": "auto", "client_key": KEY, "client_certificate": PEM}, True),
    ],
)
def test_when_tls_is_spoken(tmp_path: Path, keys: dict[str, str], secure: bool) -> None:
    assert (from_file(tmp_path, **keys).tls is not None) == secure


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({}, "it names no endpoint"),
        ({"endpoints": ["one"]}, r'endpoints has to be a string, not \["one"\]'),
        ({"endpoints": "one", "userid": "me"}, "userid and password go together"),
        ({"endpoints": "one", "password": "p"}, "userid and password go together"),
        ({"endpoints": "one", "client_key": KEY}, r"client_key\(_file\) and client_certificate\(_file\) go together"),
        ({"endpoints": "one", "certificate_file": "no.pem"}, "certificate_file .*no.pem cannot be read: No such file"),
        ({"endpoints": "one", "certificate_file": "etcd"}, "certificate_file etcd has no PEM content"),
        ({"endpoints": "one", "certificate": "x"}, "certificate has no PEM content"),
        ({"endpoints": "one", "certificate": PEM, "certificate_file": "ca.pem"}, "only one of certificate and certificate_file"),
        ({"endpoints": "one", "tls_mode": "SOME"}, "tls_mode 'SOME' has to be TLS, PLAINTEXT or AUTO"),
        ({"endpoints": "one", "root_prefix": "a b"}, "must not contain white space"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, keys: dict[str, Any], fault: str) -> None:
    with pytest.raises(Malformed, match=f"the etcd configuration {tmp_path}/etcd .*{fault}"):
        from_file(tmp_path, **keys)


@pytest.mark.parametrize(("content", "fault"), [("{", "is not JSON"), ("[]", "has to be a JSON object"), ("3", "has to be a JSON object")])
def test_a_file_that_is_no_configuration(tmp_path: Path, content: str, fault: str) -> None:
    (tmp_path / "etcd.json").write_text(content)
    with pytest.raises(Malformed, match=rf"etcd\.json .*{fault}"):
        parse(f"etcd:{tmp_path / 'etcd.json'}")


def test_a_key_that_is_not_known_is_passed_over_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert from_file(tmp_path, endpoints="one", endpoint="two", compose_deployment="x").endpoints == ("one:2379",)
    assert "endpoint: not known" in caplog.text


@pytest.mark.parametrize("prefix", ["", "a/b", "a b"])
def test_a_prefix_that_is_wrong(prefix: str) -> None:
    with pytest.raises(Malformed, match="MM_KVSTORE_PREFIX"):
        Layout("", prefix, "mesh")
