"""The dataplane config says which methods are allowed and where their calls carry the model id."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.routing.dataplane import Dataplane, Rule

INFER = "inference.GRPCInferenceService/ModelInfer"


def parse(document: object) -> Dataplane:
    return Dataplane.parse(json.dumps(document))


# What is allowed


def test_without_config_everything_is_allowed_and_headers_name_the_model() -> None:
    assert Dataplane.DEFAULT.rule("any.Service/Method") == Rule()


@pytest.mark.parametrize("method", ["ModelInfer", "ModelStreamInfer", "ModelMetadata", "ModelReady", "ModelConfig", "ModelStatistics"])
def test_without_config_the_field_of_a_kserve_call_names_the_model_if_no_header_does(method: str) -> None:
    assert Dataplane.DEFAULT.rule(f"inference.GRPCInferenceService/{method}") == Rule((1,), prefer_headers=True)


def test_a_listed_method_has_its_path_and_kind_of_id() -> None:
    dataplane = parse(
        {
            "rpcConfigs": {
                INFER: {"idExtractionPath": [1], "vModelId": True},
                "tensorflow.serving.PredictionService/Predict": {"idExtractionPath": [1, 1]},
            }
        }
    )
    assert dataplane.rule(INFER) == Rule((1,), alias=True)
    assert dataplane.rule("tensorflow.serving.PredictionService/Predict") == Rule((1, 1))


def test_a_method_listed_without_a_path_is_allowed_with_headers() -> None:
    assert parse({"rpcConfigs": {INFER: {}}}).rule(INFER) == Rule()


@pytest.mark.parametrize("document", [{}, {"rpcConfigs": {INFER: {}}}, {"allowOtherRpcs": False}])
def test_other_methods_are_refused_unless_allowed(document: object) -> None:
    assert parse(document).rule("other.Service/Method") is None


def test_other_methods_are_allowed_on_request() -> None:
    assert parse({"rpcConfigs": {INFER: {"idExtractionPath": [1]}}, "allowOtherRpcs": True}).rule("other.Service/Method") == Rule()


@pytest.mark.parametrize("listed", [INFER, f"/{INFER}"])
@pytest.mark.parametrize("asked", [INFER, f"/{INFER}"])
def test_a_leading_slash_means_nothing(listed: str, asked: str) -> None:
    assert parse({"rpcConfigs": {listed: {"idExtractionPath": [7]}}}).rule(asked) == Rule((7,))


# What is refused


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is not JSON: Expecting value: line 1 column 1"),
        ('{"rpcConfigs": {}\n,}', "is not JSON: .* line 2 column 2"),
        ('{"rpcConfigs": ' + "1" * 5000 + "}", "is not JSON: Exceeds the limit"),
        ('{"\\ud800": 1}', r'has the unknown property "\\ud800"'),
        ("[" * 200_000, "is nested too deeply"),
        ("[]", r"is \[\], which is not an object"),
        ("null", "is null, which is not an object"),
        ('{"rpcConfig": {}}', 'has the unknown property "rpcConfig"; known are rpcConfigs and allowOtherRpcs'),
        ('{"rpcConfigs": []}', r"has rpcConfigs = \[\], which is not an object"),
        ('{"allowOtherRpcs": "true"}', 'has allowOtherRpcs = "true", which is neither true nor false'),
        ('{"allowOtherRpcs": true, "allowOtherRpcs": false}', 'has "allowOtherRpcs" twice in one object'),
        ('{"rpcConfigs": {"a/b": {}, "/a/b": {}}}', 'has two rules for "a/b"'),
        ('{"rpcConfigs": {"a/b": 7}}', r'has rpcConfigs\["a/b"\] = 7, which is not an object'),
        (
            '{"rpcConfigs": {"a/b": {"path": [1]}}}',
            r'has the unknown property "path" in rpcConfigs\["a/b"\]; known are idExtractionPath and vModelId',
        ),
        ('{"rpcConfigs": {"a/b": {"vModelId": 1}}}', r'has rpcConfigs\["a/b"\].vModelId = 1, which is neither true nor false'),
        ('{"rpcConfigs": {"a/b": {"vModelId": null}}}', r'has rpcConfigs\["a/b"\].vModelId = null, which is neither true nor false'),
    ],
)
def test_a_config_that_cannot_be_understood_names_its_fault(text: str, fault: str) -> None:
    with pytest.raises(Malformed, match=f"^dataplane config {fault}.*; it looks like "):
        Dataplane.parse(text)


@pytest.mark.parametrize("path", [1, "1", [0], [-1], [True], [1.0], [1 << 29], [[1]], None, {"1": 1}, list(range(-40, 0))])
def test_a_path_is_a_list_of_field_numbers(path: object) -> None:
    with pytest.raises(
        Malformed, match=r'has rpcConfigs\["a/b"\].idExtractionPath = .* is not a list of field numbers from 1 to 536870911'
    ):
        parse({"rpcConfigs": {"a/b": {"idExtractionPath": path}}})


@pytest.mark.parametrize("name", ["", "/", "Method", "/Method", "pkg.Service/", "//Method", "a/b/c"])
def test_a_rule_is_for_a_method_of_a_service(name: str) -> None:
    with pytest.raises(Malformed, match="which is not the name of a method like "):
        parse({"rpcConfigs": {name: {}}})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rpcConfigs", "allowOtherRpcs", "a/b", "idExtractionPath", "vModelId"]), inner, max_size=3)
    ),
)


@given(st.text() | json_values.map(json.dumps))
def test_any_text_is_understood_or_malformed(text: str) -> None:
    with contextlib.suppress(Malformed):
        assert Dataplane.parse(text).rule("") in (None, Rule())
