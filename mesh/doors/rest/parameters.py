"""Parameters of requests, inputs and outputs: native JSON values (v2 form) and named choices (proto3 JSON form)."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from mesh.core.errors import Malformed
from mesh.doors.rest import tensors
from mesh.doors.rest.fields import Object
from mesh.protocols.inference_pb2 import InferParameter

Parameters = Mapping[str, InferParameter]

CHOICES = {
    "bool_param": "boolParam",
    "int64_param": "int64Param",
    "string_param": "stringParam",
    "double_param": "doubleParam",
    "uint64_param": "uint64Param",
}
"""Field of the oneof to its JSON spelling."""

BASE64 = frozenset({"base64", "b64"})
"""Values of the parameter `content_type` (in lower case) that mean: JSON strings of BYTES are base64."""


def read_native(source: Object, target: MutableMapping[str, InferParameter], place: str, *, without: frozenset[str] = frozenset()) -> None:
    """Fills `target` from JSON values: string, truth value, whole number, other number; null sets no choice.

    Raises:
        Malformed: a list or an object.
    """
    for name, value in source.items():
        if name in without:
            continue
        parameter = target[name]
        match value:
            case None:
                pass
            case bool():
                parameter.bool_param = value
            case str():
                parameter.string_param = value
            case int() if value < 2**63:
                parameter.int64_param = value
            case int():
                parameter.uint64_param = value
            case float():
                parameter.double_param = value
            case _:
                raise Malformed(f"{place}: parameter {name!r} must be a string, a number, true, false or null")


def write_native(source: Parameters) -> Object:
    """The reverse, by name: protobuf maps have no order."""
    return {name: _native(source[name]) for name in sorted(source)}


def _native(parameter: InferParameter) -> Any:
    choice = parameter.WhichOneof("parameter_choice")
    if choice is None:
        return None
    value = getattr(parameter, choice)
    return tensors.spell_float(value) if choice == "double_param" else value


def read_named(source: Object, target: MutableMapping[str, InferParameter], place: str) -> None:
    """Fills `target` from `{"stringParam": …}` objects, snake or camel case, 64-bit numbers also as strings.

    Raises:
        Malformed: another value, an unknown choice or more than one.
    """
    for name, value in source.items():
        parameter = target[name]
        where = f"{place}: parameter {name!r}"
        if not isinstance(value, dict) or len(value) > 1:
            raise Malformed(f"{where} must be an object with one of {', '.join(CHOICES.values())}")
        for key, item in value.items():
            _choose(parameter, key, item, where)


def _choose(parameter: InferParameter, key: str, item: Any, where: str) -> None:
    field = next((snake for snake, camel in CHOICES.items() if key in (snake, camel)), "")
    if not field:
        raise Malformed(f"{where}: {key!r} is none of {', '.join(CHOICES.values())}")
    try:
        if field == "string_param":
            value: Any = item
        elif field == "bool_param":
            value = tensors.check(tensors.TABLE["BOOL"], [item], where)[0]
        else:
            kind = tensors.TABLE[{"int64_param": "INT64", "uint64_param": "UINT64", "double_param": "FP64"}[field]]
            value = tensors.check(kind, tensors.from_text(kind, [item], where), where)[0]
        setattr(parameter, field, value)
    except TypeError:
        raise Malformed(f"{where}: {item!r} is no value for {key}") from None


def write_named(source: Parameters) -> Object:
    """The reverse of `read_named`: camel case, 64-bit numbers as strings, as proto3 JSON has it."""
    document: Object = {}
    for name in sorted(source):
        choice = source[name].WhichOneof("parameter_choice")
        value = _native(source[name])
        if choice is None:
            document[name] = {}
        else:
            document[name] = {CHOICES[choice]: str(value) if choice in ("int64_param", "uint64_param") else value}
    return document


def says_base64(source: Object) -> bool:
    """Whether native parameters declare BYTES to be base64 in JSON."""
    value = source.get("content_type")
    return isinstance(value, str) and value.lower() in BASE64
