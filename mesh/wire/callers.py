"""Who calls: an address, and whom a certificate names. The express lane tells it to the doors behind it."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass
from urllib.parse import unquote

from mesh.core.errors import Malformed
from mesh.wire.call import Metadata, first

PEER, SUBJECT = "mm-lane-peer", "mm-lane-subject"
"""Metadata of a call that the lane hands over (`lane/src/identity.rs`); nobody but the lane is believed it."""

LONGEST = 4 * 1024
"""Bytes of both."""

_BEGIN = b"\r\n\r\n\0\r\nQUIT\n\x21"
"""Of the PROXY protocol, version 2: its signature, the version, and that a connection is passed on for another."""
_HEAD = struct.Struct("!BH")
_FAMILIES = {0x11: 4, 0x21: 16}
"""Bytes of an address, by family and transport."""
_TLS, _SUBJECT = 0x20, 0xE0
"""Types of what is told of TLS, and in it, of the certificate's subject; the latter is the lane's own."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One who calls.

    Attributes:
        address: in gRPC's words (`ipv4:127.0.0.1:4711`).
        subject: of the certificate that it showed (RFC 4514); None if it showed none.
    """

    address: str
    subject: str | None = None

    @classmethod
    def told(cls, metadata: Metadata) -> Caller | None:
        """As the lane tells it beside a call; None if it does not."""
        address, subject = first(metadata, PEER), first(metadata, SUBJECT)
        return cls(str(address), unquote(str(subject)) if subject is not None else None) if address is not None else None

    def __str__(self) -> str:
        return self.address if self.subject is None else f"{self.address} ({self.subject})"


@dataclass(frozen=True, slots=True)
class Announced:
    """Whose connection the lane passes on (`lane/src/rest/announce.rs`).

    Attributes:
        client, server: addresses and ports of its two ends.
        secure: whether it speaks TLS.
        subject: of the client's certificate (RFC 4514); None if it showed none.
        length: bytes of the announcement.
    """

    client: tuple[str, int]
    server: tuple[str, int]
    secure: bool
    subject: str | None
    length: int


def announced(data: bytes) -> Announced | None:
    """Reads an announcement off the beginning of a connection; None if it is not all there.

    Raises:
        Malformed: it is none.
    """
    begin = data[: len(_BEGIN)]
    if begin != _BEGIN[: len(begin)]:
        raise Malformed("a connection to the REST door's own socket does not begin as the express lane begins one")
    at = len(_BEGIN) + _HEAD.size
    if len(data) < at:
        return None
    family, size = _HEAD.unpack_from(data, len(_BEGIN))
    if len(data) < at + size:
        return None
    told = data[at : at + size]
    width = _FAMILIES.get(family)
    if width is None or size < 2 * width + 4:
        raise Malformed("the express lane announces a client in a way that this router does not know; build both from one version")
    ports = struct.unpack_from("!HH", told, 2 * width)
    client, server = (str(ipaddress.ip_address(told[number * width : (number + 1) * width])) for number in (0, 1))
    secure = _items(told[2 * width + 4 :]).get(_TLS)
    # A byte of flags and four of what the check found come before the items.
    subject = _items(secure[5:]).get(_SUBJECT) if secure is not None else None
    return Announced(
        (client, ports[0]),
        (server, ports[1]),
        secure is not None,
        subject.decode("utf-8", "replace") if subject is not None else None,
        at + size,
    )


def _items(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _HEAD.size <= len(data):
        kind, size = _HEAD.unpack_from(data, at)
        found[kind] = data[at + _HEAD.size : at + _HEAD.size + size]
        at += _HEAD.size + size
    return found
