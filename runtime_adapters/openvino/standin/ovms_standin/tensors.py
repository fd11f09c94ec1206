"""Tensors of KServe v2 and of TensorFlow Serving ↔ arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .messages import CLASSES


class BadTensor(Exception):
    """The caller's tensor is not what it says, or not what the model takes."""


_V2: Mapping[str, tuple[Any, str]] = {
    "BOOL": (np.bool_, "bool_contents"),
    "INT8": (np.int8, "int_contents"),
    "INT16": (np.int16, "int_contents"),
    "INT32": (np.int32, "int_contents"),
    "INT64": (np.int64, "int64_contents"),
    "UINT8": (np.uint8, "uint_contents"),
    "UINT16": (np.uint16, "uint_contents"),
    "UINT32": (np.uint32, "uint_contents"),
    "UINT64": (np.uint64, "uint64_contents"),
    "FP16": (np.float16, ""),  # raw only: the protocol has no field for it
    "FP32": (np.float32, "fp32_contents"),
    "FP64": (np.float64, "fp64_contents"),
}
"""Datatype → array type and field of InferTensorContents."""

_TF: Mapping[int, tuple[Any, str]] = {
    1: (np.float32, "float_val"),
    2: (np.float64, "double_val"),
    3: (np.int32, "int_val"),
    4: (np.uint8, "int_val"),
    5: (np.int16, "int_val"),
    6: (np.int8, "int_val"),
    9: (np.int64, "int64_val"),
    10: (np.bool_, "bool_val"),
    17: (np.uint16, "int_val"),
    19: (np.float16, "half_val"),  # its bits, in the low half of each number
    22: (np.uint32, "uint32_val"),
    23: (np.uint64, "uint64_val"),
}
"""TensorFlow's DataType → array type and field of TensorProto."""

_V2_NAMES = {np.dtype(kind): name for name, (kind, _) in _V2.items()}
_TF_NUMBERS = {np.dtype(kind): number for number, (kind, _) in _TF.items()}


def v2_datatype(kind: Any) -> str:
    """The v2 name of an array type."""
    return _V2_NAMES[np.dtype(kind)]


def from_v2(request: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The inputs of a ModelInferRequest by name, typed or raw. BadTensor names the one that is wrong."""
    raw: Sequence[bytes] = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise BadTensor(f"Number of raw inputs ({len(raw)}) is not that of inputs ({len(request.inputs)})")
    return {one.name: _v2_array(one, raw[index] if raw else None) for index, one in enumerate(request.inputs)}


def _v2_array(tensor: Any, raw: bytes | None) -> np.ndarray[Any, Any]:
    if tensor.datatype not in _V2:
        raise BadTensor(f"Invalid input precision - input {tensor.name} has datatype {tensor.datatype!r}")
    kind, field = _V2[tensor.datatype]
    if raw is None and not field:
        raise BadTensor(f"Input {tensor.name} of {tensor.datatype} can only be sent in raw_input_contents")
    return _shaped(tensor.name, kind, tensor.shape, raw, [] if raw is not None else getattr(tensor.contents, field))


def from_tensorflow(inputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The inputs of a PredictRequest. A single value stands for all, as TensorFlow has it. BadTensor names the one that is wrong."""
    return {name: _tensorflow_array(name, tensor) for name, tensor in inputs.items()}


def _tensorflow_array(name: str, tensor: Any) -> np.ndarray[Any, Any]:
    if tensor.dtype not in _TF:
        raise BadTensor(f"Invalid input precision - input {name} has dtype {tensor.dtype}")
    kind, field = _TF[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return _shaped(name, kind, shape, tensor.tensor_content, [])
    values = getattr(tensor, field)
    if kind is np.float16:
        return _shaped(name, kind, shape, np.array(values, np.uint16).tobytes(), [])
    if len(values) == 1:
        values = [values[0]] * int(np.prod(shape, dtype=np.int64))
    return _shaped(name, kind, shape, None, values)


def _shaped(name: str, kind: Any, shape: Sequence[int], raw: bytes | None, values: Sequence[Any]) -> np.ndarray[Any, Any]:
    try:
        flat = np.frombuffer(raw, kind) if raw is not None else np.array(values, kind)
        if any(size < 0 for size in shape):
            raise BadTensor(f"Invalid input shape - input {name}: {list(shape)}")
        return flat.reshape(tuple(shape))
    except (ValueError, OverflowError) as error:
        raise BadTensor(f"Invalid content size of tensor proto - input {name} of shape {list(shape)}: {error}") from None


def add_v2(response: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    """Add an output to a ModelInferResponse, raw."""
    response.outputs.add(name=name, datatype=v2_datatype(array.dtype), shape=array.shape)
    response.raw_output_contents.append(np.ascontiguousarray(array).tobytes())


def to_tensorflow(array: np.ndarray[Any, Any]) -> Any:
    """A TensorProto with its content as bytes."""
    tensor = CLASSES["tensorflow.TensorProto"](dtype=_TF_NUMBERS[array.dtype], tensor_content=np.ascontiguousarray(array).tobytes())
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor
