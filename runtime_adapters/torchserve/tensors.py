"""Tensors of the v2 protocol as nested lists, and back."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

from mesh.protocols import inference_pb2 as v2

Nested: TypeAlias = Any
"""Lists in lists of numbers, bools, str or bytes; or one of those."""

_Contents = v2.InferTensorContents
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where the values of a datatype lie in `InferTensorContents`; 16-bit floats travel as raw bytes only."""
_RAW = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""`struct` letters of raw values, little-endian and without gaps."""
DATATYPES = frozenset([*_RAW, "BYTES"])


class TensorError(ValueError):
    """A tensor that is not what it says; the message names it."""


class Tensor(NamedTuple):
    """One tensor; `values` are flat, in row-major order."""

    name: str
    datatype: str
    shape: Sequence[int]
    values: Sequence[Any]

    def nested(self) -> Nested:
        """Lists in lists of the tensor's shape; a bare value for a shape of no dimensions."""
        return _nest(iter(self.values), self.shape)


def read(request: v2.ModelInferRequest) -> list[Tensor]:
    """The inputs of a request.

    Raises:
        TensorError: an input has an unknown datatype, or not as many values as its shape says.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise TensorError(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs: there must be one for each")
    tensors = []
    for at, one in enumerate(request.inputs):
        if one.datatype not in DATATYPES:
            raise TensorError(f"input {one.name!r} has datatype {one.datatype!r}; known here are {', '.join(sorted(DATATYPES))}")
        shape = list(one.shape)
        if any(size < 0 for size in shape):
            raise TensorError(f"input {one.name!r} has shape {shape}, which has a negative dimension")
        values = _unpack(one.name, one.datatype, raw[at]) if raw else _contents(one)
        if len(values) != math.prod(shape):
            raise TensorError(f"input {one.name!r} has {len(values)} values, but shape {shape} takes {math.prod(shape)}")
        tensors.append(Tensor(one.name, one.datatype, shape, values))
    return tensors


def write(response: v2.ModelInferResponse, tensors: Sequence[Tensor], *, raw: bool) -> None:
    """Add outputs to a response, as raw bytes or as contents.

    Raises:
        TensorError: a value does not fit its datatype, or there are not as many as the shape says.
    """
    raw = raw or any(tensor.datatype == "FP16" for tensor in tensors)
    for tensor in tensors:
        if tensor.datatype not in DATATYPES:
            raise TensorError(f"output {tensor.name!r} has datatype {tensor.datatype!r}; known here are {', '.join(sorted(DATATYPES))}")
        if len(tensor.values) != math.prod(tensor.shape):
            raise TensorError(
                f"output {tensor.name!r} has {len(tensor.values)} values, but shape {list(tensor.shape)} takes {math.prod(tensor.shape)}"
            )
        values = [_bytes(value) for value in tensor.values] if tensor.datatype == "BYTES" else _plain(tensor)
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        try:
            if raw:
                response.raw_output_contents.append(_pack(tensor.datatype, values))
            else:
                getattr(output.contents, _FIELDS[tensor.datatype]).extend(values)
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            raise TensorError(f"output {tensor.name!r} has values that are no {tensor.datatype}: {error}") from None


def infer(name: str, value: Nested) -> Tensor | None:
    """The tensor that nested lists are: INT64, FP64, BOOL, or BYTES for text. None if they are ragged, mixed or hold anything else."""
    shape: list[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    values = flatten(value, shape)
    if values is None:
        return None
    kinds = {type(one) for one in values}
    if kinds <= {bool} and kinds:
        return Tensor(name, "BOOL", shape, values)
    if kinds <= {int} and kinds and all(-(2**63) <= one < 2**63 for one in values):
        return Tensor(name, "INT64", shape, values)
    if kinds <= {int, float}:
        return Tensor(name, "FP64", shape, values)
    return Tensor(name, "BYTES", shape, values) if kinds == {str} else None


def flatten(value: Nested, shape: Sequence[int]) -> list[Any] | None:
    """The values of nested lists of that shape in row-major order; None if they have another."""
    level = [value]
    for size in shape:
        if any(not isinstance(one, list) or len(one) != size for one in level):
            return None
        level = [inner for one in level for inner in one]
    return None if any(isinstance(one, list | dict) for one in level) else level


def flat(value: Nested) -> list[Any]:
    """All values of nested lists in row-major order, whatever their shape."""
    return [inner for one in value for inner in flat(one)] if isinstance(value, list) else [value]


def _contents(one: v2.ModelInferRequest.InferInputTensor) -> Sequence[Any]:
    if one.datatype not in _FIELDS:
        raise TensorError(f"input {one.name!r} of datatype {one.datatype} must be sent as raw_input_contents")
    return getattr(one.contents, _FIELDS[one.datatype])  # type: ignore[no-any-return]


def _unpack(name: str, datatype: str, raw: bytes) -> Sequence[Any]:
    if datatype == "BYTES":
        return _unpack_bytes(name, raw)
    letter = _RAW[datatype]
    size = struct.calcsize(f"<{letter}")
    if len(raw) % size:
        raise TensorError(f"input {name!r} has {len(raw)} raw bytes, which is no number of {datatype} values")
    return struct.unpack(f"<{len(raw) // size}{letter}", raw)


def _unpack_bytes(name: str, raw: bytes) -> list[bytes]:
    """Each value is led in by its length in four bytes."""
    values, at = [], 0
    while at < len(raw):
        if at + 4 > len(raw) or at + 4 + (size := int.from_bytes(raw[at : at + 4], "little")) > len(raw):
            raise TensorError(f"input {name!r} has raw bytes that end within a value")
        values.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return values


def _pack(datatype: str, values: Sequence[Any]) -> bytes:
    if datatype == "BYTES":
        return b"".join(len(value).to_bytes(4, "little") + value for value in values)
    return struct.pack(f"<{len(values)}{_RAW[datatype]}", *values)


def _plain(tensor: Tensor) -> list[Any]:
    """Values as protobuf and `struct` take them: 1.0 is fine for an integer, 1.5 is not."""
    if tensor.datatype == "BOOL" or tensor.datatype.startswith("FP"):
        return list(tensor.values)
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in tensor.values]


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | bytearray) else str(value).encode()


def _nest(values: Any, shape: Sequence[int]) -> Nested:
    if not shape:
        return next(values)
    if len(shape) == 1:
        return list(islice(values, shape[0]))
    return [_nest(values, shape[1:]) for _ in range(shape[0])]
