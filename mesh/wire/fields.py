"""One length-delimited field of a serialised protobuf message, read or replaced without decoding the message.

A path is the field numbers from the message down to the field: `(1,)` is a field of the message itself, `(4, 2)` is field 2 of the
message in field 4. Only the first occurrence of each field in wire order counts. `tests/vectors/splice.json` pins every rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mesh.core.errors import Malformed

LENGTH_DELIMITED = 2
_VARINT, _FIXED64, _GROUP, _END_GROUP, _FIXED32 = 0, 1, 3, 4, 5
_LONGEST_VARINT = 10
_LARGEST_TAG = (1 << 32) - 1
_DEEPEST_GROUP = 100  # The nesting that protobuf's own parsers accept.
LARGEST_FIELD = (1 << 29) - 1
"""Field numbers end here (protobuf language specification)."""


class _Found(NamedTuple):
    """Offsets of one length-delimited field: its length varint, its value, the value's end."""

    length: int
    start: int
    end: int


class _Broken(Exception):
    """The bytes are no protobuf message, or the field is of another type."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


def read(message: bytes, path: tuple[int, ...]) -> bytes | None:
    """The value of the field at `path`; None if it, or a message around it, is absent.

    Raises:
        Malformed: the bytes up to the field are no protobuf message, or a field of the path is not length-delimited.
        ValueError: `path` is no path.
    """
    one_byte_each = len(message) > 2 and message[0] < 0x80 and message[1] < 0x80
    if one_byte_each and len(path) == 1 and message[0] == path[0] << 3 | LENGTH_DELIMITED:
        end = 2 + message[1]  # The usual case: the field comes first and is short.
        if end <= len(message):
            return message[2:end]
    chain = _locate(message, path)
    return message[chain[-1].start : chain[-1].end] if len(chain) == len(path) else None


def replace(message: bytes, path: tuple[int, ...], value: bytes) -> bytes:
    """The message with `value` as the field at `path`; the same object if it has that value already.

    An absent field, with the messages around it that are absent too, is appended at the end of the innermost message that is there.
    The lengths of all messages around the field are put right; every other byte stays as it was.

    Raises:
        Malformed, ValueError: as `read`.
    """
    chain = _locate(message, path)
    if len(chain) == len(path):
        field = chain.pop()
        if message[field.start : field.end] == value:
            return message
        start, end, middle = field.length, field.end, _varint(len(value)) + value
    else:
        middle = value
        for number in reversed(path[len(chain) :]):
            middle = _varint(number << 3 | LENGTH_DELIMITED) + _varint(len(middle)) + middle
        start = end = chain[-1].end if chain else len(message)
    parts = [middle, message[end:]]
    growth = len(middle) - (end - start)
    for around in reversed(chain):
        length = _varint(around.end - around.start + growth)
        parts[:0] = [length, message[around.start : start]]
        growth += len(length) - (around.start - around.length)
        start = around.length
    return b"".join([message[:start], *parts])


def walk(message: bytes, most: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message in wire order: number, offset of its tag, start and end of its value.

    A field that is not length-delimited has no value of its own here: its start is that of its tag.

    Args:
        most: after so many fields no further one is looked at.

    Raises:
        Malformed: the bytes are no protobuf message, as far as they were looked at.
    """
    at = 0
    try:
        for _ in range(most):
            if at >= len(message):
                return
            tag, after = _read_tag(message, at, len(message))
            if tag & 7 == LENGTH_DELIMITED:
                start, end = _read_length(message, after, len(message))
            else:
                start, end = at, _skip(message, at, len(message))
            yield tag >> 3, at, start, end
            at = end
    except _Broken as fault:
        raise Malformed(f"the request is no protobuf message: {fault} at byte {fault.offset} of {len(message)}") from None


def _locate(message: bytes, path: tuple[int, ...]) -> list[_Found]:
    """The fields of `path` that are there, outermost first; fewer than the path has if one is absent."""
    if not path or not all(1 <= number <= LARGEST_FIELD for number in path):
        raise ValueError(f"a field path is one or more field numbers from 1 to {LARGEST_FIELD}, not {path!r}")
    chain: list[_Found] = []
    start, end = 0, len(message)
    try:
        for number in path:
            found = _find(message, start, end, number)
            if found is None:
                break
            chain.append(found)
            start, end = found.start, found.end
    except _Broken as fault:
        name = ".".join(map(str, path))
        raise Malformed(
            f"field {name} of the request message cannot be found: {fault} at byte {fault.offset} of {len(message)}; "
            f"send a protobuf message that has a string in field {name}"
        ) from None
    return chain


def _find(data: bytes, at: int, end: int, wanted: int) -> _Found | None:
    """The first occurrence of field `wanted` in the message from `at` to `end`."""
    while at < end:
        tag, after = _read_tag(data, at, end)
        if tag >> 3 != wanted:
            at = _skip(data, at, end)
            continue
        if tag & 7 != LENGTH_DELIMITED:
            raise _Broken(at, f"wire type {tag & 7} instead of {LENGTH_DELIMITED} for field {wanted}")
        start, stop = _read_length(data, after, end)
        return _Found(after, start, stop)
    return None


def _skip(data: bytes, at: int, end: int) -> int:
    """The offset after the field that begins at `at`; groups are skipped with what is in them."""
    groups: list[int] = []
    while True:
        tag, after = _read_tag(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            after = _read_varint(data, after, end)[1]
        elif kind == LENGTH_DELIMITED:
            after = _read_length(data, after, end)[1]
        elif kind in (_FIXED64, _FIXED32):
            after += 8 if kind == _FIXED64 else 4
            if after > end:
                raise _Broken(at, f"truncated field {number}")
        elif kind == _GROUP:
            if len(groups) == _DEEPEST_GROUP:
                raise _Broken(at, f"more than {_DEEPEST_GROUP} groups within each other")
            groups.append(number)
        elif kind == _END_GROUP:
            if not groups or groups.pop() != number:
                raise _Broken(at, f"end of group {number} which is not open")
        else:
            raise _Broken(at, f"unknown wire type {kind}")
        if not groups:
            return after
        if after >= end:
            raise _Broken(after, f"group {groups[-1]} without an end")
        at = after


def _read_tag(data: bytes, at: int, end: int) -> tuple[int, int]:
    tag, after = _read_varint(data, at, end)
    if not 8 <= tag <= _LARGEST_TAG:
        raise _Broken(at, f"field number {tag >> 3}, which does not exist,")
    return tag, after


def _read_length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Start and end of the value whose length is at `at`."""
    size, start = _read_varint(data, at, end)
    if size > end - start:
        raise _Broken(at, f"length {size} beyond the end")
    return start, start + size


def _read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at `at`, and the offset after it. Bits beyond the 64th are kept, so that no bad length looks like a good one."""
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = 0
    for index in range(_LONGEST_VARINT):
        if at + index >= end:
            raise _Broken(at, "truncated number")
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise _Broken(at, f"number of more than {_LONGEST_VARINT} bytes")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
