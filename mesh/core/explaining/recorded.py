"""Flat inputs of decisions as plain JSON and back: numbers, words, and rows of them."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar, Protocol, TypeVar

from mesh.core.errors import Malformed


class _Flat(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=_Flat)
DECIDED_BY = "decided_by"
"""Field that names the function which reads the rest."""


def to_json(name: str, inputs: _Flat) -> dict[str, object]:
    """The fields of a dataclass, tuples as lists.

    Args:
        name: of the function that decides by them.
        inputs: fields are numbers, words, truths, or tuples of such things.
    """
    return {DECIDED_BY: name, **{field.name: _plain(getattr(inputs, field.name)) for field in fields(inputs)}}


def from_json(kind: type[T], data: Any) -> T:
    """Reads what `to_json` wrote.

    Raises:
        Malformed: a field is missing or has another type.
    """
    if not isinstance(data, dict):
        raise Malformed(f"inputs of a decision are an object, not {data!r}")
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name not in data:
            raise Malformed(f"inputs of a decision lack {field.name}")
        value = data[field.name]
        kinds: tuple[type, ...] = {"bool": (bool,), "str": (str,), "int": (int,)}.get(_word(field.type), (list,))
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise Malformed(f"{field.name} of a decision's inputs is {value!r}")
        values[field.name] = _frozen(value)
    return kind(**values)


def _word(annotation: object) -> str:
    """`int` for the names of numbers, `str` for those of things."""
    text = str(annotation)
    return {"Millis": "int", "Units": "int", "ModelId": "str", "PodId": "str"}.get(text, text)


def _plain(value: object) -> object:
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
