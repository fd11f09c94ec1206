"""Records read and write what ModelMesh writes, and keep what they do not know."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord, alias_from_json, alias_to_json, model_from_json, model_to_json
from mesh.core.units import Millis

EXAMPLE = {
    "type": "mt:sklearn",
    "encKey": '{"storage_key":"localMinIO"}',
    "mPath": "sklearn/mnist-svm.joblib",
    "instanceIds": {"abcdef-12345": 1700000000000},
    "failedIn": {"abcdef-54321": 1700000000001},
    "fails": {"abcdef-54321": {"msg": "no such file"}},
    "refs": 1,
    "autoDel": True,
    "lu": 1699990000000,
    "somethingNew": {"kept": True},
}

pods = st.dictionaries(st.text(min_size=1, max_size=12).map(PodId), st.integers(1, 2**62).map(Millis), max_size=4)
infos = st.builds(ModelInfo, st.text(min_size=1), st.text(), st.text())
models = st.builds(
    ModelRecord,
    infos,
    copies=pods,
    ready=pods,
    failed=pods,
    failures=st.dictionaries(st.text(min_size=1, max_size=12).map(PodId), st.text(), max_size=3),
    refs=st.integers(0, 9),
    auto_delete=st.booleans(),
    last_used=st.integers(0, 2**62).map(Millis),
    last_unload=st.integers(0, 2**62).map(Millis),
)
ids = st.text(min_size=1).map(ModelId)


def test_a_record_of_modelmesh_is_read_and_written_without_loss() -> None:
    record = model_from_json(EXAMPLE)
    assert record.info == ModelInfo("mt:sklearn", "sklearn/mnist-svm.joblib", '{"storage_key":"localMinIO"}')
    assert record.failures == {"abcdef-54321": "no such file"}
    assert model_to_json(record) == EXAMPLE


def test_a_record_without_a_type_has_the_one_that_modelmesh_means() -> None:
    assert model_from_json({}).info.type == "NLCLASSIFIER"


@given(models)
def test_models_survive_json(record: ModelRecord) -> None:
    assert model_from_json(model_to_json(record)) == record


@given(st.builds(AliasRecord, ids, ids, st.text(), st.booleans()))
def test_aliases_survive_json(record: AliasRecord) -> None:
    assert alias_from_json(alias_to_json(record)) == record


def test_an_alias_keeps_what_it_does_not_know() -> None:
    data = {"amid": "m1", "tmid": "m2", "o": "isvc", "new": 1}
    record = alias_from_json(data)
    assert record.in_transition
    assert alias_to_json(record.with_(failed=True)) == {**data, "failed": True}


@pytest.mark.parametrize("data", [[], {"instanceIds": 5}, {"lu": "soon"}, {"fails": {"pod": "text"}}, None])
def test_a_model_record_of_another_form_is_refused(data: Any) -> None:
    with pytest.raises(Malformed, match="model record is not what ModelMesh writes"):
        model_from_json(data)


@pytest.mark.parametrize("data", [[], {}, {"amid": "m"}, None])
def test_an_alias_record_of_another_form_is_refused(data: Any) -> None:
    with pytest.raises(Malformed, match="alias record is not what ModelMesh writes"):
        alias_from_json(data)
