"""Headers of HTTP and metadata of gRPC: what travels in, and what comes back."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from mesh.core.errors import Malformed
from mesh.wire.call import REQUEST_ID, Metadata, first

PREFIX = "grpc-metadata-"
"""grpc-gateway's: `Grpc-Metadata-X: v` is the metadata `x: v`, in both directions."""

PLAIN = frozenset({"traceparent", "tracestate", "x-request-id", "authorization"})
"""Headers that travel under their own name, beside `mm-*`."""

NAMING = frozenset({"mm-model-id", "mm-model-id-bin", "mm-vmodel-id", "mm-vmodel-id-bin", "tas-model-id"})
"""Metadata that names the model; over REST the path does, so these are dropped."""

TRANSPORT = frozenset({"content-type", "te", "user-agent", "host", "connection"})
"""Names that belong to the transport of the call that leaves; metadata cannot set them."""

UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
"""Seconds of each unit of `Grpc-Timeout` (PROTOCOL-HTTP2 of gRPC)."""

_NAME = re.compile(r"[0-9a-z_.-]+")
_TIMEOUT = re.compile(r"(\d{1,8})([HMSmun])")
_VISIBLE = re.compile(r"[ -~]*")


def inward(raw: Iterable[tuple[bytes, bytes]]) -> Metadata:
    """The metadata of a call from its HTTP headers (names in lower case, as ASGI has them); others are dropped.

    Raises:
        Malformed: a header that travels has a name or value that gRPC cannot carry.
    """
    metadata: list[tuple[str, str | bytes]] = []
    for key, value in raw:
        header = key.decode("latin-1")
        if header.startswith(PREFIX):
            name = header[len(PREFIX) :]
        elif header.startswith("mm-") or header in PLAIN:
            name = header
        else:
            continue
        if name in NAMING or name in TRANSPORT or name.startswith("grpc-"):
            continue
        if not _NAME.fullmatch(name):
            raise Malformed(f"header {header}: {name!r} is no name of gRPC metadata; use letters, digits, '-', '_' and '.'")
        metadata.append((name, _value(header, name, value)))
    return tuple(metadata)


def _value(header: str, name: str, value: bytes) -> str | bytes:
    text = value.decode("latin-1")
    if name.endswith("-bin"):
        try:
            # gRPC peers may leave the padding out.
            return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise Malformed(f"header {header}: the value of a name ending in '-bin' must be base64") from None
    if not _VISIBLE.fullmatch(text):
        raise Malformed(f"header {header}: the value has characters outside printable ASCII; send them under a name ending in '-bin'")
    return text


def timeout(value: str | None) -> float | None:
    """Seconds that `Grpc-Timeout` grants; None without the header.

    Raises:
        Malformed: it is not up to eight digits and one of the units H, M, S, m, u, n.
    """
    if value is None:
        return None
    found = _TIMEOUT.fullmatch(value.strip())
    if found is None:
        raise Malformed(f"header Grpc-Timeout: {printable(value)!r} is no duration; write up to 8 digits and a unit: H, M, S, m, u or n")
    return int(found[1]) * UNITS[found[2]]


def outward(metadata: Metadata) -> dict[str, str]:
    """HTTP headers from the runtime's response headers: `x` becomes `grpc-metadata-x`; `-bin` values in base64."""
    headers: dict[str, str] = {}
    for name, value in metadata:
        text = base64.b64encode(value).decode() if isinstance(value, bytes) else printable(value)
        key = PREFIX + name
        # A name may come more than once; HTTP joins the values of one header with a comma.
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def request_id(trailers: Metadata) -> dict[str, str]:
    """The header that names a request which was no plain hit; none for others."""
    found = first(trailers, REQUEST_ID)
    return {REQUEST_ID: found} if isinstance(found, str) else {}


def printable(text: str) -> str:
    """The text without what a header's value cannot hold: one line of printable ASCII."""
    return re.sub(r"[^ -~]+", " ", text).strip()
