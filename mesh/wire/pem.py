"""PEM files that settings name."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

from mesh.core.errors import Malformed


def read(path: Path, variable: str) -> bytes:
    """The file.

    Raises:
        Malformed: it cannot be read; names it, and the variable that names it.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise Malformed(f"TLS: {path} ({variable}) cannot be read: {error.strerror}") from None


def private_key(path: Path, passphrase: str | None) -> bytes:
    """The private key of the doors as gRPC wants it, which cannot read encrypted ones.

    Raises:
        Malformed: it cannot be decrypted.
    """
    if not passphrase:
        return read(path, "MM_TLS_PRIVATE_KEY_PATH")
    command = ["openssl", "pkey", "-in", str(path), "-passin", "env:MESH_KEY_PASSPHRASE"]
    try:
        done = subprocess.run(command, env={**os.environ, "MESH_KEY_PASSPHRASE": passphrase}, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Malformed(f"{path} (MM_TLS_PRIVATE_KEY_PATH) is encrypted and the openssl command cannot decrypt it: {error}") from None
    return done.stdout


def load_pair(into: ssl.SSLContext, key: Path, cert: Path, passphrase: str | None) -> None:
    """Makes `into` show a certificate.

    Raises:
        Malformed: a file is missing or wrong, or they do not belong together.
    """
    read(key, "MM_TLS_PRIVATE_KEY_PATH")
    read(cert, "MM_TLS_KEY_CERT_PATH")
    try:
        # Without a passphrase OpenSSL would ask on the terminal.
        into.load_cert_chain(cert, key, passphrase or "")
    except ssl.SSLError as error:
        raise Malformed(
            f"TLS: {key} (MM_TLS_PRIVATE_KEY_PATH) and {cert} (MM_TLS_KEY_CERT_PATH) cannot be used together: "
            f"{error.reason or error}; check that they belong together, and MM_TLS_PRIVATE_KEY_PASSPHRASE if the key is encrypted"
        ) from None


def load_trust(into: ssl.SSLContext, path: Path, variable: str) -> None:
    """Makes `into` trust the certificates of a file.

    Raises:
        Malformed: it cannot be read, or has none.
    """
    read(path, variable)
    try:
        into.load_verify_locations(path)
    except ssl.SSLError as error:
        raise Malformed(f"TLS: {path} ({variable}) has no PEM certificates: {error.reason or error}") from None
