"""How an etcd is reached, read from `KV_STORE` in the forms that ModelMesh knows (reference 7.1)."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mesh.core.errors import Malformed, Unsupported

log = logging.getLogger(__name__)

DEFAULT_PORT = 2379
_KNOWN = frozenset(
    [
        "endpoints",
        "userid",
        "password",
        "root_prefix",
        "override_authority",
        "tls_mode",
        "compose_deployment",
        "certificate",
        "certificate_file",
        "client_key",
        "client_key_file",
        "client_certificate",
        "client_certificate_file",
    ]
)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM contents; without `authority` gRPC's own list of authorities is used."""

    authority: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """One etcd.

    Attributes:
        source: where this stands, for messages.
        endpoints: `host:port`, in the order in which they are tried.
        root: first part of every key; may be empty or have several parts.
        authority: name that stands in for the endpoint's in TLS and in the calls' authority.
    """

    source: str
    endpoints: tuple[str, ...]
    root: str = ""
    tls: Tls | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    authority: str = ""


def parse(kv_store: str) -> Configuration:
    """Reads the value of `KV_STORE`.

    Raises:
        Malformed: names the setting or the file, and its fault.
        Unsupported: it is another kind of store.
    """
    kind, _, rest = kv_store.strip().partition(":")
    if kind.lower() == "zookeeper":
        raise Unsupported(f"KV_STORE={kv_store}: ZooKeeper is not supported; move the registry to etcd and set KV_STORE=etcd:<endpoints>")
    if kind.lower() != "etcd" or not rest.strip():
        raise Malformed(f"KV_STORE={kv_store}: it has to be etcd:<JSON file> or etcd:<host:port>,<host:port>;rootPrefix=<prefix>")
    rest = rest.strip()
    file = Path(rest)
    if file.is_file():
        return _File(file).configuration()
    if (rest.startswith(("/", ".", "~")) and not rest.startswith("//")) or rest.endswith(".json"):
        raise Malformed(f"KV_STORE={kv_store}: there is no file {file}; it has to be etcd:<JSON file> or etcd:<endpoints>")
    return _simple(kv_store, rest.removeprefix("//"))


def _simple(kv_store: str, text: str) -> Configuration:
    source = f"KV_STORE={kv_store}"
    endpoints, *options = text.split(";")
    root = ""
    for option in filter(None, map(str.strip, options)):
        name, _, value = option.partition("=")
        if name.strip() != "rootPrefix":
            raise Malformed(f"{source}: {name.strip()!r} is not known; only rootPrefix=<prefix> can follow the endpoints")
        root = value.strip()
    addresses, secure = _endpoints(source, endpoints)
    return Configuration(source, addresses, _root(source, root), Tls() if secure else None)


class _File:
    """A JSON file; what it names relatively lies beside it."""

    def __init__(self, path: Path) -> None:
        self._source, self._folder = f"the etcd configuration {path} (KV_STORE)", path.parent
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise Malformed(f"{self._source} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise Malformed(f"{self._source} is not JSON: {error}") from None
        if not isinstance(data, dict):
            raise Malformed(f"{self._source} has to be a JSON object with at least the key 'endpoints'")
        self._data: dict[str, Any] = data

    def configuration(self) -> Configuration:
        if unknown := sorted(set(self._data) - _KNOWN):
            log.warning("%s: %s: not known, passed over; known are %s", self._source, ", ".join(unknown), ", ".join(sorted(_KNOWN)))
        addresses, secure = _endpoints(self._source, self._text("endpoints"))
        user, password = self._text("userid"), self._text("password")
        if bool(user) != bool(password):
            raise Malformed(f"{self._source}: userid and password go together; only one is set")
        root = _root(self._source, self._text("root_prefix"))
        return Configuration(self._source, addresses, root, self._tls(secure), user, password, self._text("override_authority"))

    def _tls(self, secure: bool | None) -> Tls | None:
        authority, key, certificate = self._pem("certificate"), self._pem("client_key"), self._pem("client_certificate")
        if bool(key) != bool(certificate):
            raise Malformed(f"{self._source}: client_key(_file) and client_certificate(_file) go together; only one is set")
        mode = self._text("tls_mode").upper() or "AUTO"
        if mode not in ("TLS", "PLAINTEXT", "AUTO"):
            raise Malformed(f"{self._source}: tls_mode {mode!r} has to be TLS, PLAINTEXT or AUTO")
        if mode == "AUTO":
            # An address without a scheme is secure if there is something to secure it with.
            mode = "TLS" if secure or (secure is None and (authority or key)) else "PLAINTEXT"
        return Tls(authority, key, certificate) if mode == "TLS" else None

    def _pem(self, name: str) -> bytes | None:
        inline, named = self._text(name), self._text(f"{name}_file")
        if inline and named:
            raise Malformed(f"{self._source}: only one of {name} and {name}_file can be set")
        if not named:
            content = inline.encode()
        else:
            try:
                content = (self._folder / named).read_bytes()
            except OSError as error:
                raise Malformed(f"{self._source}: {name}_file {self._folder / named} cannot be read: {error.strerror or error}") from None
        if content and b"-----BEGIN" not in content:
            raise Malformed(f"{self._source}: {f'{name}_file {named}' if named else name} has no PEM content (-----BEGIN …)")
        return content or None

    def _text(self, name: str) -> str:
        value = self._data.get(name)
        if value is not None and not isinstance(value, str):
            raise Malformed(f"{self._source}: {name} has to be a string, not {json.dumps(value)}")
        return (value or "").strip()


def _endpoints(source: str, text: str) -> tuple[tuple[str, ...], bool | None]:
    """Addresses, and whether the first one's scheme asks for TLS; None without a scheme."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise Malformed(f"{source}: it names no endpoint; an endpoint is [http(s)://]host[:port]")
    split = [urlsplit(part if "://" in part else f"//{part}") for part in parts]
    addresses = []
    for part, url in zip(parts, split, strict=True):
        try:
            host, port = url.hostname, url.port or DEFAULT_PORT
        except ValueError as error:
            raise Malformed(f"{source}: endpoint {part!r}: {error}; an endpoint is [http(s)://]host[:port]") from None
        if (
            not host
            or any(letter.isspace() for letter in host)
            or url.scheme not in ("", "http", "https")
            or url.path.strip("/")
            or url.query
        ):
            raise Malformed(f"{source}: endpoint {part!r} has to be [http(s)://]host[:port]")
        addresses.append(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return tuple(addresses), {"": None, "http": False, "https": True}[split[0].scheme]


def _root(source: str, root: str) -> str:
    if any(letter.isspace() for letter in root):
        raise Malformed(f"{source}: the root prefix {root!r} must not contain white space")
    return root.rstrip("/")
