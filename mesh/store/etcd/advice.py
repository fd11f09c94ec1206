"""What to do about an answer of etcd, or about none."""

from __future__ import annotations

import grpc

_NO_MAJORITY = (
    "more than half of its nodes have to run and reach each other; check them (etcdctl endpoint status --cluster), then try again"
)

_SILENCE = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted; set certificate_file to that of its authority"),
    ("Hostname Verification", "its certificate is for another name than the endpoint's; use that name, or set override_authority to it"),
    ("_CERTIFICATE", "it does not accept the client's certificate; set client_key_file and client_certificate_file"),
    ("andshake read failed", "it does not speak TLS; use http:// or tls_mode PLAINTEXT"),
    ("context deadline exceeded", _NO_MAJORITY),
    ("etcdserver: no leader", _NO_MAJORITY),
    ("etcdserver: request timed out", _NO_MAJORITY),
)
"""By what gRPC says of a handshake, or a node of its cluster; the first that is found counts."""


def on_silence(details: str) -> str:
    """For an etcd that did not answer."""
    known = (advice for text, advice in _SILENCE if text in details)
    return next(known, "check that it runs and can be reached, and whether it wants TLS")


def on_refusal(code: grpc.StatusCode, details: str, user: str) -> str:
    """For an etcd that answered with an error."""
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return f"grant user {user!r} a role that reads and writes the mesh's keys"
    if "invalid user ID or password" in details:
        return f"check userid ({user!r}) and password"
    if "user name is empty" in details:
        return "it wants a user; set userid and password in the JSON file that KV_STORE names"
    if "space exceeded" in details:
        return "compact and defragment it, then disarm its alarm (etcdctl alarm disarm)"
    if "too large" in details:
        return "a record is larger than etcd takes (its --max-request-bytes); shorten the model's key or path"
    return "see etcd's log"
