"""TLS of the doors: both take the same files, read once at start."""

from __future__ import annotations

import os
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc

from mesh.core.errors import Malformed
from mesh.settings import ClientAuth, Settings

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
    pair = [(_key(files), files.cert.read_bytes())]
    if files.client_auth == "NONE":
        return grpc.ssl_server_credentials(pair)
    paths = files.trust or (Path(ssl.get_default_verify_paths().cafile or ""),)
    trust = b"\n".join(path.read_bytes() for path in paths)
    return grpc.ssl_server_credentials(pair, trust, files.client_auth == "REQUIRE")


def context(files: TlsFiles) -> ssl.SSLContext:
    """Reads the files; TLS 1.2 or later.

    Raises:
        Malformed: names the file that is missing or wrong, and the variable that names it.
    """
    for path, variable in [
        (files.key, "MM_TLS_PRIVATE_KEY_PATH"),
        (files.cert, "MM_TLS_KEY_CERT_PATH"),
        *((path, "MM_TLS_TRUST_CERT_PATH") for path in files.trust),
    ]:
        _readable(path, variable)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a passphrase OpenSSL would ask on the terminal.
        made.load_cert_chain(files.cert, files.key, files.passphrase or "")
    except ssl.SSLError as error:
        raise Malformed(
            f"TLS: {files.key} (MM_TLS_PRIVATE_KEY_PATH) and {files.cert} (MM_TLS_KEY_CERT_PATH) cannot be used together: "
            f"{error.reason or error}; check that they belong together, and MM_TLS_PRIVATE_KEY_PASSPHRASE if the key is encrypted"
        ) from None
    made.verify_mode = _MODES[files.client_auth]
    if files.client_auth != "NONE":
        _trust(made, files.trust)
    return made


def _trust(made: ssl.SSLContext, trust: tuple[Path, ...]) -> None:
    if not trust:
        made.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    for path in trust:
        try:
            made.load_verify_locations(path)
        except ssl.SSLError as error:
            raise Malformed(f"TLS: {path} (MM_TLS_TRUST_CERT_PATH) has no PEM certificates: {error.reason or error}") from None


def _readable(path: Path, variable: str) -> None:
    try:
        path.read_bytes()
    except OSError as error:
        raise Malformed(f"TLS: {path} ({variable}) cannot be read: {error.strerror}") from None


def _key(files: TlsFiles) -> bytes:
    """The private key as gRPC wants it, which cannot read encrypted ones."""
    if not files.passphrase:
        return files.key.read_bytes()
    command = ["openssl", "pkey", "-in", str(files.key), "-passin", "env:MESH_KEY_PASSPHRASE"]
    try:
        done = subprocess.run(command, env={**os.environ, "MESH_KEY_PASSPHRASE": files.passphrase}, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Malformed(f"{files.key} (MM_TLS_PRIVATE_KEY_PATH) is encrypted and the openssl command cannot decrypt it: {error}") from None
    return done.stdout
