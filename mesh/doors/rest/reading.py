"""The body of a request: read up to a limit, unpacked, parsed."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping

import orjson
from starlette.requests import ClientDisconnect, Request

from mesh.core.errors import Cancelled, Malformed, TooLarge
from mesh.doors.rest.fields import Object

ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})
"""What `Content-Encoding` may say; tritonclient sends gzip and deflate."""


async def whole(request: Request, limit: int) -> bytes:
    """The body, unpacked if it came compressed; `limit` in bytes holds for both forms.

    Raises:
        TooLarge: found before more than `limit` bytes are kept.
        Malformed: not compressed as it says.
        Cancelled: the client left while sending.
    """
    encoding = encoded(request.headers)
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length) > limit:
        raise _too_large(f"{length} bytes", limit)
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_large("larger", limit)
            parts.append(part)
    except ClientDisconnect:
        raise Cancelled("the client left before its request was complete") from None
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return unpack(body, limit) if encoding and body else body


def encoded(headers: Mapping[str, str]) -> bool:
    """Whether the body is compressed.

    Raises:
        Malformed: in a way that is not offered.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in ENCODINGS:
        return True
    if encoding in ("", "identity"):
        return False
    raise Malformed(f"Content-Encoding {encoding!r} is not taken; send gzip, deflate or no encoding")


def unpack(body: bytes, limit: int) -> bytes:
    """Gzip or zlib data, any number of members, to at most `limit` bytes.

    Raises:
        TooLarge, Malformed: as for `whole`.
    """
    parts: list[bytes] = []
    room, rest = limit, body
    while rest:
        inflater = zlib.decompressobj(wbits=47)  # 32 + 15: the header tells gzip from zlib
        try:
            part = inflater.decompress(rest, room + 1)
        except zlib.error as error:
            raise Malformed(f"the body is not compressed as Content-Encoding says: {error}") from None
        room -= len(part)
        if room < 0:
            raise _too_large("larger when unpacked", limit)
        if not inflater.eof:
            raise Malformed("the compressed body ends too early")
        parts.append(part)
        rest = inflater.unused_data
    return b"".join(parts)


def parse(body: bytes) -> Object:
    """The JSON object in `body`; NaN, Infinity and -Infinity are taken as numbers.

    Raises:
        Malformed: empty, no JSON (with line and column), or no object.
    """
    if not body or body.isspace():
        raise Malformed("the body is empty; send a JSON object with 'inputs'")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _lenient(body, error)
    if not isinstance(document, dict):
        raise Malformed(f"the body must be a JSON object, not {_KINDS.get(type(document), 'a number')}")
    return document


_KINDS = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}


def _lenient(body: bytes, first: json.JSONDecodeError) -> object:
    """Parses with the standard library, several times slower, for what orjson refuses by the letter of JSON: NaN and infinities."""
    error = first
    if b"NaN" in body or b"Infinity" in body:
        try:
            document = json.loads(body.decode(), parse_int=_whole, parse_float=_real)
            orjson.dumps(document)  # refuses lone surrogates, which protobuf cannot carry
            return document
        except json.JSONDecodeError as found:
            error = found
        except (ValueError, TypeError, RecursionError) as found:
            raise Malformed(f"the body is no valid JSON: {found}") from None
    raise Malformed(f"the body is no valid JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None


def _whole(digits: str) -> int | float:
    """As orjson: a whole number beyond 64 bits is a float."""
    value = int(digits) if len(digits) < 21 else 2**64
    return value if -(2**63) <= value < 2**64 else _real(digits)


def _real(digits: str) -> float:
    """As orjson: a number too large for a double is no infinity but a mistake."""
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _too_large(what: str, limit: int) -> TooLarge:
    return TooLarge(f"the body is {what}; the limit is {limit} bytes (MM_SVC_GRPC_MAX_MSG_SIZE)")
