"""Certificates of the doors, read once at start."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from mesh.core.errors import Malformed
from mesh.settings import ClientAuth, Settings


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a door's key and certificates lie."""

    key: Path
    cert: Path
    passphrase: str | None = None
    client_auth: ClientAuth = "NONE"
    trust: tuple[Path, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> TlsFiles | None:
        """What the settings name; None for plaintext."""
        if settings.tls_key is None or settings.tls_cert is None:
            return None
        return cls(settings.tls_key, settings.tls_cert, settings.tls_passphrase, settings.tls_client_auth, settings.tls_trust)


def grpc_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Server credentials for gRPC.

    Raises:
        Malformed: a file cannot be read or used; names it.
    """
    key = _read(files.key, "MM_TLS_PRIVATE_KEY_PATH")
    chain = _read(files.cert, "MM_TLS_KEY_CERT_PATH")
    check(files)
    if files.client_auth == "NONE":
        return grpc.ssl_server_credentials([(key, chain)])
    paths = files.trust or (Path(ssl.get_default_verify_paths().openssl_cafile),)
    trust = b"\n".join(_read(path, "MM_TLS_TRUST_CERT_PATH") for path in paths)
    return grpc.ssl_server_credentials([(key, chain)], trust, files.client_auth == "REQUIRE")


def check(files: TlsFiles) -> ssl.SSLContext:
    """An SSL context of the same files; gRPC itself tells no reason when key and certificate do not fit.

    Raises:
        Malformed: names the files and the fault.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.cert, files.key, files.passphrase or "")
    except (OSError, ssl.SSLError) as error:
        raise Malformed(f"MM_TLS_KEY_CERT_PATH={files.cert} and MM_TLS_PRIVATE_KEY_PATH={files.key} cannot be used: {error}") from None
    return context


def _read(path: Path, variable: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Malformed(f"{variable}={path} cannot be read: {error}") from None
