"""The id of a model is a hash that an existing registry was filled with: it must come out to the digit."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.registry.reconciliation import Registration
from mesh.manifests.gojson import by_bytes, dumps
from mesh.manifests.parsing import parse, parse_value
from mesh.manifests.predictor import registration
from mesh.manifests.reading import read_path

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def service(predictor: dict[str, object], annotations: dict[str, str] | None = None, name: str = "m") -> Registration:
    metadata = {"name": name, "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh", **(annotations or {})}}
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": predictor},
    }
    return registration(parse_value(document, "test").document)  # type: ignore[arg-type]


def predictor(spec: Mapping[str, object]) -> Registration:
    document = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "Predictor", "metadata": {"name": "p"}, "spec": spec}
    return registration(parse_value(document, "test").document)  # type: ignore[arg-type]


def model(storage: dict[str, object], **fields: object) -> dict[str, object]:
    return {"model": {"modelFormat": {"name": "sklearn"}, "storage": storage, **fields}}


@pytest.mark.parametrize(
    ("file", "model_id"),
    [
        ("walkthrough/sklearn-mnist.yaml", "sklearn-mnist__isvc-3c10c62d34"),
        ("peft/peft-demo.yaml", "peft-demo__isvc-5c5315c302"),
    ],
)
def test_the_walkthroughs_ids_come_out(file: str, model_id: str) -> None:
    document = parse(read_path(str(EXAMPLES / file)))[0].document
    assert registration(document).model == model_id  # type: ignore[arg-type]


def test_the_documented_hashes_of_both_kinds_come_out() -> None:
    assert service(model({"path": "sklearn/mnist-svm.joblib", "key": "localMinIO"})).model == "m__isvc-6b2eb0b8bf"
    old = {"modelType": {"name": "sklearn"}, "path": "sklearn/mnist-svm.joblib", "storage": {"s3": {"secretKey": "localMinIO"}}}
    assert predictor(old).model == "p__ksp-7702c1b55a"


def test_the_order_in_which_parameters_are_written_is_no_part_of_the_id() -> None:
    one = service(model({"path": "x", "parameters": {"type": "pvc", "name": "c"}}))
    other = service(model({"parameters": {"name": "c", "type": "pvc"}, "path": "x"}))
    assert one == other


def test_the_key_tells_the_puller_all_it_needs() -> None:
    wanted = service(
        model({"key": "localMinIO", "path": "x", "schemaPath": "schema/schema.json", "parameters": {"type": "s3", "bucket": "b"}})
    )
    assert wanted.key == (
        '{"storage_key":"localMinIO","storage_params":{"bucket":"b","type":"s3"},'
        '"model_type":{"name":"sklearn"},"schema_path":"schema/schema.json"}'
    )


@pytest.mark.parametrize(
    ("uri", "path", "params"),
    [
        ("s3://bucket/a/b", "a/b", {"bucket": "bucket", "type": "s3"}),
        ("gs://bucket/a", "a", {"bucket": "bucket", "type": "gcs"}),
        ("pvc://claim/a/b", "a/b", {"name": "claim", "type": "pvc"}),
        ("https://acc.blob.core.windows.net/cont/a/b", "a/b", {"account_name": "acc", "container": "cont", "type": "azure"}),
        ("http://host:99/a/b?q=1", "a/b", {"type": "http", "url": "http://host:99?q=1"}),
    ],
)
def test_a_storage_uri_becomes_path_and_parameters(uri: str, path: str, params: dict[str, str]) -> None:
    wanted = service({"sklearn": {"storageUri": uri}})
    assert (wanted.path, json.loads(wanted.key)["storage_params"]) == (path, params)


@pytest.mark.parametrize("uri", ["hf://x/y", "file:///x", "s3:///x", "pvc://", "just/a/path"])
def test_a_storage_uri_that_names_no_known_place_is_refused_with_the_uri(uri: str) -> None:
    with pytest.raises(Malformed, match="InferenceService m: ") as caught:
        service({"sklearn": {"storageUri": uri}})
    assert repr(uri) in caught.value.message


def test_annotations_of_the_older_form_stand_in_for_fields() -> None:
    kserve = "serving.kserve.io/"
    annotations = {kserve + "servingRuntime": "triton-2.x", kserve + "secretKey": "k", kserve + "schemaPath": "s.json"}
    wanted = service({"tensorflow": {"storage": {"path": "x"}}}, annotations)
    assert wanted.type == "rt:triton-2.x"
    assert json.loads(wanted.key) == {"storage_key": "k", "model_type": {"name": "tensorflow"}, "schema_path": "s.json"}


def test_the_label_says_format_version_and_protocol_unless_a_runtime_is_named() -> None:
    fields = {"modelFormat": {"name": "onnx", "version": "1"}, "protocolVersion": "v2", "storage": {"path": "x"}}
    assert service({"model": fields}).type == "mt:onnx:1|pv:v2"
    assert service({"model": {**fields, "runtime": "mine"}}).type == "rt:mine"


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({}, "names no model"),
        ({**model({"path": "x"}), "sklearn": {"storageUri": "s3://b/x"}}, "both model and sklearn"),
        (model({"key": "k"}), "says not where the model lies"),
        (model({"path": "x"}, storageUri="s3://b/x"), "both storageUri and storage.path"),
    ],
)
def test_a_predictor_that_names_no_model_or_two_is_refused(block: dict[str, object], said: str) -> None:
    with pytest.raises(Malformed, match=said):
        service(block)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"path": "a", "storage": {"path": "b"}}, "Only one of spec.path and spec.storage.path can be specified"),
        ({"schemaPath": "a", "storage": {"schemaPath": "b"}}, "Only one of spec.schemaPath and spec.storage.schemaPath can be specified"),
        ({"storage": {"persistentVolumeClaim": {}}}, "spec.storage.PersistentVolumeClaim is not supported"),
        ({"storage": {"s3": {"secretKey": "k"}, "key": "k"}}, "spec.storage.s3 cannot be specified with any other keys in spec.storage"),
    ],
)
def test_an_older_predictor_is_refused_in_the_words_users_know(spec: dict[str, object], said: str) -> None:
    with pytest.raises(Malformed) as caught:
        predictor({"modelType": {"name": "sklearn"}, **spec})
    assert caught.value.message == f"Predictor p: {said}"


def test_go_escapes_what_html_would_read_and_spells_control_characters_its_own_way() -> None:
    assert dumps('a<b>&"\\\n\t\x08\x7f\u2028é') == '"a\\u003cb\\u003e\\u0026\\"\\\\\\n\\t\\u0008\x7f\\u2028é"'


@given(st.dictionaries(st.text(), st.text()))
def test_what_is_written_reads_back_and_its_keys_are_in_byte_order(value: dict[str, str]) -> None:
    text = dumps(by_bytes(value))
    read = json.loads(text)
    assert read == value
    assert [key.encode() for key in read] == sorted(key.encode() for key in value)
    assert not set("<>&\u2028\u2029") & set(text)


@given(st.text(min_size=1).filter(lambda text: text.strip() != ""), st.dictionaries(st.text(), st.text(), max_size=4))
def test_equal_specs_have_equal_ids_and_other_paths_have_others(path: str, parameters: dict[str, str]) -> None:
    one = service(model({"path": path, "parameters": parameters}))
    assert one == service(model({"path": path, "parameters": dict(reversed(parameters.items()))}))
    assert one.model != service(model({"path": path + "x", "parameters": parameters})).model
    spec = {"modelType": {"name": "sklearn"}, "path": "", "storage": {"path": path, "parameters": by_bytes(parameters)}}
    assert one.model == "m__isvc-" + hashlib.sha1(dumps(spec).encode()).hexdigest()[:10]  # type: ignore[arg-type]
