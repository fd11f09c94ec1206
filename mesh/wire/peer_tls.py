"""TLS between pods: both sides show the certificate of the doors and check the other's (reference 11.3, with its Q16 put right).

Trusted are the pod's own chain, the cluster's authority, and `MM_INTERNAL_TRUST_CERTS`; not the system's authorities, and not those of
clients (`MM_TLS_TRUST_CERT_PATH`), for who may call a door may not speak as a pod. Pods are dialled by address, so a certificate's names
say nothing of who may be meant; gRPC checks them all the same, and is told to look for a name of the pod's own certificate. So pods that
have certificates of their own each need one DNS name in common.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from mesh.core.errors import Malformed
from mesh.settings import Settings
from mesh.wire import pem

CLUSTER_AUTHORITY = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
"""Where Kubernetes puts the certificate of its authority into every pod."""
_TRUST = "MM_INTERNAL_TRUST_CERTS"


@dataclass(frozen=True, slots=True)
class PeerTls:
    """What a pod shows to others, and whom it trusts.

    Attributes:
        key, chain, trust: as PEM.
        name: that the certificate of another pod must have.
        mutual: whether a pod that calls must show a certificate.
    """

    key: bytes = field(repr=False)
    chain: bytes
    trust: bytes
    name: str
    mutual: bool

    @classmethod
    def of(cls, settings: Settings) -> PeerTls | None:
        """Reads the files; None where pods talk plaintext.

        Raises:
            Malformed: a file is missing or wrong, or pods with this certificate would refuse each other; names file and variable.
        """
        key, cert = settings.tls_key, settings.tls_cert
        if not settings.peer_tls or key is None or cert is None:
            return None
        trust = [cert, *_files(settings.peer_trust), *([CLUSTER_AUTHORITY] if CLUSTER_AUTHORITY.is_file() else ())]
        name = _rehearse(key, cert, settings.tls_passphrase, trust, mutual=settings.peer_client_auth)
        return cls(
            pem.private_key(key, settings.tls_passphrase),
            cert.read_bytes(),
            b"\n".join(path.read_bytes() for path in trust),
            name,
            settings.peer_client_auth,
        )

    def server_credentials(self) -> grpc.ServerCredentials:
        """Of the server that pods call."""
        return grpc.ssl_server_credentials([(self.key, self.chain)], self.trust, self.mutual)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Of a channel to a pod."""
        return grpc.ssl_channel_credentials(self.trust, self.key, self.chain)


def _files(paths: Sequence[Path]) -> list[Path]:
    """The PEM files of files and folders."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(entry for entry in path.iterdir() if entry.suffix in (".pem", ".crt")) if path.is_dir() else [path]
        if not inside:
            raise Malformed(f"TLS: {path} ({_TRUST}) has no .pem or .crt files")
        found += inside
    return found


def _rehearse(key: Path, cert: Path, passphrase: str | None, trust: Sequence[Path], *, mutual: bool) -> str:
    """Lets a pod shake hands with itself, and answers the name in its certificate; what fails here would fail between any two pods."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    for context in (server, client):
        pem.load_pair(context, key, cert, passphrase)
        context.verify_mode = ssl.CERT_REQUIRED if mutual or context is client else ssl.CERT_NONE
        # A chain need not reach up to an authority that signed itself, as gRPC has it, too.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        pem.load_trust(context, cert, "MM_TLS_KEY_CERT_PATH")
        for path in trust[1:]:
            pem.load_trust(context, path, _TRUST)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller, called = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    try:
        for side in (caller, called, caller, called):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLCertVerificationError as error:
        raise Malformed(
            f"TLS: pods cannot use {cert} (MM_TLS_KEY_CERT_PATH) with each other: {error.verify_message}; renew it, or give it the usages "
            "of servers and of clients; MM_INTRACLUSTER_CLIENTAUTH=false does without the latter, "
            "MM_ENABLE_SSL=false lets pods talk plaintext"
        ) from None
    return _name(caller.getpeercert() or {}, cert)


def _name(certificate: Mapping[str, Any], cert: Path) -> str:
    """A name that gRPC finds in the certificate."""
    names: list[tuple[str, str]] = list(certificate.get("subjectAltName", ()))
    if not names:
        names = [("DNS", value) for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    for wanted in ("DNS", "IP Address"):
        for kind, value in names:
            if kind == wanted:
                return f"pod{value[1:]}" if value.startswith("*.") else value
    raise Malformed(f"TLS: {cert} (MM_TLS_KEY_CERT_PATH) has neither a DNS name, an address nor a common name; pods need one to know it by")
