"""TLS of the gRPC door, from the same files as the REST door's."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import grpc

from mesh.core.errors import Malformed
from mesh.doors.rest.tls import TlsFiles


def grpc_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Server credentials for gRPC.

    Raises:
        Malformed: a file cannot be read or used; names it.
    """
    # gRPC tells no reason when key and certificate do not fit; this does.
    files.context()
    pair = [(_key(files), files.cert.read_bytes())]
    if files.client_auth == "NONE":
        return grpc.ssl_server_credentials(pair)
    paths = files.trust or (Path(ssl.get_default_verify_paths().cafile or ""),)
    trust = b"\n".join(path.read_bytes() for path in paths)
    return grpc.ssl_server_credentials(pair, trust, files.client_auth == "REQUIRE")


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
