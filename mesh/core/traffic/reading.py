"""A policy as JSON or YAML has it ↔ `Policy`; what is wrong is told by the field's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Never

from mesh.core.errors import Malformed
from mesh.core.traffic.policy import WHOLE, Comparison, Destination, Input, Match, Named, Policy, Rule, Share, Text, Word

MOST_RULES, MOST_MATCHES, MOST_CONDITIONS = 32, 16, 16
"""Of a policy, of a rule, of a match: a call is held against them one by one."""
MOST_KEPT = 100
"""Versions of a service."""
MOST_TEXT = 256
"""Characters of a text that is compared, or of a pattern."""
DATATYPES = frozenset(
    {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16", "BYTES"}
)
"""Of the open inference protocol, v2."""

Patterns = Callable[[str], str | None]
"""What is wrong with a pattern; None if it can be used."""


class Reader:
    """Reads policies.

    Args:
        patterns: judges patterns; the core itself has no engine for them.
    """

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns

    def policy(self, data: Any, place: str = "") -> Policy:
        """Reads a policy.

        Args:
            place: the field where it stands, e.g. `spec`.

        Raises:
            Malformed: names the field and what is wrong with it.
        """
        _object(data, place, ("rules", "default"))
        rules = _list(data.get("rules", []), _in(place, "rules"), MOST_RULES)
        read = tuple(self._rule(rule, _in(place, f"rules[{number}]")) for number, rule in enumerate(rules))
        names = [rule.name for rule in read if rule.name]
        for number, rule in enumerate(read):
            if rule.name and names.count(rule.name) > 1:
                _refuse(_in(place, f"rules[{number}].name"), f"{rule.name!r} is the name of two rules")
        for number, rule in enumerate(read[:-1]):
            if not rule.matches:
                _refuse(
                    _in(place, f"rules[{number}].match"),
                    "is absent, so this rule takes every call, and those after it none; make it the default",
                )
        default = data.get("default")
        return Policy(read, None if default is None else self._destination(default, _in(place, "default"), ()))

    def _rule(self, data: Any, place: str) -> Rule:
        _object(data, place, ("name", "match", "to", "sticky"))
        matches = _list(data.get("match", []), _in(place, "match"), MOST_MATCHES)
        read = tuple(self._match(match, _in(place, f"match[{number}]")) for number, match in enumerate(matches))
        return Rule(_text(data.get("name", ""), _in(place, "name")), read, self._destination(data, place, ("name", "match")))

    def _match(self, data: Any, place: str) -> Match:
        _object(data, place, ("headers", "parameters", "inputs", "format", "runtime", "percent"))
        if not data:
            _refuse(place, "has no condition; leave `match` out for a rule that takes every call")
        inputs = _list(data.get("inputs", []), _in(place, "inputs"), MOST_CONDITIONS)
        return Match(
            tuple(condition._replace(name=condition.name.lower()) for condition in self._texts(data, place, "headers")),
            self._texts(data, place, "parameters"),
            tuple(_input(one, _in(place, f"inputs[{number}]")) for number, one in enumerate(inputs)),
            _optional(data, place, "format"),
            _optional(data, place, "runtime"),
            _percent(data.get("percent"), _in(place, "percent")),
        )

    def _texts(self, data: Any, place: str, name: str) -> tuple[Text, ...]:
        found = data.get(name, {})
        _object(found, where := _in(place, name), None)
        if len(found) > MOST_CONDITIONS:
            _refuse(where, f"has {len(found)} conditions; there may be {MOST_CONDITIONS}")
        return tuple(self._condition(key, value, f"{where}.{key}") for key, value in found.items())

    def _condition(self, name: str, data: Any, place: str) -> Text:
        tests = [test.value for test in Comparison]
        if isinstance(data, str):
            data = {Comparison.EXACT.value: data}
        _object(data, place, tests)
        if len(data) != 1:
            _refuse(place, f"needs one of {', '.join(tests)}")
        ((word, value),) = data.items()
        test = Comparison(word)
        if test is Comparison.PRESENT:
            if not isinstance(value, bool):
                _refuse(f"{place}.present", f"has to be true or false, not {value!r}")
            return Text(name, test, "true" if value else "false")
        text = _text(value, f"{place}.{word}")
        if test is Comparison.REGEX and (fault := self._patterns(text)) is not None:
            _refuse(f"{place}.regex", f"{text!r} cannot be used: {fault}")
        return Text(name, test, text)

    def _destination(self, data: Any, place: str, besides: tuple[str, ...]) -> Destination:
        _object(data, place, (*besides, "to", "sticky"))
        if "to" not in data:
            _refuse(_in(place, "to"), "is absent; it lists versions and weights, e.g. [{version: canary, weight: 100}]")
        listed = _list(data["to"], where := _in(place, "to"), MOST_CONDITIONS)
        shares = tuple(_share(one, f"{where}[{number}]", len(listed)) for number, one in enumerate(listed))
        if sum(share.weight for share in shares) != WHOLE:
            _refuse(where, f"has weights that add up to {sum(share.weight for share in shares)}, not to {WHOLE}")
        for number, share in enumerate(shares):
            if share.version in [other.version for other in shares[:number]]:
                _refuse(f"{where}[{number}].version", f"{shown(share.version)} stands there twice")
        return Destination(shares, _text(data.get("sticky", ""), _in(place, "sticky")).lower())


def policy_to_json(policy: Policy) -> dict[str, Any]:
    """As `Reader.policy` reads it; what is not asked for is left out."""
    rules = [
        _present({"name": rule.name, "match": [_match_to_json(match) for match in rule.matches], **_destination_to_json(rule.to)})
        for rule in policy.rules
    ]
    return _present({"rules": rules, "default": _destination_to_json(policy.default) if policy.default else None})


class Sharing(NamedTuple):
    """What whoever points a service at a model says of its versions.

    Attributes:
        keep: so many are kept; 0 is none beside those that there are.
        canary: so many of a hundred calls that the model gets; None is all.
    """

    keep: int = 0
    canary: int | None = None


def sharing_to_json(sharing: Sharing) -> dict[str, int]:
    """As the header `mesh-traffic` has it."""
    return {"keep": sharing.keep} | ({} if sharing.canary is None else {"canary": sharing.canary})


def sharing_from_json(data: Any) -> Sharing:
    """Reads what `sharing_to_json` writes.

    Raises:
        Malformed: says which field is wrong.
    """
    _object(data, "", ("keep", "canary"))
    for name, most in (("keep", MOST_KEPT), ("canary", WHOLE)):
        if name in data and (type(data[name]) is not int or not 0 <= data[name] <= most):
            _refuse(name, f"has to be a whole number from 0 to {most}, not {data[name]!r}")
    canary = data.get("canary")
    return Sharing(data.get("keep", 0), None if canary == WHOLE else canary)


def version_of(value: Any, place: str) -> Named:
    """A version by number or word.

    Raises:
        Malformed: it is neither.
    """
    if type(value) is int and value > 0:
        return value
    if value not in [word.value for word in Word]:
        _refuse(place, f"has to be the number of a version, {' or '.join(word.value for word in Word)}, not {value!r}")
    return Word(value)


def shown(version: Named) -> int | str:
    """As documents have it."""
    return version.value if isinstance(version, Word) else version


def _share(data: Any, place: str, among: int) -> Share:
    _object(data, place, ("version", "weight"))
    if "version" not in data:
        _refuse(f"{place}.version", "is absent; it is a number, stable or canary")
    weight = data.get("weight", WHOLE if among == 1 else None)
    if type(weight) is not int or not 0 <= weight <= WHOLE:
        _refuse(f"{place}.weight", f"has to be a whole number from 0 to {WHOLE}, not {weight!r}")
    return Share(version_of(data["version"], f"{place}.version"), weight)


def _input(data: Any, place: str) -> Input:
    _object(data, place, ("name", "datatype", "shape"))
    if not data:
        _refuse(place, "needs name, datatype or shape")
    datatype, shape = data.get("datatype"), data.get("shape")
    if datatype is not None and datatype not in DATATYPES:
        _refuse(f"{place}.datatype", f"has to be one of {', '.join(sorted(DATATYPES))}, not {datatype!r}")
    if shape is not None:
        shape = tuple(_list(shape, f"{place}.shape", MOST_CONDITIONS))
        for length in shape:
            if type(length) is not int or length < -1:
                _refuse(f"{place}.shape", f"has lengths of dimensions, or -1 for any, not {length!r}")
    return Input(_optional(data, place, "name"), datatype, shape)


def _percent(value: Any, place: str) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 < value <= WHOLE:
        _refuse(place, f"has to be a number above 0 and up to {WHOLE}, not {value!r}")
    return float(value)


def _match_to_json(match: Match) -> dict[str, Any]:
    percent = match.percent
    return _present(
        {
            "headers": {text.name: _text_to_json(text) for text in match.headers},
            "parameters": {text.name: _text_to_json(text) for text in match.parameters},
            "inputs": [
                {
                    name: value
                    for name, value in (("name", one.name), ("datatype", one.datatype), ("shape", _listed(one.shape)))
                    if value is not None
                }
                for one in match.inputs
            ],
            "format": match.format,
            "runtime": match.runtime,
            "percent": int(percent) if percent is not None and percent.is_integer() else percent,
        }
    )


def _text_to_json(text: Text) -> dict[str, Any]:
    return {text.how.value: text.value == "true" if text.how is Comparison.PRESENT else text.value}


def _destination_to_json(destination: Destination) -> dict[str, Any]:
    to = [{"version": shown(share.version), "weight": share.weight} for share in destination.shares]
    return _present({"to": to, "sticky": destination.sticky})


def _listed(shape: tuple[int, ...] | None) -> list[int] | None:
    return None if shape is None else list(shape)


def _present(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value not in (None, "", [], {})}


def _object(data: Any, place: str, known: tuple[str, ...] | list[str] | None) -> None:
    if not isinstance(data, Mapping):
        _refuse(place, f"has to be an object, not {data!r}")
    for name in data:
        if not isinstance(name, str) or not name:
            _refuse(place, f"has a field named {name!r}; names are texts")
        if known is not None and name not in known:
            _refuse(_in(place, name), f"is not known; {place or 'a policy'} may have {', '.join(known)}")


def _list(data: Any, place: str, most: int) -> list[Any]:
    if not isinstance(data, list):
        _refuse(place, f"has to be a list, not {data!r}")
    if len(data) > most:
        _refuse(place, f"has {len(data)} entries; there may be {most}")
    return data


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        _refuse(place, f"has to be a text, not {value!r}")
    if len(value) > MOST_TEXT:
        _refuse(place, f"has {len(value)} characters; there may be {MOST_TEXT}")
    return value


def _optional(data: Any, place: str, name: str) -> str | None:
    return None if data.get(name) is None else _text(data[name], _in(place, name))


def _in(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _refuse(place: str, fault: str) -> Never:
    raise Malformed(f"{place} {fault}" if place else f"the policy {fault}")
