"""TLS of the doors: all take the same files. The Python doors read them once, at start; the express lane follows their changes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from mesh.core.errors import Malformed
from mesh.settings import ClientAuth, Settings
from mesh.wire import pem

_MODES = {"NONE": ssl.CERT_NONE, "OPTIONAL": ssl.CERT_OPTIONAL, "REQUIRE": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What a door shows and asks for.

    Attributes:
        key, cert: PEM files.
        passphrase: of the key, if it is encrypted.
        client_auth: whether clients show a certificate.
        trust: PEM files to check client certificates with; empty means the system's.
    """

    key: Path
    cert: Path
    passphrase: str | None = None
    client_auth: ClientAuth = "NONE"
    trust: tuple[Path, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> TlsFiles | None:
        """From the settings; None if TLS is off."""
        if settings.tls_key is None or settings.tls_cert is None:
            return None
        return cls(settings.tls_key, settings.tls_cert, settings.tls_passphrase, settings.tls_client_auth, settings.tls_trust)


def grpc_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """What a gRPC server takes.

    Raises:
        Malformed: as `context` does, which tells the reason where gRPC tells none.
    """
    context(files)
    pair = [(pem.private_key(files.key, files.passphrase), files.cert.read_bytes())]
    if files.client_auth == "NONE":
        return grpc.ssl_server_credentials(pair)
    return grpc.ssl_server_credentials(pair, _trusted(files), files.client_auth == "REQUIRE")


@dataclass(frozen=True, slots=True)
class Material:
    """What is in the files, as PEM.

    Attributes:
        key: decrypted.
        chain: of the key.
        clients: whether they show a certificate.
        trust: to check it with; empty if they show none.
    """

    key: bytes = field(repr=False)
    chain: bytes
    clients: ClientAuth
    trust: bytes


def material(files: TlsFiles) -> Material:
    """Reads the files.

    Raises:
        Malformed: as `context` does.
    """
    context(files)
    trust = b"" if files.client_auth == "NONE" else _trusted(files)
    return Material(pem.private_key(files.key, files.passphrase), files.cert.read_bytes(), files.client_auth, trust)


def _trusted(files: TlsFiles) -> bytes:
    """Certificates to check those of clients with, as PEM.

    Raises:
        Malformed: none are named, and the system has none.
    """
    if files.trust:
        return b"\n".join(path.read_bytes() for path in files.trust)
    system = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    system.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    found = "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in system.get_ca_certs(binary_form=True))
    if not found:
        raise Malformed(
            "TLS: MM_TLS_CLIENT_AUTH is set, and the system has no certificates to check those of clients with; set MM_TLS_TRUST_CERT_PATH"
        )
    return found.encode()


def context(files: TlsFiles) -> ssl.SSLContext:
    """Reads the files; TLS 1.2 or later.

    Raises:
        Malformed: names the file that is missing or wrong, and the variable that names it.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    pem.load_pair(made, files.key, files.cert, files.passphrase)
    for path in files.trust:
        pem.read(path, "MM_TLS_TRUST_CERT_PATH")
    made.verify_mode = _MODES[files.client_auth]
    if files.client_auth != "NONE":
        _trust(made, files.trust)
    return made


def _trust(made: ssl.SSLContext, trust: tuple[Path, ...]) -> None:
    if not trust:
        made.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    for path in trust:
        pem.load_trust(made, path, "MM_TLS_TRUST_CERT_PATH")
