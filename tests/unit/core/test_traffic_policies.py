"""Traffic policies as users write them: read into what they mean, written back the same, refused by the name of the field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.traffic.policy import NO_POLICY, Comparison, Destination, Input, Match, Policy, Rule, Share, Text, Word, canary
from mesh.core.traffic.reading import DATATYPES, Reader, Sharing, policy_to_json, sharing_from_json, sharing_to_json

READER = Reader(lambda pattern: "missing ): " + pattern if pattern.count("(") != pattern.count(")") else None)

WHOLE: dict[str, Any] = {
    "rules": [
        {
            "name": "beta",
            "match": [
                {"headers": {"X-Group": {"exact": "beta"}, "x-plain": "yes"}, "parameters": {"tier": {"prefix": "go"}}},
                {"headers": {"x-user": {"present": False}, "x-lang": {"regex": "de(-.*)?"}}, "percent": 12.5},
                {"inputs": [{"datatype": "FP32", "shape": [-1, 64]}, {"name": "text"}], "format": "sklearn", "runtime": "mlserver"},
            ],
            "to": [{"version": 2}],
        },
        {"match": [{"percent": 10}], "to": [{"version": "stable", "weight": 50}, {"version": 1, "weight": 50}], "sticky": "X-User"},
    ],
    "default": {"to": [{"version": "stable", "weight": 95}, {"version": "canary", "weight": 5}]},
}


def test_a_policy_means_what_it_says() -> None:
    beta = Rule(
        "beta",
        (
            Match(
                (Text("x-group", Comparison.EXACT, "beta"), Text("x-plain", Comparison.EXACT, "yes")),
                (Text("tier", Comparison.PREFIX, "go"),),
            ),
            Match((Text("x-user", Comparison.PRESENT, "false"), Text("x-lang", Comparison.REGEX, "de(-.*)?")), percent=12.5),
            Match(inputs=(Input(None, "FP32", (-1, 64)), Input("text")), format="sklearn", runtime="mlserver"),
        ),
        Destination((Share(2, 100),)),
    )
    some = Rule("", (Match(percent=10.0),), Destination((Share(Word.STABLE, 50), Share(1, 50)), "x-user"))
    assert READER.policy(WHOLE) == Policy((beta, some), canary(5))
    assert list(READER.policy(WHOLE).versions()) == [
        ("rules[0].to[0].version", 2),
        ("rules[1].to[0].version", Word.STABLE),
        ("rules[1].to[1].version", 1),
        ("default.to[0].version", Word.STABLE),
        ("default.to[1].version", Word.CANARY),
    ]


def test_no_policy_is_an_empty_one() -> None:
    assert READER.policy({}) == NO_POLICY
    assert policy_to_json(NO_POLICY) == {}


def test_whether_the_body_is_needed_is_known_beforehand() -> None:
    headers = {"rules": [{"match": [{"headers": {"a": "b"}}, {"percent": 3}], "to": [{"version": 1}]}]}
    assert not READER.policy(headers).needs_body
    assert READER.policy(WHOLE).needs_body


TEXTS = st.text(min_size=1, max_size=8)
NAMED = st.one_of(st.integers(1, 99), st.sampled_from(Word))


@st.composite
def conditions(draw: st.DrawFn) -> tuple[Text, ...]:
    names = draw(st.lists(TEXTS.map(str.lower), max_size=3, unique=True))
    return tuple(
        Text(
            name,
            how := draw(st.sampled_from(Comparison)),
            draw(st.sampled_from(["true", "false"]))
            if how is Comparison.PRESENT
            else draw(TEXTS.filter(lambda text: not {*text} & {*"()"})),
        )
        for name in names
    )


@st.composite
def destinations(draw: st.DrawFn) -> Destination:
    versions = draw(st.lists(NAMED, min_size=1, max_size=4, unique=True))
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=len(versions) - 1, max_size=len(versions) - 1)))
    weights = [right - left for left, right in zip([0, *cuts], [*cuts, 100], strict=True)]
    return Destination(tuple(map(Share, versions, weights)), draw(st.text(max_size=4)).lower())


INPUTS = st.builds(
    Input,
    st.none() | TEXTS,
    st.none() | st.sampled_from(sorted(DATATYPES)),
    st.none() | st.lists(st.integers(-1, 9), max_size=3).map(tuple),
).filter(lambda one: one != Input())
MATCHES = st.builds(
    Match,
    conditions(),
    conditions(),
    st.lists(INPUTS, max_size=2).map(tuple),
    st.none() | TEXTS,
    st.none() | TEXTS,
    st.none() | st.floats(0.01, 100),
).filter(lambda match: match != Match())
RULES = st.builds(Rule, TEXTS, st.lists(MATCHES, min_size=1, max_size=2).map(tuple), destinations())
POLICIES = st.builds(Policy, st.lists(RULES, max_size=3, unique_by=lambda rule: rule.name).map(tuple), st.none() | destinations())


@given(POLICIES)
def test_what_is_written_is_read_back(policy: Policy) -> None:
    assert READER.policy(policy_to_json(policy)) == policy


def changed(place: str, value: Any) -> Any:
    """The whole policy with another value at a place like `rules.0.to`."""

    def put(data: Any, keys: list[str]) -> Any:
        if not keys:
            return value
        key = int(keys[0]) if isinstance(data, list) else keys[0]
        if isinstance(data, list):
            return [put(one, keys[1:]) if number == key else one for number, one in enumerate(data)]
        return {**data, keys[0]: put(data.get(key), keys[1:])}

    return put(WHOLE, place.split("."))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("rules", {}, "spec.rules has to be a list, not {}"),
        ("rules", [{"to": [{"version": 1}]}] * 33, "spec.rules has 33 entries; there may be 32"),
        ("rules.0", 7, "spec.rules[0] has to be an object, not 7"),
        ("rules.0.name", 7, "spec.rules[0].name has to be a text, not 7"),
        ("rules.1.name", "beta", "spec.rules[0].name 'beta' is the name of two rules"),
        ("rules.0.match", [], "spec.rules[0].match is absent, so this rule takes every call, and those after it none; make it the default"),
        ("rules.0.match.0", {}, "spec.rules[0].match[0] has no condition; leave `match` out for a rule that takes every call"),
        (
            "rules.0.match.0.header",
            {},
            "spec.rules[0].match[0].header is not known; spec.rules[0].match[0] may have headers, parameters, inputs,",
        ),
        ("rules.0.match.0.headers.a", {}, "spec.rules[0].match[0].headers.a needs one of exact, prefix, regex, present"),
        ("rules.0.match.0.headers.a", {"like": "b"}, "spec.rules[0].match[0].headers.a.like is not known;"),
        ("rules.0.match.0.headers.a", {"exact": "b", "prefix": "c"}, "spec.rules[0].match[0].headers.a needs one of"),
        ("rules.0.match.0.headers.a", {"regex": "("}, "spec.rules[0].match[0].headers.a.regex '(' cannot be used: missing ): ("),
        ("rules.0.match.0.headers.a", {"present": "yes"}, "spec.rules[0].match[0].headers.a.present has to be true or false, not 'yes'"),
        ("rules.0.match.0.headers.a", "x" * 257, "spec.rules[0].match[0].headers.a.exact has 257 characters; there may be 256"),
        (
            "rules.0.match.0.headers",
            {str(number): "" for number in range(17)},
            "spec.rules[0].match[0].headers has 17 conditions; there may be 16",
        ),
        ("rules.0.match.0.headers", {7: "x"}, "spec.rules[0].match[0].headers has a field named 7; names are texts"),
        ("rules.0.match.2.inputs.0", {}, "spec.rules[0].match[2].inputs[0] needs name, datatype or shape"),
        ("rules.0.match.2.inputs.0.datatype", "FLOAT", "spec.rules[0].match[2].inputs[0].datatype has to be one of BF16, BOOL,"),
        ("rules.0.match.2.inputs.0.shape", [-2], "spec.rules[0].match[2].inputs[0].shape has lengths of dimensions, or -1 for any, not -2"),
        ("rules.1.match.0.percent", 0, "spec.rules[1].match[0].percent has to be a number above 0 and up to 100, not 0"),
        ("rules.1.match.0.percent", True, "spec.rules[1].match[0].percent has to be a number above 0 and up to 100, not True"),
        ("rules.0.to", None, "spec.rules[0].to has to be a list, not None"),
        ("rules.0.to", [], "spec.rules[0].to has weights that add up to 0, not to 100"),
        ("rules.0.to.0.version", 0, "spec.rules[0].to[0].version has to be the number of a version, stable or canary, not 0"),
        ("rules.0.to.0.version", "newest", "spec.rules[0].to[0].version has to be the number of a version, stable or canary, not 'newest'"),
        ("rules.0.to.0", {"weight": 100}, "spec.rules[0].to[0].version is absent; it is a number, stable or canary"),
        ("rules.1.to.0.weight", 60, "spec.rules[1].to has weights that add up to 110, not to 100"),
        ("rules.1.to.0.weight", 50.0, "spec.rules[1].to[0].weight has to be a whole number from 0 to 100, not 50.0"),
        ("rules.1.to.0", {"version": 3}, "spec.rules[1].to[0].weight has to be a whole number from 0 to 100, not None"),
        ("rules.1.to.0.version", 1, "spec.rules[1].to[1].version 1 stands there twice"),
        ("rules.1.sticky", 1, "spec.rules[1].sticky has to be a text, not 1"),
        ("default", {"sticky": "x"}, "spec.default.to is absent; it lists versions and weights"),
        ("default.match", [], "spec.default.match is not known; spec.default may have to, sticky"),
        ("mirrors", [], "spec.mirrors is not known; spec may have rules, default"),
    ],
)
def test_what_is_wrong_is_told_by_the_name_of_its_field(place: str, value: Any, said: str) -> None:
    with pytest.raises(Malformed) as refused:
        READER.policy(changed(place, value), "spec")
    assert refused.value.message.startswith(said)


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(Malformed, match=r"the policy has to be an object, not \[\]"):
        READER.policy([])
    with pytest.raises(Malformed, match="rule is not known; a policy may have rules, default"):
        READER.policy({"rule": []})


@given(st.builds(Sharing, st.integers(0, 100), st.none() | st.integers(0, 99)))
def test_what_is_said_of_versions_is_read_back(sharing: Sharing) -> None:
    assert sharing_from_json(sharing_to_json(sharing)) == sharing


def test_a_canary_that_gets_all_calls_is_none() -> None:
    assert sharing_from_json({"canary": 100}) == Sharing(0, None)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], r"the policy has to be an object, not \[\]"),
        ({"keep": 101}, "keep has to be a whole number from 0 to 100, not 101"),
        ({"canary": "5"}, "canary has to be a whole number from 0 to 100, not '5'"),
        ({"canaries": 5}, "canaries is not known"),
    ],
)
def test_what_is_said_wrongly_of_versions_is_refused(data: Any, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        sharing_from_json(data)
