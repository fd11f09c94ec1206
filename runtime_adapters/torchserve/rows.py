"""A v2 request as what TorchServe's handlers take, and their answers as a v2 response.

A handler is given a list of rows and answers with as many values. The first dimension of a v2 tensor counts rows, so each becomes a
prediction of its own, which TorchServe batches as the model is registered; the answers are stacked again. The row of a request with one
input is that input's slice: nested lists as JSON, or the bare bytes of a BYTES value, so that a handler which takes an image over REST
takes it here. Several inputs make an object by name. A handler that knows the v2 protocol asks for whole requests in its archive
(`v2: request` in model-config.yaml) and answers with a v2 response.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from runtime_adapters import schema
from runtime_adapters.torchserve import tensors
from runtime_adapters.torchserve.tensors import Tensor, TensorError

JSON = "application/json"
BINARY = "application/octet-stream"
OUTPUT = "predictions"
"""Name of the output where neither the handler nor a schema gives one."""
MAX_ROWS = 4096
"""Rows of one request; each is a call to TorchServe."""


class Body(NamedTuple):
    """What one prediction is asked with."""

    content: bytes
    type: str


class Answer(NamedTuple):
    """What a handler answered for one row."""

    content: bytes

    def value(self) -> Any:
        """The JSON in it; its bytes if it is none."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            return self.content


def split(inputs: Sequence[Tensor]) -> list[Body]:
    """One body for each row.

    Raises:
        TensorError: no inputs, inputs of different numbers of rows, or too many.
    """
    if not inputs:
        raise TensorError("the request has no inputs")
    first = inputs[0]
    count = first.shape[0] if first.shape else 1
    for one in inputs:
        rows = one.shape[0] if one.shape else 1
        if rows != count:
            raise TensorError(f"input {one.name!r} has {rows} rows, but input {first.name!r} has {count}: the first dimension counts rows")
    if not 1 <= count <= MAX_ROWS:
        raise TensorError(f"the request has {count} rows; between 1 and {MAX_ROWS} are taken at a time")
    if len(inputs) == 1:
        return [_body(row) for row in _rows(first)]
    named = [_rows(one) for one in inputs]
    return [_body({one.name: _text(rows[at]) for one, rows in zip(inputs, named, strict=True)}) for at in range(count)]


def whole(model: str, request_id: str, inputs: Sequence[Tensor]) -> list[Body]:
    """The request as one body, in the v2 protocol's JSON."""
    document: dict[str, Any] = {
        "model_name": model,
        "inputs": [
            {"name": one.name, "datatype": one.datatype, "shape": list(one.shape), "data": [_text(value) for value in one.values]}
            for one in inputs
        ],
    }
    return [_body(document | ({"id": request_id} if request_id else {}))]


def join(answers: Sequence[Answer], outputs: Sequence[schema.Tensor] = ()) -> list[Tensor]:
    """The outputs that the answers to the rows are; `outputs` as the model's schema has them.

    Raises:
        TensorError: the answers do not fit together, or not the schema.
    """
    values = [answer.value() for answer in answers]
    if all(isinstance(value, dict) and isinstance(value.get("outputs"), list) for value in values):
        return _concatenated([_v2_outputs(value["outputs"]) for value in values])
    names = [output.name for output in outputs]
    if names and all(isinstance(value, dict) and all(name in value for name in names) for value in values):
        return [_declared(output, [value[output.name] for value in values]) for output in outputs]
    if len(outputs) == 1:
        return [_declared(outputs[0], values)]
    if outputs:
        raise TensorError(f"the handler's answer must be an object with {', '.join(map(repr, names))}, the outputs in the model's schema")
    return _undeclared(values)


def _undeclared(values: list[Any]) -> list[Tensor]:
    """Tensors where the answers are ones; else each answer as it is, one BYTES value a row."""
    first = values[0]
    if isinstance(first, dict) and first and all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
        columns = [tensors.infer(name, [value[name] for value in values]) for name in first]
        if all(columns):
            return [column for column in columns if column]
    if tensor := tensors.infer(OUTPUT, values):
        return [tensor]
    rows = [value if isinstance(value, bytes | str) else json.dumps(value) for value in values]
    return [Tensor(OUTPUT, "BYTES", [len(rows)], rows)]


def _declared(output: schema.Tensor, values: list[Any]) -> Tensor:
    """The values of one output, a row each, as the schema has it."""
    datatype = "BYTES" if output.datatype == "STRING" else output.datatype
    if datatype == "BYTES" and any(isinstance(value, dict) for value in values):
        values = [json.dumps(value) for value in values]
    shape = _shape(values)
    found = tensors.flatten(values, shape)
    if found is None:
        raise TensorError(f"output {output.name!r} is no tensor: the handler's answers have different shapes or are objects")
    if datatype != "BYTES" and any(not isinstance(one, int | float) for one in found):
        raise TensorError(f"output {output.name!r} is {datatype} in the model's schema, but the handler answered {found[0]!r}")
    return Tensor(output.name, datatype, shape, found)


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _v2_outputs(outputs: list[Any]) -> list[Tensor]:
    """The `outputs` of a v2 response in JSON.

    Raises:
        TensorError: they are not written as the protocol has them.
    """
    found = []
    for at, one in enumerate(outputs):
        if not isinstance(one, Mapping):
            raise TensorError(f"outputs[{at}] of the handler's v2 answer is no object")
        name, datatype, shape, data = (one.get(key) for key in ("name", "datatype", "shape", "data"))
        if not isinstance(name, str) or not isinstance(datatype, str):
            raise TensorError(f"outputs[{at}] of the handler's v2 answer needs a name and a datatype")
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape) or not isinstance(data, list):
            raise TensorError(f"output {name!r} of the handler's v2 answer needs a shape and `data`, both lists")
        found.append(Tensor(name, datatype, shape, tensors.flat(data)))
    return found


def _concatenated(parts: Sequence[list[Tensor]]) -> list[Tensor]:
    """v2 outputs of several rows, joined in their first dimension."""
    if len(parts) == 1:
        return parts[0]
    joined = []
    for same in zip(*parts, strict=False):
        first = same[0]
        if any((one.name, one.datatype, one.shape[1:]) != (first.name, first.datatype, first.shape[1:]) or not one.shape for one in same):
            raise TensorError(f"output {first.name!r} of the handler's v2 answers differs from row to row")
        shape = [sum(one.shape[0] for one in same), *first.shape[1:]]
        joined.append(Tensor(first.name, first.datatype, shape, [value for one in same for value in one.values]))
    if any(len(part) != len(joined) for part in parts):
        raise TensorError("the handler's v2 answers have different numbers of outputs from row to row")
    return joined


def _rows(tensor: Tensor) -> list[Any]:
    return tensor.nested() if tensor.shape else [tensor.nested()]


def _body(row: Any) -> Body:
    while isinstance(row, list) and len(row) == 1 and isinstance(row[0], bytes | list) and _is_bytes(row):
        row = row[0]
    if isinstance(row, bytes):
        return Body(row, BINARY)
    return Body(json.dumps(_text(row)).encode(), JSON)


def _is_bytes(row: Any) -> bool:
    """Whether there is one BYTES value and nothing else in it, however deep."""
    while isinstance(row, list) and len(row) == 1:
        row = row[0]
    return isinstance(row, bytes)


def _text(value: Any) -> Any:
    """`value` with bytes as JSON can hold them: text, or base64 where they are none."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {name: _text(inner) for name, inner in value.items()}
    return [_text(inner) for inner in value] if isinstance(value, list) else value
