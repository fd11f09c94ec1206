"""The standard v2 form: `data` flat or nested, snake_case keys, native parameters; with the binary tensor extension."""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from typing import Any

import orjson

from mesh.core.errors import Malformed
from mesh.doors.rest import answers, fields, parameters, tensors
from mesh.doors.rest.binary import SIZE, WANTED, WANTED_ALL, Tail
from mesh.doors.rest.fields import Object
from mesh.protocols.inference_pb2 import ModelInferRequest, ModelInferResponse

Input = ModelInferRequest.InferInputTensor


@dataclass(frozen=True, slots=True)
class Reply:
    """How the caller wants outputs written: as raw bytes behind the JSON, or BYTES as base64; by name, or all."""

    binary: Mapping[str, bool] = field(default_factory=dict)
    binary_all: bool = False
    base64: frozenset[str] = frozenset()
    base64_all: bool = False


def read(document: Object, tail: Tail) -> tuple[ModelInferRequest, Reply]:
    """The message of a request, without its model's name, and how to write the answer.

    Raw and typed tensors are never mixed in a message: one input that needs raw (FP16, BF16, binary) makes all of them raw.

    Raises:
        Malformed: names the tensor or parameter and what is wrong with it.
    """
    request = ModelInferRequest(id=fields.text(document, "id", "request"))
    if "inputs" not in document:
        raise Malformed("request: 'inputs' is missing; send a list of tensors")
    inputs = [_input(item, number, tail) for number, item in enumerate(fields.objects(document, "inputs", "request"))]
    tail.finish()
    raw = any(isinstance(content, bytes) or not kind.field for _, kind, content in inputs)
    for tensor, kind, content in inputs:
        if raw:
            request.raw_input_contents.append(content if isinstance(content, bytes) else tensors.pack(kind, content))
        else:
            getattr(tensor.contents, kind.field).extend(content)
        request.inputs.append(tensor)
    return request, _outputs(document, request)


def _outputs(document: Object, request: ModelInferRequest) -> Reply:
    top = fields.mapping(document, "parameters", "request")
    parameters.read_native(top, request.parameters, "request", without=frozenset({WANTED_ALL}))
    binary: dict[str, bool] = {}
    base64: set[str] = set()
    for number, item in enumerate(fields.objects(document, "outputs", "request")):
        name = fields.text(item, "name", f"outputs[{number}]", required=True)
        place = f"output {name!r}"
        source = fields.mapping(item, "parameters", place)
        parameters.read_native(source, request.outputs.add(name=name).parameters, place, without=frozenset({WANTED}))
        if WANTED in source:
            binary[name] = _truth(source, WANTED, place)
        if parameters.says_base64(source):
            base64.add(name)
    return Reply(binary, _truth(top, WANTED_ALL, "request"), frozenset(base64), parameters.says_base64(top))


def _truth(source: Object, key: str, place: str) -> bool:
    value = source.get(key, False)
    if not isinstance(value, bool):
        raise Malformed(f"{place}: parameter {key!r} must be true or false")
    return value


def _input(item: Object, number: int, tail: Tail) -> tuple[Input, tensors.Datatype, list[Any] | bytes]:
    name = fields.text(item, "name", f"inputs[{number}]", required=True)
    place = f"input {name!r}"
    kind = tensors.datatype(fields.text(item, "datatype", place, required=True), place)
    shape = fields.shape(item, place)
    tensor = Input(name=name, datatype=kind.name, shape=shape)
    source = fields.mapping(item, "parameters", place)
    parameters.read_native(source, tensor.parameters, place, without=frozenset({SIZE}))
    if SIZE in source:
        if item.get("data") is not None:
            raise Malformed(f"{place}: has both 'data' and {SIZE!r}; send one of them")
        raw = tail.take(source[SIZE], place)
        if fault := tensors.measure(kind, raw, prod(shape)):
            raise Malformed(f"{place}: its binary data {fault}")
        return tensor, kind, raw
    if "data" not in item:
        raise Malformed(f"{place}: has neither 'data' nor the parameter {SIZE!r}")
    values = flatten(item["data"], shape, place) if kind.name != "BYTES" else _texts(item["data"], shape, source, place)
    if len(values) != prod(shape):
        raise Malformed(f"{place}: shape {shape} takes {prod(shape)} elements; 'data' has {len(values)}")
    return tensor, kind, tensors.check(kind, values, place)


def flatten(data: Any, shape: list[int], place: str) -> list[Any]:
    """The elements of a flat or nested list in row-major order. Nesting as deep as the shape must agree with it.

    Raises:
        Malformed: no list, a ragged one, or dimensions other than the shape's.
    """
    if not isinstance(data, list):
        raise Malformed(f"{place}: 'data' must be a list, flat or nested")
    elements: list[Any] = data
    found = [len(elements)]
    while list in (types := set(map(type, elements))):
        lengths = set(map(len, elements)) if len(types) == 1 else set()
        if len(lengths) != 1:
            raise Malformed(f"{place}: 'data' is ragged at depth {len(found) + 1}; every list at one depth must have the same length")
        elements = list(chain.from_iterable(elements))
        found.append(lengths.pop())
    if len(found) == len(shape) > 1 and found != shape:
        raise Malformed(f"{place}: 'data' is nested as {found}; shape says {shape}")
    return elements


def _texts(data: Any, shape: list[int], source: Object, place: str) -> list[bytes]:
    """BYTES: strings (UTF-8, or base64 by parameter) or lists of byte values, flat or nested."""
    if isinstance(data, list):
        while data and set(map(type, data)) == {list}:
            leaves = set(map(type, chain.from_iterable(data)))
            if not leaves and not prod(shape):
                return []
            if leaves <= {int}:
                return _byte_lists(data, place)
            if not leaves <= {str} and leaves != {list}:
                raise Malformed(f"{place}: 'data' mixes strings, numbers and lists; send strings, or lists of byte values")
            if leaves == {str}:
                data = flatten(data, shape, place)
                break
            if len(set(map(len, data))) != 1:
                raise Malformed(f"{place}: 'data' is ragged; every list at one depth must have the same length")
            data = list(chain.from_iterable(data))
    if not isinstance(data, list) or not set(map(type, data)) <= {str}:
        raise Malformed(f"{place}: 'data' of datatype BYTES must be a list of strings, or of lists of byte values")
    if not parameters.says_base64(source):
        return [text.encode() for text in data]
    try:
        return [b64decode(text, validate=True) for text in data]
    except (binascii.Error, ValueError):
        raise Malformed(f"{place}: 'data' has a string that is not base64, as the parameter content_type says") from None


def _byte_lists(data: list[list[int]], place: str) -> list[bytes]:
    try:
        return [bytes(item) for item in data]
    except ValueError:
        raise Malformed(f"{place}: 'data' has a list with a number that is no byte; they go from 0 to 255") from None


def write(response: ModelInferResponse, reply: Reply) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON part if raw tensors follow it.

    Raises:
        BadAnswer: the runtime's message contradicts itself.
    """
    blobs: list[bytes] = []
    outputs = [_output(output, blobs, reply) for output in answers.outputs(response)]
    document: Object = {"model_name": response.model_name}
    if response.model_version:
        document["model_version"] = response.model_version
    if response.id:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = parameters.write_native(response.parameters)
    document["outputs"] = outputs
    text = orjson.dumps(document)
    binary = any(reply.binary.get(output["name"], reply.binary_all) for output in outputs)
    return (b"".join((text, *blobs)), len(text)) if binary else (text, None)


def _output(output: answers.Output, blobs: list[bytes], reply: Reply) -> Object:
    tensor = output.tensor
    document: Object = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    native = parameters.write_native(tensor.parameters)
    if reply.binary.get(tensor.name, reply.binary_all):
        blobs.append(output.raw())
        document["parameters"] = native | {SIZE: len(blobs[-1])}
        return document
    values = output.values()
    if output.kind.family == "bytes":
        asked = reply.base64_all or tensor.name in reply.base64
        values, encoded = _strings(values, base64=asked and not parameters.says_base64(native))
        if encoded:
            native["content_type"] = "base64"
    else:
        values = tensors.spell(output.kind, values)
    if native:
        document["parameters"] = native
    document["data"] = values
    return document


def _strings(values: list[bytes], *, base64: bool) -> tuple[list[str], bool]:
    """BYTES as text; base64 if asked for, or if an element is no UTF-8 (JSON could not hold it)."""
    if not base64:
        try:
            return [value.decode() for value in values], False
        except UnicodeDecodeError:
            pass
    return [b64encode(value).decode() for value in values], True
