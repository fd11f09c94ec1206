"""Sources → typed documents, with messages that name file, line, column, field and the fault."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

from pydantic import ValidationError

from mesh.core.errors import Malformed
from mesh.core.traffic.policy import Policy
from mesh.core.traffic.reading import Reader
from mesh.manifests.bounds import BoundsFault, bounds_of, kept_versions
from mesh.manifests.documents import DEPLOYMENT_MODE, KINDS, AnyDocument, InferenceService, Predictor, TrafficPolicy
from mesh.manifests.reading import Source
from mesh.wire import patterns

_WORDS = {dict: "mapping", list: "list", str: "text", bool: "boolean", int: "number", float: "number", type(None): "nothing"}
_NUMBER = re.compile(r"\[(\d{1,9})\]")
_POLICIES = Reader(patterns.fault)


@dataclass(frozen=True)
class Applied:
    """A document with the plain value it was made of, which is what is kept and shown again."""

    document: AnyDocument
    raw: dict[str, Any]
    origin: str


def parse(sources: Iterable[Source]) -> list[Applied]:
    """Every document in order, `List` kinds opened.

    Raises:
        Malformed: all faults of all documents, one a line; nothing is returned then.
    """
    found: list[Applied] = []
    faults: list[str] = []
    for source in sources:
        try:
            found += _parse_one(source, (), source.value)
        except Malformed as error:
            faults.append(error.message)
    if not found and not faults:
        faults.append("there is no document in what was read")
    if faults:
        raise Malformed("\n".join(faults))
    return found


def parse_value(value: Any, origin: str) -> Applied:
    """One document that is a plain value already; errors as for `parse`."""
    return _parse_one(Source(value, origin), (), value)[0]


def _parse_one(source: Source, path: tuple[str | int, ...], value: Any) -> list[Applied]:
    if not isinstance(value, dict):
        raise Malformed(f"{source.where(path)}: a document must be a mapping with apiVersion, kind and metadata, not a {_word(value)}")
    kind = value.get("kind")
    if not isinstance(kind, str):
        raise Malformed(f"{source.where((*path, 'kind'))}: kind: {'is missing' if kind is None else 'must be a text'}")
    if kind.endswith("List") and isinstance(value.get("items"), list):
        items = enumerate(value["items"])
        inside = [_parse_item(source, (*path, "items", number), item, kind) for number, item in items]
        return [one for part in inside for one in part]
    model = KINDS.get(kind)
    if model is None:
        close = get_close_matches(kind, KINDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise Malformed(f"{source.where((*path, 'kind'))}: kind: {kind!r} is not known here{hint} (known are {', '.join(KINDS)})")
    if value.get("apiVersion") != model.api:
        raise Malformed(
            f"{source.where((*path, 'apiVersion'))}: apiVersion: must be {model.api} for {kind}, not {value.get('apiVersion')!r}"
        )
    try:
        document = cast(AnyDocument, model.model_validate(_pruned(value)))
    except ValidationError as error:
        faults = sorted(error.errors(include_url=False), key=lambda item: source.position((*path, *_place(item))))
        raise Malformed("\n".join(_fault(source, path, item) for item in faults)) from None
    _mode(source, path, document)
    _bounds(source, path, document)
    _policy(source, path, document)
    return [Applied(document, value, source.where(path))]


def _parse_item(source: Source, path: tuple[str | int, ...], item: Any, kind: str) -> list[Applied]:
    """An item of a typed list such as InferenceServiceList may leave out its kind and version, as the API server answers it."""
    single = kind.removesuffix("List")
    if isinstance(item, dict) and single in KINDS and "kind" not in item:
        item = {"apiVersion": KINDS[single].api, "kind": single, **item}
    return _parse_one(source, path, item)


def _pruned(value: Any) -> Any:
    """Without what is null: to Kubernetes that is the same as absent."""
    if isinstance(value, dict):
        return {key: _pruned(item) for key, item in value.items() if item is not None}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


def _mode(source: Source, path: tuple[str | int, ...], document: AnyDocument) -> None:
    mode = document.metadata.annotations.get(DEPLOYMENT_MODE, "ModelMesh")
    if isinstance(document, InferenceService) and mode != "ModelMesh":
        place = source.where((*path, "metadata", "annotations", DEPLOYMENT_MODE))
        raise Malformed(f"{place}: metadata.annotations: {DEPLOYMENT_MODE} is {mode!r}; a mesh serves ModelMesh services only")


def _bounds(source: Source, path: tuple[str | int, ...], document: AnyDocument) -> None:
    if isinstance(document, InferenceService | Predictor):
        try:
            bounds_of(document)
            kept_versions(document)
        except BoundsFault as error:
            raise Malformed(f"{source.where((*path, *error.path))}: {error.message}") from None


def _policy(source: Source, path: tuple[str | int, ...], document: AnyDocument) -> None:
    if not isinstance(document, TrafficPolicy):
        return
    service = document.spec.get("service", document.name)
    if not isinstance(service, str) or not service:
        place = source.where((*path, "spec", "service"))
        raise Malformed(f"{place}: spec.service: must be the name of a service, not the {_word(service)} {_short(service)}")
    try:
        policy_of(document)
    except Malformed as error:
        raise Malformed(f"{source.where((*path, *_begins(error.message, {'spec': document.spec})))}: {error.message}") from None


def policy_of(document: TrafficPolicy) -> Policy:
    """What a document says of a service's calls. Malformed, with the field that is wrong."""
    return _POLICIES.policy(document.policy, "spec")


def _begins(message: str, value: Any) -> list[str | int]:
    """The path of the field that a message begins with, e.g. `spec.rules[0].to has …`; names of headers may have dots in them."""
    found: list[str | int] = []
    while True:
        part: str | int | None = None
        if isinstance(value, dict):
            message = message.removeprefix(".")
            names = [name for name in value if message.startswith(name) and message[len(name) : len(name) + 1] in ("", " ", ".", "[")]
            part = max(names, key=len, default=None)
            message = message[len(part or "") :]
        elif isinstance(value, list) and (number := _NUMBER.match(message)) and int(number[1]) < len(value):
            part, message = int(number[1]), message[number.end() :]
        if part is None:
            return found
        found.append(part)
        value = value[part]


def _fault(source: Source, path: tuple[str | int, ...], item: Any) -> str:
    place = _place(item)
    name = ".".join(str(part) for part in place)
    return f"{source.where((*path, *place))}: {name}: {_said(item)}"


def _place(item: Any) -> list[str | int]:
    """Field path of a fault; a union's branches stand in pydantic's path by type name and are no fields of the document."""
    return [part for part in item["loc"] if part not in ("str", "int", "float")]


def _said(item: Any) -> str:
    kind, given = str(item["type"]), item["input"]
    if kind == "missing":
        return "is missing"
    if kind == "string_type":
        hint = "; write it in quotes" if isinstance(given, bool | int | float) else ""
        return f"must be a text, not the {_word(given)} {_short(given)}{hint}"
    wanted = {"bool_type": "true or false", "int_type": "a whole number", "dict_type": "a mapping", "list_type": "a list"}
    wanted |= {"tuple_type": "a list", "model_type": "a mapping", "model_attributes_type": "a mapping"}
    if kind in wanted:
        return f"must be {wanted[kind]}, not the {_word(given)} {_short(given)}"
    return str(item["msg"]).removeprefix("Value error, ")


def _word(value: Any) -> str:
    return _WORDS.get(type(value), type(value).__name__)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def only(documents: Sequence[Applied], kind: type[Any]) -> list[Applied]:
    """Those of one kind."""
    return [one for one in documents if isinstance(one.document, kind)]
