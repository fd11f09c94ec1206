"""What of a service's traffic policy the express lane decides: all that headers and weights decide, and nothing else."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.ids import ModelId
from mesh.core.registry.records import AliasRecord, ModelInfo
from mesh.core.routing.sharing import Fitting, Header, Ordered, Shared, Sharing, sharing_of
from mesh.core.traffic.choice import Serving, Tensor, choose
from mesh.core.traffic.policy import Version
from mesh.core.traffic.reading import Reader
from mesh.core.traffic.versions import format_of, runtime_of, versions_of

OLD, STABLE, NEW = ModelId("old"), ModelId("stable"), ModelId("new")
SKLEARN = ModelInfo("mt:sklearn:1")
TO_NEW = [{"version": 5}]
REST = Shared(((STABLE, 100),), "")


def service(*rules: dict[str, Any], default: Any = None, **more: Any) -> AliasRecord:
    policy = Reader(lambda _: None).policy({"rules": list(rules), "default": default})
    versions = (Version(1, OLD), Version(2, STABLE), Version(5, NEW))
    return AliasRecord(STABLE, STABLE, versions=versions, policy=policy, **more)


def rule(**match: Any) -> dict[str, Any]:
    return {"match": [match], "to": TO_NEW}


def conditions(record: AliasRecord, info: ModelInfo | None = SKLEARN) -> list[tuple[Fitting, ...]]:
    found = sharing_of(record, info)
    assert found is not None
    return [rule.matches for rule in found.rules]


def test_a_canary_gets_its_share_and_the_stable_version_comes_last() -> None:
    assert sharing_of(service(canary=5), None) == Sharing((), Shared(((NEW, 5), (STABLE, 95)), ""))


def test_callers_that_stay_are_told_by_their_header() -> None:
    shares = [{"version": "stable", "weight": 50}, {"version": "canary", "weight": 30}, {"version": 1, "weight": 20}]
    found = sharing_of(service(default={"to": shares, "sticky": "X-User"}), None)
    assert found == Sharing((), Shared(((NEW, 30), (OLD, 20), (STABLE, 50)), "x-user"))
    assert found.models == {OLD, STABLE, NEW}


def test_what_is_asked_of_headers_is_told_in_order() -> None:
    first = {"match": [{"headers": {"X-A": "1", "b": {"prefix": "2"}}}, {"headers": {"c": {"present": False}}, "percent": 5}], "to": TO_NEW}
    second = {"match": [{"percent": 2.5}], "to": [{"version": 1}]}
    matches = (
        Fitting((Header("x-a", "exact", "1"), Header("b", "prefix", "2")), None),
        Fitting((Header("c", "present", "false"),), 5.0),
    )
    rules = Ordered(matches, Shared(((NEW, 100),), "")), Ordered((Fitting((), 2.5),), Shared(((OLD, 100),), ""))
    assert sharing_of(service(first, second), None) == Sharing(rules, REST)


def test_a_version_that_is_not_kept_is_served_by_the_stable_one_in_its_place() -> None:
    found = sharing_of(service(default={"to": [{"version": "stable", "weight": 60}, {"version": 9, "weight": 40}]}), None)
    assert found == Sharing((), Shared(((STABLE, 40), (STABLE, 60)), ""))


def test_models_without_weight_get_no_calls() -> None:
    found = sharing_of(service(default={"to": [{"version": 1, "weight": 0}, {"version": "stable", "weight": 100}]}), None)
    assert found is not None
    assert found.models == {STABLE}


def test_what_is_said_of_the_model_is_answered_once_for_all_calls() -> None:
    by_format = service(rule(format="sklearn", headers={"a": "1"}), rule(format="onnx", headers={"a": "2"}))
    assert conditions(by_format) == [(Fitting((Header("a", "exact", "1"),), None),)]
    by_runtime = service(rule(runtime="triton", headers={"a": "1"}))
    assert conditions(by_runtime) == []
    assert conditions(by_runtime, ModelInfo("rt:triton")) == [(Fitting((Header("a", "exact", "1"),), None),)]


@pytest.mark.parametrize(
    ("info", "format"),
    [
        (ModelInfo("mt:onnx:2|rt:triton"), "onnx"),
        (ModelInfo("rt:triton", key='{"model_type": {"name": "onnx"}}'), "onnx"),
        (ModelInfo("rt:triton", key='{"model_type": "onnx"}'), "onnx"),
        (ModelInfo("rt:triton", key='{"model_type": {}}'), ""),
        (ModelInfo("rt:triton", key="[]"), ""),
        (ModelInfo("rt:triton", key="no JSON"), ""),
    ],
)
def test_a_models_format_is_named_by_its_label_or_else_its_key(info: ModelInfo, format: str) -> None:
    assert format_of(info) == format


def test_as_long_as_nothing_is_known_of_the_model_it_is_pythons() -> None:
    assert sharing_of(service(rule(format="sklearn")), None) is None
    assert sharing_of(service(rule(headers={"a": "1"})), None) is not None


@pytest.mark.parametrize(("match", "info"), [({"format": "sklearn"}, SKLEARN), ({"percent": 100}, None)])
def test_what_follows_on_a_rule_that_takes_all_calls_makes_no_difference(match: dict[str, Any], info: ModelInfo | None) -> None:
    behind = rule(parameters={"a": "1"})
    assert sharing_of(service(rule(**match), behind), info) == Sharing((), Shared(((NEW, 100),), ""))
    assert sharing_of(service({"to": TO_NEW}), None) == Sharing((), Shared(((NEW, 100),), ""))


@pytest.mark.parametrize(
    "match",
    [
        {"parameters": {"a": "1"}},
        {"inputs": [{"name": "x"}]},
        {"headers": {"a": {"regex": "b+"}}},
        {"headers": {"a-bin": "1"}},
        {"headers": {"grpc-timeout": "1S"}},
        {"headers": {"Content-Type": "1"}},
        {"headers": {"mm-lane-tried": "1"}},
        {"headers": {"no name": "1"}},
    ],
)
def test_what_takes_more_than_plain_headers_is_pythons(match: dict[str, Any]) -> None:
    assert sharing_of(service(rule(**match)), SKLEARN) is None
    never = rule(**{"format": "onnx", **match})
    assert sharing_of(service(never), SKLEARN) == Sharing((), REST)


def test_a_header_by_which_callers_stay_has_to_be_plain_too() -> None:
    assert sharing_of(service(default={"to": TO_NEW, "sticky": "user-bin"}), None) is None


class Call:
    """With headers, and what is drawn."""

    def __init__(self, headers: dict[str, str], draws: list[float]) -> None:
        self.headers, self.draws = headers, itertools.cycle(draws)

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    def parameter(self, name: str) -> str | None:
        return None

    def inputs(self) -> list[Tensor]:
        return []

    def draw(self) -> float:
        return next(self.draws)


def by_lane(sharing: Sharing, call: Call) -> ModelId:
    """As `lane/src/sharing.rs` chooses; callers do not stay here."""

    def holds(header: Header) -> bool:
        value = call.header(header.name)
        if header.how == "present":
            return (value is not None) == (header.value == "true")
        return value is not None and (value == header.value if header.how == "exact" else value.startswith(header.value))

    def fits(match: Fitting) -> bool:
        return all(map(holds, match.headers)) and (match.percent is None or call.draw() * 100 < match.percent)

    to = next((rule.to for rule in sharing.rules if any(map(fits, rule.matches))), sharing.rest)
    if len(to.shares) == 1:
        return to.shares[0][0]
    left = call.draw() * 100
    for model, weight in to.shares[:-1]:
        left -= weight
        if left < 0:
            return model
    return to.shares[-1][0]


TESTS = st.one_of(
    st.sampled_from("ab"),
    st.builds(lambda text: {"prefix": text}, st.sampled_from(["", "a"])),
    st.builds(lambda yes: {"present": yes}, st.booleans()),
)
MATCHES = st.fixed_dictionaries(
    {"headers": st.dictionaries(st.sampled_from("xyz"), TESTS, min_size=1)},
    optional={"percent": st.integers(1, 99), "format": st.sampled_from(["sklearn", "onnx"]), "runtime": st.just("triton")},
)
SHARES = st.integers(0, 100).flatmap(
    lambda weight: st.permutations(["stable", "canary", 1, 9]).map(
        lambda versions: [{"version": versions[0], "weight": weight}, {"version": versions[1], "weight": 100 - weight}]
    )
)
RULES = st.lists(st.fixed_dictionaries({"match": st.lists(MATCHES, min_size=1, max_size=3), "to": SHARES}), max_size=4)
HEADERS = st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["", "a", "b", "ab"]))


@given(RULES, SHARES, HEADERS, st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5))
def test_both_planes_choose_the_same(rules: list[Any], default: Any, headers: dict[str, str], draws: list[float]) -> None:
    record = service(*rules, default={"to": default})
    sharing = sharing_of(record, SKLEARN)
    assert sharing is not None
    serving = Serving("s", STABLE, versions_of(record), format_of(SKLEARN), runtime_of(SKLEARN), lambda _: True, lambda *_: False)
    python = Call(headers, draws)
    assert by_lane(sharing, Call(headers, draws)) == choose(record.traffic, serving, python, python.draw).model
