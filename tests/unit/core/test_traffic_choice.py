"""Which version a call goes to: rules in their order, weights, callers that stay where they are, versions that cannot serve yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.ids import ModelId
from mesh.core.traffic.choice import Chosen, Serving, Tensor, choose, model_of, position
from mesh.core.traffic.policy import NO_POLICY, Policy, Version, Word, canary
from mesh.core.traffic.reading import Reader

OLD, STABLE, NEW = ModelId("old"), ModelId("stable"), ModelId("new")
VERSIONS = (Version(1, OLD), Version(2, STABLE), Version(5, NEW))


@dataclass
class Call:
    headers: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    tensors: Sequence[Tensor] = ()
    looked: int = 0

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    def parameter(self, name: str) -> str | None:
        self.looked += 1
        return self.parameters.get(name)

    def inputs(self) -> Sequence[Tensor]:
        self.looked += 1
        return self.tensors


def serving(*away: ModelId, format: str = "sklearn", runtime: str = "") -> Serving:
    return Serving("mnist", STABLE, VERSIONS, format, runtime, lambda model: model not in away, lambda pattern, text: pattern == text)


def policy(*rules: dict[str, Any], default: Any = None) -> Policy:
    return Reader(lambda _: None).policy({"rules": list(rules), "default": default})


def never() -> float:
    raise AssertionError("nothing is left to chance here")


def drawn(number: float) -> Callable[[], float]:
    return lambda: number


def test_without_a_policy_the_stable_version_serves() -> None:
    assert choose(NO_POLICY, serving(), Call(), never) == Chosen(STABLE, "default")


@pytest.mark.parametrize(("draw", "model"), [(0.0, NEW), (0.049, NEW), (0.05, STABLE), (0.999, STABLE)])
def test_a_canary_gets_its_share(draw: float, model: ModelId) -> None:
    assert choose(Policy(default=canary(5)), serving(), Call(), drawn(draw)) == Chosen(model, "default")


def test_a_version_that_cannot_serve_yet_gets_no_calls() -> None:
    only = policy({"name": "all", "to": [{"version": 5}]})
    assert choose(only, serving(NEW), Call(), never) == Chosen(STABLE, "all", instead_of=NEW)
    assert choose(only, serving(), Call(), never) == Chosen(NEW, "all")


def test_a_stable_version_without_a_copy_is_what_calls_go_to_all_the_same() -> None:
    assert choose(NO_POLICY, serving(STABLE), Call(), never) == Chosen(STABLE, "default")


def test_a_version_that_is_not_kept_any_more_is_served_by_the_stable_one() -> None:
    assert choose(policy({"to": [{"version": 4}]}), serving(), Call(), never) == Chosen(STABLE, "1")


def test_the_first_rule_that_fits_decides() -> None:
    rules = policy(
        {"match": [{"headers": {"x-group": "beta"}}], "to": [{"version": 5}]},
        {"name": "old", "match": [{"headers": {"x-group": {"prefix": "b"}}}], "to": [{"version": 1}]},
    )
    assert choose(rules, serving(), Call({"x-group": "beta"}), never) == Chosen(NEW, "1")
    assert choose(rules, serving(), Call({"x-group": "best"}), never) == Chosen(OLD, "old")
    assert choose(rules, serving(), Call({"x-group": "none"}), never) == Chosen(STABLE, "default")


@pytest.mark.parametrize(
    ("match", "fits", "fits_not"),
    [
        ({"headers": {"X-A": "b"}}, Call({"x-a": "b"}), Call({"x-a": "bc"})),
        ({"headers": {"x-a": {"prefix": "b"}}}, Call({"x-a": "bc"}), Call()),
        ({"headers": {"x-a": {"regex": "b"}}}, Call({"x-a": "b"}), Call({"x-a": "bc"})),
        ({"headers": {"x-a": {"present": True}}}, Call({"x-a": ""}), Call()),
        ({"headers": {"x-a": {"present": False}}}, Call(), Call({"x-a": "b"})),
        ({"headers": {"a": "1", "b": "2"}}, Call({"a": "1", "b": "2"}), Call({"a": "1"})),
        ({"parameters": {"tier": "gold"}}, Call(parameters={"tier": "gold"}), Call({"tier": "gold"})),
        ({"inputs": [{"datatype": "FP32"}]}, Call(tensors=[Tensor("x", "FP32", (1,))]), Call(tensors=[Tensor("x", "FP64", (1,))])),
        (
            {"inputs": [{"name": "x", "shape": [-1, 4]}]},
            Call(tensors=[Tensor("x", "FP32", (9, 4))]),
            Call(tensors=[Tensor("x", "FP32", (9, 5))]),
        ),
        ({"inputs": [{"shape": [4]}]}, Call(tensors=[Tensor("x", "FP32", (4,))]), Call(tensors=[Tensor("x", "FP32", (4, 1))])),
        (
            {"inputs": [{"name": "a"}, {"name": "b"}]},
            Call(tensors=[Tensor(name, "FP32", ()) for name in "abc"]),
            Call(tensors=[Tensor("a", "FP32", ())]),
        ),
    ],
)
def test_a_condition_fits_what_it_says(match: dict[str, Any], fits: Call, fits_not: Call) -> None:
    rules = policy({"match": [match], "to": [{"version": 5}]})
    assert choose(rules, serving(), fits, never).model == NEW
    assert choose(rules, serving(), fits_not, never).model == STABLE


def test_one_of_several_matches_is_enough() -> None:
    rules = policy({"match": [{"headers": {"a": "1"}}, {"headers": {"b": "2"}}], "to": [{"version": 5}]})
    assert choose(rules, serving(), Call({"b": "2"}), never).model == NEW


def test_format_and_runtime_are_those_of_the_stable_version() -> None:
    by_format = policy({"match": [{"format": "onnx"}], "to": [{"version": 5}]})
    assert choose(by_format, serving(format="onnx"), Call(), never).model == NEW
    assert choose(by_format, serving(), Call(), never).model == STABLE
    by_runtime = policy({"match": [{"runtime": "triton-2.x"}], "to": [{"version": 5}]})
    assert choose(by_runtime, serving(runtime="triton-2.x"), Call(), never).model == NEW
    assert choose(by_runtime, serving(), Call(), never).model == STABLE


def test_a_percentage_takes_so_many_of_the_calls_that_fit() -> None:
    rules = policy({"match": [{"headers": {"a": "1"}, "percent": 10}], "to": [{"version": 5}]})
    assert choose(rules, serving(), Call({"a": "1"}), drawn(0.09)).model == NEW
    assert choose(rules, serving(), Call({"a": "1"}), drawn(0.1)).model == STABLE
    assert choose(rules, serving(), Call({"a": "2"}), never).model == STABLE


def test_the_body_is_looked_at_only_where_a_rule_gets_that_far() -> None:
    rules = policy(
        {"match": [{"headers": {"a": "1"}}], "to": [{"version": 5}]},
        {"match": [{"parameters": {"b": "2"}}], "to": [{"version": 1}]},
    )
    call = Call({"a": "1"}, {"b": "2"})
    assert choose(rules, serving(), call, never).model == NEW
    assert call.looked == 0


SHARES = [{"version": 1, "weight": 20}, {"version": "stable", "weight": 50}, {"version": "canary", "weight": 30}]


def test_weights_are_the_shares_of_what_is_drawn() -> None:
    shared = policy(default={"to": SHARES})
    models = [choose(shared, serving(), Call(), drawn(number / 1000)).model for number in range(1000)]
    assert [models.count(model) for model in (OLD, STABLE, NEW)] == [200, 500, 300]


def test_callers_with_the_same_value_go_the_same_way() -> None:
    shared = policy(default={"to": SHARES, "sticky": "x-user"})
    ways = {user: choose(shared, serving(), Call({"x-user": user}), never).model for user in map(str, range(2000))}
    assert {user: choose(shared, serving(), Call({"x-user": user}), never).model for user in ways} == ways
    shares = [sum(way == model for way in ways.values()) / len(ways) for model in (OLD, STABLE, NEW)]
    assert shares == pytest.approx([0.2, 0.5, 0.3], abs=0.04)
    assert choose(shared, serving(), Call(), drawn(0.0)).model == OLD


@given(st.text(max_size=8), st.integers(0, 99), st.integers(0, 99))
def test_nobody_is_taken_from_a_version_whose_weight_grows(user: str, weight: int, more: int) -> None:
    less, more = sorted((weight, more))

    def way(percent: int) -> ModelId:
        shares = [{"version": "stable", "weight": 100 - percent}, {"version": "canary", "weight": percent}]
        return choose(policy(default={"to": shares, "sticky": "u"}), serving(), Call({"u": user}), never).model

    assert way(less) == STABLE or way(more) == NEW


def test_where_a_caller_stands_is_the_same_everywhere() -> None:
    """The lane has these figures too."""
    assert position("mnist", "alice") == 0.728818816946973
    assert position("mnist", "") == 0.15385260080683327
    assert position("other", "alice") != position("mnist", "alice")
    assert 0 <= position("mnist", "\udc80") < 1


def test_a_version_is_meant_by_number_or_by_what_it_is() -> None:
    assert model_of(1, STABLE, VERSIONS) == OLD
    assert model_of(3, STABLE, VERSIONS) is None
    assert model_of(Word.STABLE, STABLE, VERSIONS) == STABLE
    assert model_of(Word.CANARY, STABLE, VERSIONS) == NEW
    assert model_of(Word.CANARY, NEW, VERSIONS) == STABLE
    assert model_of(Word.CANARY, STABLE, (Version(2, STABLE),)) is None
