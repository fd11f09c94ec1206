"""The datatypes of KServe v2: checking values, packing them as little-endian bytes, and the reverse.

Work on elements stays inside C loops (`set(map(type, …))`, `min`, `struct`), so a tensor costs tens of nanoseconds an element.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from mesh.core.errors import Malformed

Family = Literal["bool", "int", "float", "bytes"]


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype.

    Attributes:
        name: as requests spell it.
        family: which JSON values it takes.
        size: bytes of an element; 0 if it varies.
        code: format of the `struct` module; empty for BF16 and BYTES.
        field: of `InferTensorContents`; empty if the datatype travels as raw bytes only.
        low, high: bounds of a finite value.
    """

    name: str
    family: Family
    size: int
    code: str = ""
    field: str = ""
    low: float = -math.inf
    high: float = math.inf


def _whole(name: str, size: int, code: str, field: str) -> Datatype:
    bits = 8 * size
    low, high = (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return Datatype(name, "int", size, code, field, low, high)


def _real(name: str, size: int, code: str, field: str, high: float) -> Datatype:
    return Datatype(name, "float", size, code, field, -high, high)


TABLE: dict[str, Datatype] = {
    kind.name: kind
    for kind in (
        Datatype("BOOL", "bool", 1, "?", "bool_contents"),
        _whole("UINT8", 1, "B", "uint_contents"),
        _whole("UINT16", 2, "H", "uint_contents"),
        _whole("UINT32", 4, "I", "uint_contents"),
        _whole("UINT64", 8, "Q", "uint64_contents"),
        _whole("INT8", 1, "b", "int_contents"),
        _whole("INT16", 2, "h", "int_contents"),
        _whole("INT32", 4, "i", "int_contents"),
        _whole("INT64", 8, "q", "int64_contents"),
        _real("FP16", 2, "e", "", 65504.0),
        _real("BF16", 2, "", "", float.fromhex("0x1.fep127")),
        _real("FP32", 4, "f", "fp32_contents", float.fromhex("0x1.fffffep127")),
        _real("FP64", 8, "d", "fp64_contents", float.fromhex("0x1.fffffffffffffp1023")),
        Datatype("BYTES", "bytes", 0, "", "bytes_contents"),
    )
}
"""All datatypes of the protocol, with its tensor data types and `InferTensorContents`."""

SHORT = 1024
"""FP32 tensors up to this many elements are printed in few digits, which costs a microsecond an element; larger ones as exact doubles."""

NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""Strings that stand for the numbers JSON lacks, as in proto3 JSON."""

_INTEGER = re.compile(r"-?\d{1,20}", re.ASCII)
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def datatype(name: str, place: str) -> Datatype:
    """Looks up a datatype.

    Raises:
        Malformed: there is none of that name.
    """
    kind = TABLE.get(name)
    if kind is None:
        raise Malformed(f"{place}: datatype {name!r} is unknown; use one of {', '.join(TABLE)}")
    return kind


def check(kind: Datatype, values: list[Any], place: str) -> list[Any]:
    """The values, ready for the typed field or `pack`; strings that name NaN or an infinity become numbers.

    Raises:
        Malformed: an element of another type or out of range, with its position.
    """
    types = set(map(type, values))
    if kind.family == "float":
        if str in types:
            values = [NAMES.get(value, value) if type(value) is str else value for value in values]
            types = set(map(type, values))
        if types <= {float, int} and _within(kind, values):
            return values
    elif kind.family == "int":
        if types <= {int} and (not values or (min(values) >= kind.low and max(values) <= kind.high)):
            return values
    elif types <= {bool if kind.family == "bool" else bytes}:
        return values
    number = next(number for number, value in enumerate(values) if not _fits(kind, value))
    raise Malformed(f"{place}: element {number} of datatype {kind.name} must be {_wanted(kind)}; {_shown(values[number])} is not")


def _within(kind: Datatype, values: Sequence[float]) -> bool:
    # A NaN in first place makes min and max NaN, and infinities exceed the bounds: then each element is looked at.
    return not values or (min(values) >= kind.low and max(values) <= kind.high) or all(_fits(kind, value) for value in values)


def _fits(kind: Datatype, value: Any) -> bool:
    if kind.family == "float":
        return type(value) in (int, float) and (kind.low <= value <= kind.high or not math.isfinite(value))
    if kind.family == "int":
        return type(value) is int and kind.low <= value <= kind.high
    return type(value) is (bool if kind.family == "bool" else bytes)


def _wanted(kind: Datatype) -> str:
    if kind.family == "int":
        return f"a whole number from {int(kind.low)} to {int(kind.high)}"
    if kind.family == "float":
        return f"a number up to ±{kind.high:.8g}, or NaN, Infinity or -Infinity"
    return "true or false" if kind.family == "bool" else "a string"


def _shown(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}[value] if isinstance(value, bool | None) else f"{value!r}"[:60]


def from_text(kind: Datatype, values: list[Any], place: str) -> list[Any]:
    """The values with numbers that came as strings, as proto3 JSON allows, made numbers.

    Raises:
        Malformed: a string is no number of this datatype.
    """
    if str not in set(map(type, values)):
        return values
    return [_number(kind, value, place) if type(value) is str else value for value in values]


def _number(kind: Datatype, text: str, place: str) -> int | float:
    if kind.family == "int" and _INTEGER.fullmatch(text):
        return int(text)
    if kind.family == "float" and text in NAMES:
        return NAMES[text]
    if kind.family == "float" and _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise Malformed(f"{place}: {_shown(text)} is no value of datatype {kind.name}")


def pack(kind: Datatype, values: Sequence[Any]) -> bytes:
    """Checked values as the raw form of a tensor: little-endian, BYTES with a 4-byte length before each element."""
    if kind.family == "bytes":
        return b"".join(chain.from_iterable((struct.pack("<I", len(value)), value) for value in values))
    count = len(values)
    if kind.code:
        return struct.pack(f"<{count}{kind.code}", *values)
    singles = struct.unpack(f"<{count}I", struct.pack(f"<{count}f", *values))
    return struct.pack(f"<{count}H", *map(_bfloat16, singles))


def _bfloat16(bits: int) -> int:
    """The upper half of a float32's bits, rounded to nearest, ties to even; a NaN stays one."""
    if bits & 0x7FFFFFFF > 0x7F800000:
        return bits >> 16 | 0x40
    return bits + 0x7FFF + (bits >> 16 & 1) >> 16


def unpack(kind: Datatype, raw: bytes) -> list[Any]:
    """The elements of a raw tensor whose length was checked (`measure`)."""
    if kind.family == "bytes":
        return _split(raw)
    count = len(raw) // kind.size
    if kind.code:
        return list(struct.unpack(f"<{count}{kind.code}", raw))
    wide = bytearray(4 * count)
    wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
    return list(struct.unpack(f"<{count}f", wide))


def measure(kind: Datatype, raw: bytes, count: int) -> str:
    """What is wrong with the length of a raw tensor of `count` elements; empty if it fits."""
    if kind.family != "bytes":
        wanted = count * kind.size
        return "" if len(raw) == wanted else f"has {len(raw)} bytes; {count} elements of {kind.name} take {wanted}"
    try:
        found = len(_split(raw))
    except ValueError as error:
        return str(error)
    return "" if found == count else f"has {found} elements of BYTES; its shape takes {count}"


def _split(raw: bytes) -> list[bytes]:
    elements: list[bytes] = []
    position, end = 0, len(raw)
    while position < end:
        start = position + 4
        if start > end:
            raise ValueError(f"ends inside the length of element {len(elements)}")
        position = start + int.from_bytes(raw[position:start], "little")
        if position > end:
            raise ValueError(f"ends inside element {len(elements)}")
        elements.append(raw[start:position])
    return elements


def spell(kind: Datatype, values: list[Any]) -> list[Any]:
    """Numbers as JSON shows them: few digits for FP32, strings for NaN and infinities."""
    if kind.family != "float":
        return values
    if kind.name == "FP32" and len(values) <= SHORT:
        values = _short(values)
    # A sum is finite only if every element is; where it overflows by itself, each element is looked at.
    return values if math.isfinite(sum(values)) else [spell_float(value) for value in values]


def spell_float(value: float) -> float | str:
    """One number; JSON has no NaN and no infinities, so these become strings, which numpy and proto3 JSON read as numbers."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _short(values: list[float]) -> list[float]:
    """Doubles with 7 to 9 significant digits that read back as the same float32 (9 always do)."""
    result, rest = list(values), list(range(len(values)))
    for digits in (7, 8, 9):
        wanted = [values[number] for number in rest]
        tried = list(map(float, (f"%.{digits}g " * len(wanted) % tuple(wanted)).split()))
        for number, value in zip(rest, tried, strict=True):
            result[number] = value
        singles = array("f", tried).tolist()
        if singles == wanted:
            break
        rest = [number for number, single, value in zip(rest, singles, wanted, strict=True) if single != value]
    return result
