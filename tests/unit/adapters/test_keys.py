"""The model key as the router passes it on, whatever a user wrote there."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_adapters.errors import InvalidRequest
from runtime_adapters.storage.keys import CONTEXT, ModelKey, model_type, parse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(["model_type", "bucket", "disk_size_bytes", "schema_path", "storage_key", "storage_params", "size_bytes"])


def test_every_field_is_read() -> None:
    text = json.dumps(
        {
            "model_type": {"name": "sklearn", "version": "1"},
            "bucket": "b",
            "disk_size_bytes": 60,
            "schema_path": "s.json",
            "storage_key": "k",
            "storage_params": {"a": "b"},
            "size_bytes": 70,
            "unknown": [],
        }
    )
    assert parse(text) == ModelKey("sklearn", "k", {"a": "b"}, "b", "s.json", 60, 70)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"storage_params": {"a": 1}}',
        '{"storage_params": []} x',
        '{"storage_params": "type=s3"}',
        '{"storage_key": 5}',
        '{"schema_path": {}}',
        '{"size_bytes": "5GB"}',
        '{"size_bytes": 0}',
        '{"size_bytes": -5}',
        '{"size_bytes": true}',
    ],
)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as failure:
        parse(text)
    assert failure.value.message.startswith(f"{CONTEXT}: ")


@pytest.mark.parametrize("size", ["sixty", None, -1, 0, True, [], 1e300])
def test_a_disk_size_that_makes_no_sense_is_not_known(size: object) -> None:
    assert parse(json.dumps({"disk_size_bytes": size})).disk_size is None


@given(st.dictionaries(FIELDS, JSON))
def test_any_document_is_read_or_refused(document: dict[str, object]) -> None:
    with suppress(InvalidRequest):
        assert isinstance(parse(json.dumps(document)), ModelKey)


@pytest.mark.parametrize(
    ("key", "requested", "expected"),
    [
        ({"model_type": {"name": "SKLearn"}}, "mt:xgboost", "sklearn"),
        ({"model_type": "xgboost:1.5"}, "", "xgboost"),
        ({}, "mt:sklearn:0", "sklearn"),
        ({}, "rt:my-runtime", "my-runtime"),
        ({}, "lightgbm", "lightgbm"),
        ({"model_type": {"version": "1"}}, "lightgbm", "lightgbm"),
        ({"model_type": 5}, "", ""),
    ],
)
def test_the_type_is_the_keys_else_the_requests(key: dict[str, object], requested: str, expected: str) -> None:
    assert model_type(parse(json.dumps(key)), requested) == expected
