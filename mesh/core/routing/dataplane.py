"""Where the calls of each method carry their model id, and which methods are allowed (`MM_DATAPLANE_CONFIG`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Never

from mesh.core.errors import Malformed

LARGEST_FIELD = (1 << 29) - 1
"""Field numbers end here (protobuf language specification)."""

_HINT = '{"rpcConfigs": {"pkg.Service/Method": {"idExtractionPath": [1], "vModelId": true}}, "allowOtherRpcs": true}'


@dataclass(frozen=True, slots=True)
class Rule:
    """How calls of one method name their model.

    Attributes:
        path: field numbers from the request message to the id; empty if only headers name it. A field that is absent leaves it to the
            headers.
        alias: the id in the field names an alias, not a model.
        prefer_headers: the field counts only if no header names a model or alias; then it names an alias, or a model if there is no
            alias of that name, and `alias` says nothing.
    """

    path: tuple[int, ...] = ()
    alias: bool = False
    prefer_headers: bool = False


_HEADERS_ONLY = Rule()


@dataclass(frozen=True, slots=True)
class Dataplane:
    """The rules of all methods. Method names have no leading slash; one that comes with a name is ignored.

    Attributes:
        rules: by method, `pkg.Service/Method`.
        allow_others: whether methods without a rule are allowed, their calls named by headers.
    """

    rules: Mapping[str, Rule]
    allow_others: bool

    DEFAULT: ClassVar[Dataplane]
    """Without any config: all is allowed and headers name the model; the methods of KServe v2 that concern one model need none."""

    def rule(self, method: str) -> Rule | None:
        """The rule of `method`; None if it is not allowed."""
        found = self.rules.get(method.removeprefix("/"))
        return found if found or not self.allow_others else _HEADERS_ONLY

    @classmethod
    def parse(cls, text: str) -> Dataplane:
        """Reads the JSON of `MM_DATAPLANE_CONFIG`. Unset properties mean: no rules, others not allowed, empty path, no alias.

        Raises:
            Malformed: names the property and what is wrong with it.
        """
        try:
            document = json.loads(text, object_pairs_hook=_distinct)
        except ValueError as error:
            # Not JSONDecodeError alone: a number of thousands of digits is a ValueError.
            _refuse(f"is not JSON: {error}")
        except RecursionError:
            _refuse("is nested too deeply")
        _object(document, "", ("rpcConfigs", "allowOtherRpcs"))
        configs = document.get("rpcConfigs", {})
        if not isinstance(configs, dict):
            _refuse(f"has rpcConfigs = {_shown(configs)}, which is not an object")
        rules: dict[str, Rule] = {}
        for name, config in configs.items():
            method = _method(name)
            if method in rules:
                _refuse(f"has two rules for {_shown(method)}")
            rules[method] = _rule(f"rpcConfigs[{_shown(name)}]", config)
        return cls(rules, _boolean(document, "", "allowOtherRpcs"))


_KSERVE = ("ModelInfer", "ModelStreamInfer", "ModelMetadata", "ModelReady", "ModelConfig", "ModelStatistics")
Dataplane.DEFAULT = Dataplane({f"inference.GRPCInferenceService/{name}": Rule((1,), prefer_headers=True) for name in _KSERVE}, True)


def _rule(where: str, config: Any) -> Rule:
    _object(config, where, ("idExtractionPath", "vModelId"))
    path = config.get("idExtractionPath", [])
    # The type is compared itself, because True is an int to isinstance.
    if not isinstance(path, list) or not all(type(number) is int and 1 <= number <= LARGEST_FIELD for number in path):
        _refuse(f"has {where}.idExtractionPath = {_shown(path)}, which is not a list of field numbers from 1 to {LARGEST_FIELD}")
    return Rule(tuple(path), _boolean(config, where, "vModelId"))


def _method(name: str) -> str:
    service, slash, method = name.removeprefix("/").rpartition("/")
    if not slash or not service or not method or "/" in service:
        _refuse(f"has a rule for {_shown(name)}, which is not the name of a method like pkg.Service/Method")
    return f"{service}/{method}"


def _object(value: Any, where: str, known: tuple[str, ...]) -> None:
    if not isinstance(value, dict):
        _refuse(f"has {where} = {_shown(value)}, which is not an object" if where else f"is {_shown(value)}, which is not an object")
    for name in value:
        if name not in known:
            _refuse(f"has the unknown property {_shown(name)}{f' in {where}' if where else ''}; known are {' and '.join(known)}")


def _boolean(config: Mapping[str, Any], where: str, name: str) -> bool:
    value = config.get(name, False)
    if not isinstance(value, bool):
        _refuse(f"has {f'{where}.' if where else ''}{name} = {_shown(value)}, which is neither true nor false")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        _refuse(f"has {_shown(next(name for name in names if names.count(name) > 1))} twice in one object")
    return found


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refuse(fault: str) -> Never:
    raise Malformed(f"dataplane config {fault}; it looks like {_HINT}")
