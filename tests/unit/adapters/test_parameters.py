"""Which storage a model lies in: entries, defaults and overrides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_adapters.errors import InvalidRequest, NotConfigured
from runtime_adapters.storage.keys import ModelKey
from runtime_adapters.storage.parameters import optional, override, required, resolve

S3 = {"type": "s3", "bucket": "b"}


def configured(folder: Path, **entries: object) -> Path:
    for name, entry in entries.items():
        (folder / name).write_text(entry if isinstance(entry, str) else json.dumps(entry))
    return folder


class TestTheEntry:
    def test_is_named_by_the_key(self, tmp_path: Path) -> None:
        assert resolve(configured(tmp_path, mine=S3, default={"type": "pvc"}), ModelKey(storage_key="mine")) == S3

    def test_that_is_missing_is_said_so(self, tmp_path: Path) -> None:
        with pytest.raises(NotConfigured) as failure:
            resolve(tmp_path, ModelKey(storage_key="mine", storage_params={"type": "s3"}))
        assert failure.value.message == "Did not find storage config for key mine: Storage secretKey not found: mine"

    @pytest.mark.parametrize("key", ["../outside", "/outside", "folder/../../outside", ".."])
    def test_lies_inside_the_folder(self, tmp_path: Path, key: str) -> None:
        (tmp_path / "config").mkdir()
        configured(tmp_path, outside=S3)
        with pytest.raises(NotConfigured):
            resolve(tmp_path / "config", ModelKey(storage_key=key))

    @pytest.mark.parametrize(("entry", "said"), [("{", "is not JSON"), ("[]", "must be a JSON object, not a list"), ("", "is not JSON")])
    def test_must_be_an_object(self, tmp_path: Path, entry: str, said: str) -> None:
        with pytest.raises(NotConfigured) as failure:
            resolve(configured(tmp_path, mine=entry), ModelKey(storage_key="mine"))
        assert "key mine" in failure.value.message
        assert said in failure.value.message

    def test_is_the_default_of_its_type_or_the_default(self, tmp_path: Path) -> None:
        configured(tmp_path, default_s3=S3, default={"type": "pvc", "name": "n"})
        assert resolve(tmp_path, ModelKey(storage_params={"type": "s3"})) == S3
        assert resolve(tmp_path, ModelKey()) == {"type": "pvc", "name": "n"}
        assert resolve(tmp_path, ModelKey(storage_params={"type": "gcs"})) == {"type": "gcs"}

    def test_a_missing_default_is_fine(self, tmp_path: Path) -> None:
        params = {"type": "pvc", "name": "n"}
        assert resolve(tmp_path / "absent", ModelKey(storage_params=params)) == params

    def test_is_read_anew_each_time(self, tmp_path: Path) -> None:
        resolve(configured(tmp_path, mine=S3), ModelKey(storage_key="mine"))
        assert resolve(configured(tmp_path, mine={"type": "gcs"}), ModelKey(storage_key="mine")) == {"type": "gcs"}

    @pytest.mark.parametrize("entry", [{}, {"type": ""}, {"type": 5}, {"type": None}])
    def test_needs_a_type(self, tmp_path: Path, entry: dict[str, Any]) -> None:
        with pytest.raises(InvalidRequest) as failure:
            resolve(configured(tmp_path, mine=entry), ModelKey(storage_key="mine"))
        assert failure.value.message == "Predictor Storage field missing"


class TestTheBucket:
    def test_default_bucket_counts_unless_there_is_one(self, tmp_path: Path) -> None:
        configured(tmp_path, a={"type": "s3", "default_bucket": "d"}, b={**S3, "default_bucket": "d"})
        assert resolve(tmp_path, ModelKey(storage_key="a"))["bucket"] == "d"
        assert resolve(tmp_path, ModelKey(storage_key="b"))["bucket"] == "b"

    def test_the_deprecated_field_replaces_one_but_adds_none(self, tmp_path: Path) -> None:
        configured(tmp_path, a=S3, b={"type": "s3"})
        assert resolve(tmp_path, ModelKey(storage_key="a", bucket="x"))["bucket"] == "x"
        assert "bucket" not in resolve(tmp_path, ModelKey(storage_key="b", bucket="x"))


class TestAnOverride:
    @pytest.mark.parametrize(
        ("before", "path", "after"),
        [
            ({"key": "value"}, "key", {"key": "new"}),
            ({}, "nested.object.key", {"nested": {"object": {"key": "new"}}}),
            ({"headers": {"A": "a"}}, "headers.B", {"headers": {"A": "a", "B": "new"}}),
        ],
    )
    def test_sets_a_string(self, before: dict[str, Any], path: str, after: dict[str, Any]) -> None:
        override(before, path, "new")
        assert before == after

    @pytest.mark.parametrize(
        ("before", "path", "said"),
        [
            ({"struct": {"a": "b"}}, "struct", "replace a object"),
            ({"array": ["x"]}, "array.key", "'array' is a list"),
            ({"number": 5}, "number", "replace a number"),
            ({"text": "x"}, "text.key", "'text' is a string"),
            ({"nothing": None}, "nothing", "replace a null"),
        ],
    )
    def test_replaces_only_strings(self, before: dict[str, Any], path: str, said: str) -> None:
        untouched = json.dumps(before)
        with pytest.raises(InvalidRequest) as failure:
            override(before, path, "new")
        assert repr(path) in failure.value.message
        assert said in failure.value.message
        assert json.dumps(before) == untouched

    @given(st.lists(st.text(st.characters(exclude_characters="."), min_size=1), min_size=1, max_size=4), st.text())
    def test_reaches_any_depth(self, path: list[str], value: str) -> None:
        document: dict[str, Any] = {}
        override(document, ".".join(path), value)
        found: Any = document
        for name in path:
            found = found[name]
        assert found == value


class TestAParameter:
    def test_that_is_required(self) -> None:
        assert required({"type": "pvc", "name": "n"}, "name") == ["n"]
        for value in ({}, {"name": ""}, {"name": None}):
            with pytest.raises(InvalidRequest, match="type 'pvc' needs 'name'"):
                required({"type": "pvc", **value}, "name")

    def test_that_is_no_string(self) -> None:
        with pytest.raises(InvalidRequest, match="'name' must be a string, not a list"):
            optional({"type": "pvc", "name": []}, "name")
