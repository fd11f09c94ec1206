"""The list of models that a pod registers at its start: what makes no sense is named with its variable and its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.registry.records import ModelInfo
from mesh.pod.static import StaticModel, parse, read
from mesh.settings import Settings

INFO = {"type": "sklearn", "path": "p", "key": "k"}


def entry(**changes: Any) -> dict[str, Any]:
    return {"modelId": "digits", "modelInfo": INFO} | changes


def parsed(*entries: Any) -> list[StaticModel]:
    return parse(json.dumps(entries), "LIST")


def test_an_entry_names_a_model_and_what_becomes_of_it() -> None:
    plain, whole = parsed(entry(), entry(modelId="m2", vModelId="a", retainAfterTransition=True, ensureLoaded=True, other=[1]))
    assert plain == StaticModel("LIST: entry 1 (digits)", "digits", ModelInfo("sklearn", "p", "k"))
    assert whole == StaticModel("LIST: entry 2 (m2)", "m2", ModelInfo("sklearn", "p", "k"), alias="a", retain=True, load=True)


def test_what_is_null_or_missing_is_empty() -> None:
    (found,) = parsed(entry(modelInfo={"type": "t", "key": None}, vModelId=None, ensureLoaded=None))
    assert found == StaticModel("LIST: entry 1 (digits)", "digits", ModelInfo("t", "", ""))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("digits", "LIST: entry 2 must be an object with modelId and modelInfo"),
        ({"modelInfo": INFO}, "LIST: entry 2: modelId must be a string that is not empty"),
        (entry(modelId=7), "LIST: entry 2: modelId must be a string that is not empty"),
        ({"modelId": "m"}, "LIST: entry 2 (m): modelInfo must be an object with type, path and key"),
        (entry(modelInfo={"path": "p"}), "LIST: entry 2 (digits): modelInfo: type must be a string that is not empty"),
        (entry(modelInfo={"type": "t", "path": 1}), "LIST: entry 2 (digits): modelInfo: path must be a string"),
        (entry(vModelId=[]), "LIST: entry 2 (digits): vModelId must be a string"),
        (entry(ensureLoaded="yes"), "LIST: entry 2 (digits): ensureLoaded must be true or false"),
        (
            entry(retainAfterTransition=True),
            "LIST: entry 2 (digits): retainAfterTransition says what becomes of a model when its vModelId moves on; give that too",
        ),
    ],
)
def test_a_faulty_entry_is_named(fault: Any, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        parsed(entry(), fault)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["{", "{}", "7", '"digits"'])
def test_a_text_that_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="LIST"):
        parse(text, "LIST")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
fields = st.sampled_from(["modelId", "modelInfo", "vModelId", "retainAfterTransition", "ensureLoaded"])
infos = st.dictionaries(st.sampled_from(["type", "path", "key"]), json_values)


def fault_of(entries: list[dict[str, Any]]) -> str:
    try:
        assert len(parsed(*entries)) == len(entries)
    except Malformed as fault:
        return str(fault)
    return ""


@given(st.lists(st.dictionaries(fields, json_values | infos), max_size=4))
def test_whatever_is_given_is_taken_whole_or_its_faulty_entry_is_named(entries: list[dict[str, Any]]) -> None:
    fault = fault_of(entries)
    assert not fault or fault.startswith("LIST: entry ")


def test_text_and_file_are_taken_together(tmp_path: Path) -> None:
    file = tmp_path / "models.json"
    file.write_text(json.dumps([entry(modelId="b")]))
    found = read(Settings(static_models=json.dumps([entry(modelId="a")]), static_models_path=file))
    assert [model.source for model in found] == [
        "MM_AUTO_REGISTER_MODELS: entry 1 (a)",
        f"MM_AUTO_REGISTER_MODELS_PATH={file}: entry 1 (b)",
    ]
    assert read(Settings()) == []


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=r"MM_AUTO_REGISTER_MODELS_PATH=.*none cannot be read: No such file"):
        read(Settings(static_models_path=tmp_path / "none"))
