"""Labels that types need and prefer, and what a type that names no preference leaves to the others."""

from __future__ import annotations

import pytest

from mesh.core.errors import Malformed, NoRuntime
from mesh.core.placement.constraints import KINDS, Constraints, Labels

NEEDS = "There are no running instances that meet the label requirements of type "

# Required


def test_a_pod_needs_all_of_the_required_labels() -> None:
    constraints = Constraints.parse('{"onnx": {"required": ["gpu", "triton"]}}')
    assert constraints.fits("onnx", ("gpu", "other", "triton"))
    assert not constraints.fits("onnx", ("gpu",))
    assert not constraints.fits("onnx", ())


def test_default_stands_for_types_without_an_entry_and_without_it_they_go_anywhere() -> None:
    constraints = Constraints.parse('{"onnx": {}, "_default": {"required": ["cpu"]}}')
    assert constraints.fits("onnx", ())
    assert not constraints.fits("sklearn", ("gpu",))
    assert Constraints.parse('{"onnx": {"required": ["gpu"]}}').fits("sklearn", ())


def test_a_type_is_refused_only_if_no_pod_of_all_has_its_labels() -> None:
    constraints = Constraints.parse('{"onnx": {"required": ["triton", "gpu", "gpu"]}}')
    assert constraints.refusal("onnx", ("gpu",), ("gpu", "triton")) is None
    error = constraints.refusal("onnx", ("gpu",), ("triton",), ())
    assert isinstance(error, NoRuntime)
    assert str(error) == NEEDS + "onnx: [gpu, triton]"


def test_without_any_pod_a_type_that_needs_labels_is_refused_and_another_is_not() -> None:
    constraints = Constraints.parse('{"onnx": {"required": ["gpu"]}}')
    assert str(constraints.refusal("onnx")) == NEEDS + "onnx: [gpu]"
    assert constraints.refusal("sklearn") is None


# Preferred

BIG, SMALL, PLAIN = ("big", "gpu"), ("gpu",), ()


def favoured(text: str, model_type: str, *kinds: Labels) -> set[Labels]:
    return set(Constraints.parse(text).favoured(model_type, kinds))


def test_any_of_the_preferred_labels_makes_a_pod_preferred() -> None:
    text = '{"onnx": {"required": ["gpu"], "preferred": ["big", "huge"]}}'
    assert favoured(text, "onnx", BIG, SMALL) == {BIG}
    assert favoured(text, "onnx", SMALL) == set()


def test_a_required_label_is_no_preference() -> None:
    text = '{"onnx": {"required": ["gpu"], "preferred": ["gpu", "big"]}}'
    assert Constraints.parse(text).preferred["onnx"] == ("big",)
    assert favoured(text, "onnx", BIG, SMALL) == {BIG}


def test_the_preferences_of_default_hold_for_types_without_an_entry_only() -> None:
    text = '{"onnx": {}, "_default": {"preferred": ["big"]}}'
    assert favoured(text, "sklearn", BIG, PLAIN) == {BIG}
    assert favoured(text, "onnx", BIG, PLAIN) == {PLAIN}, "what nobody else prefers"


def test_a_type_without_wishes_leaves_the_pods_that_others_need() -> None:
    text = '{"onnx": {"required": ["gpu"]}}'
    assert favoured(text, "sklearn", SMALL, PLAIN) == {PLAIN}


def test_a_pod_closed_to_one_more_type_is_better_than_one_that_three_types_fewer_prefer() -> None:
    text = """{"onnx": {"required": ["gpu"]},
               "a": {"preferred": ["one"]}, "b": {"preferred": ["one"]}, "c": {"preferred": ["one"]}}"""
    assert favoured(text, "sklearn", ("one",), ("gpu",)) == {("one",)}
    assert favoured(text, "sklearn", ("one",), ("two",)) == {("two",)}


def test_a_type_with_required_labels_infers_its_preference_among_the_pods_that_have_them() -> None:
    text = '{"onnx": {"required": ["gpu"]}, "llm": {"required": ["big", "gpu"]}}'
    assert favoured(text, "onnx", BIG, SMALL) == {SMALL}, "the big one is the only place of the other type"


def test_a_type_that_prefers_pods_closed_to_it_does_not_count() -> None:
    text = '{"llm": {"required": ["huge"], "preferred": ["big"]}}'
    assert favoured(text, "sklearn", BIG, SMALL) == set(), "both are closed to the other type and nothing tells them apart"


def test_however_many_kinds_of_pods_there_were_what_is_said_of_one_stays_what_it_was() -> None:
    constraints = Constraints.parse('{"onnx": {"required": ["gpu"]}}')
    assert constraints.favoured("sklearn", [("gpu",), PLAIN]) == {PLAIN}
    for number in range(2 * KINDS):
        assert constraints.favoured("sklearn", [(f"label-{number}",), ("gpu",)]) == {(f"label-{number}",)}
    assert constraints.favoured("sklearn", [("gpu",), PLAIN]) == {PLAIN}
    fitting = constraints.fitting("onnx")
    for number in range(2 * KINDS):
        assert fitting[f"label-{number}", "gpu"]
        assert not fitting[(f"label-{number}",)]
    assert len(fitting) <= KINDS
    assert constraints == Constraints.parse('{"onnx": {"required": ["gpu"]}}'), "what it remembers does not make it another one"


def test_pods_of_one_kind_and_pods_without_constraints_are_all_the_same() -> None:
    assert favoured('{"onnx": {"required": ["gpu"]}}', "sklearn", PLAIN) == set()
    assert favoured("", "sklearn", BIG, PLAIN) == set()
    assert favoured("", "sklearn") == set()


# Reading


def test_unknown_properties_are_ignored_and_nothing_means_no_constraints() -> None:
    assert Constraints.parse('{"onnx": {"required": ["gpu"], "since": 5}}').needed("onnx") == ("gpu",)
    assert Constraints.parse("") == Constraints.parse("{}") == Constraints()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "type constraints are not JSON"),
        ("[]", "must be an object of types, not list"),
        ('{"onnx": 5}', """of 'onnx' must look like {"required": ["label", ...]}"""),
        ('{"onnx": {"required": "gpu"}}', """of 'onnx' must look like {"required": ["label", ...]}"""),
        ('{"onnx": {"required": [1]}}', """of 'onnx' must look like {"required": ["label", ...]}"""),
        ('{"onnx": {"required": null}}', """of 'onnx' must look like {"required": ["label", ...]}"""),
        ('{"onnx": {"preferred": "big"}}', """of 'onnx' must look like {"preferred": ["label", ...]}"""),
        ('{"onnx": {"preferred": [["big"]]}}', """of 'onnx' must look like {"preferred": ["label", ...]}"""),
    ],
)
def test_another_form_is_refused_naming_the_type_and_the_form(text: str, words: str) -> None:
    with pytest.raises(Malformed) as refused:
        Constraints.parse(text)
    assert words in str(refused.value)
