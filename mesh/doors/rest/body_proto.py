"""The proto3 JSON form of the gRPC messages: `contents`, snake or camel case in, camel case out, 64-bit numbers as strings."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from math import prod
from typing import Any

import orjson

from mesh.core.errors import Malformed
from mesh.doors.rest import answers, fields, parameters, tensors
from mesh.doors.rest.fields import Object, either
from mesh.protocols.inference_pb2 import ModelInferRequest, ModelInferResponse

CONTENTS = {
    "bool_contents": "boolContents",
    "int_contents": "intContents",
    "int64_contents": "int64Contents",
    "uint_contents": "uintContents",
    "uint64_contents": "uint64Contents",
    "fp32_contents": "fp32Contents",
    "fp64_contents": "fp64Contents",
    "bytes_contents": "bytesContents",
}
"""Fields of `InferTensorContents` to their JSON spelling."""

_SNAKE = {camel: snake for snake, camel in CONTENTS.items()}


def read(document: Object) -> ModelInferRequest:
    """The message of a request, without its model's name.

    Raises:
        Malformed: names the tensor or parameter and what is wrong with it.
    """
    request = ModelInferRequest(id=fields.text(document, "id", "request"))
    parameters.read_named(fields.mapping(document, "parameters", "request"), request.parameters, "request")
    raw = _raw(document)
    inputs = fields.objects(document, "inputs", "request")
    if raw and len(raw) != len(inputs):
        raise Malformed(f"request: there are {len(inputs)} inputs, but {len(raw)} rawInputContents")
    for number, item in enumerate(inputs):
        _input(item, number, request, raw)
    for number, item in enumerate(fields.objects(document, "outputs", "request")):
        name = fields.text(item, "name", f"outputs[{number}]", required=True)
        output = request.outputs.add(name=name)
        parameters.read_named(fields.mapping(item, "parameters", f"output {name!r}"), output.parameters, f"output {name!r}")
    return request


def _raw(document: Object) -> list[bytes]:
    value = either(document, "raw_input_contents", "rawInputContents")
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed("request: 'rawInputContents' must be a list of base64 strings")
    return [_bytes(item, f"rawInputContents[{number}]") for number, item in enumerate(value)]


def _bytes(value: Any, place: str) -> bytes:
    """Bytes as proto3 JSON has them: base64, standard or URL-safe, padded or not."""
    try:
        if isinstance(value, str):
            text = value.replace("-", "+").replace("_", "/").rstrip("=")
            return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise Malformed(f"{place}: must be a base64 string")


def _input(item: Object, number: int, request: ModelInferRequest, raw: list[bytes]) -> None:
    name = fields.text(item, "name", f"inputs[{number}]", required=True)
    place = f"input {name!r}"
    kind = tensors.datatype(fields.text(item, "datatype", place, required=True), place)
    shape = fields.shape(item, place, strings=True)
    tensor = request.inputs.add(name=name, datatype=kind.name, shape=shape)
    parameters.read_named(fields.mapping(item, "parameters", place), tensor.parameters, place)
    contents = fields.mapping(item, "contents", place)
    if raw:
        if contents:
            raise Malformed(f"{place}: has 'contents' beside rawInputContents; send one of them")
        if fault := tensors.measure(kind, raw[number], prod(shape)):
            raise Malformed(f"{place}: its element of rawInputContents {fault}")
        request.raw_input_contents.append(raw[number])
        return
    values = _values(contents, kind, place)
    if len(values) != prod(shape):
        raise Malformed(f"{place}: shape {shape} takes {prod(shape)} elements; 'contents' has {len(values)}")
    getattr(tensor.contents, kind.field).extend(tensors.check(kind, values, place))


def _values(contents: Object, kind: tensors.Datatype, place: str) -> list[Any]:
    if not kind.field:
        raise Malformed(f"{place}: {kind.name} has no field in 'contents'; send it in rawInputContents, or as 'data' in the v2 form")
    for key in contents:
        snake = _SNAKE.get(key, key)
        if snake not in CONTENTS:
            raise Malformed(f"{place}: 'contents' has no field {key!r}; {kind.name} goes into {kind.field}")
        if snake != kind.field and contents[key]:
            raise Malformed(f"{place}: datatype {kind.name} goes into {kind.field}, not {key}")
    values = either(contents, kind.field, CONTENTS[kind.field])
    if values is None:
        values = []
    if not isinstance(values, list):
        raise Malformed(f"{place}: {kind.field} must be a list")
    if kind.family == "bytes":
        return [_bytes(value, f"{place}: element {number} of {kind.field}") for number, value in enumerate(values)]
    return tensors.from_text(kind, values, place)


def write(response: ModelInferResponse) -> bytes:
    """The body of an answer. Raw outputs become typed, unless one has a datatype without a typed field: then all stay raw.

    Raises:
        BadAnswer: the runtime's message contradicts itself.
    """
    outputs = answers.outputs(response)
    raw = any(not output.kind.field for output in outputs)
    document: Object = {}
    for key, value in (("modelName", response.model_name), ("modelVersion", response.model_version), ("id", response.id)):
        if value:
            document[key] = value
    if response.parameters:
        document["parameters"] = parameters.write_named(response.parameters)
    document["outputs"] = [_output(output, raw=raw) for output in outputs]
    if raw:
        document["rawOutputContents"] = [b64encode(output.raw()).decode() for output in outputs]
    return orjson.dumps(document)


def _output(output: answers.Output, *, raw: bool) -> Object:
    tensor = output.tensor
    document: Object = {"name": tensor.name, "datatype": tensor.datatype, "shape": [str(size) for size in tensor.shape]}
    if tensor.parameters:
        document["parameters"] = parameters.write_named(tensor.parameters)
    if not raw:
        document["contents"] = {CONTENTS[output.kind.field]: _spell(output)}
    return document


def _spell(output: answers.Output) -> list[Any]:
    values = output.values()
    if output.kind.family == "bytes":
        return [b64encode(value).decode() for value in values]
    if output.kind.name in ("INT64", "UINT64"):
        return list(map(str, values))
    return tensors.spell(output.kind, values)
