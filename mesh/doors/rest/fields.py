"""Typed reading of a JSON object, with errors that name the place."""

from __future__ import annotations

from typing import Any

from mesh.core.errors import Malformed

Object = dict[str, Any]


def text(owner: Object, key: str, place: str, *, required: bool = False) -> str:
    """A string; missing or null is empty unless required.

    Raises:
        Malformed: it is missing, empty though required, or no string.
    """
    value = owner.get(key)
    if isinstance(value, str) and (value or not required):
        return value
    if value is None and not required:
        return ""
    raise Malformed(f"{place}: {key!r} must be a {'non-empty ' if required else ''}string" + missing(owner, key))


def objects(owner: Object, key: str, place: str) -> list[Object]:
    """A list of objects; missing or null is empty.

    Raises:
        Malformed: it is no list, or one of its elements is no object.
    """
    value = owner.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{place}: {key!r} must be a list of objects")
    for number, item in enumerate(value):
        if not isinstance(item, dict):
            raise Malformed(f"{place}: {key}[{number}] must be an object")
    return value


def mapping(owner: Object, key: str, place: str) -> Object:
    """An object; missing or null is empty.

    Raises:
        Malformed: it is something else.
    """
    value = owner.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Malformed(f"{place}: {key!r} must be an object")
    return value


def shape(owner: Object, place: str, *, strings: bool = False) -> list[int]:
    """The dimensions of a tensor: whole numbers from 0; with `strings`, also as proto3 JSON writes them.

    Raises:
        Malformed: it is missing or has another element.
    """
    value = owner.get("shape")
    if value is None and strings:
        return []
    if not isinstance(value, list):
        raise Malformed(f"{place}: 'shape' must be a list of numbers" + missing(owner, "shape"))
    if strings:
        value = [int(item) if isinstance(item, str) and item.isascii() and item.isdigit() else item for item in value]
    for item in value:
        if type(item) is not int or not 0 <= item < 2**63:
            raise Malformed(f"{place}: the dimensions in 'shape' must be whole numbers from 0; {item!r} is not")
    return value


def either(owner: Object, snake: str, camel: str) -> Any:
    """The value under the proto name or its JSON spelling; proto3 JSON takes both."""
    value = owner.get(snake)
    return owner.get(camel) if value is None else value


def missing(owner: Object, key: str) -> str:
    """A hint for messages."""
    return "" if key in owner else "; it is missing"
