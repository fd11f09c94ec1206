"""What a runtime's document offers, what models of each type need, and how its pod is run."""

from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.manifests.documents import AnyRuntime
from mesh.manifests.parsing import parse, parse_value
from mesh.manifests.reading import read_path
from mesh.manifests.runtimes import built_in, dataplane_config, in_force, labels, parse_quantity, pod_plan, type_constraints

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def runtime(name: str, kind: str = "ServingRuntime", **spec: Any) -> AnyRuntime:
    value = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": {"multiModel": True, **spec}}
    return cast(AnyRuntime, parse_value(value, "test").document)


def server(memory: Any, **adapter: Any) -> dict[str, Any]:
    container = {"name": "mlserver", "image": "host:5000/mlserver:1.9@sha256:0", "resources": {"requests": {"memory": memory}}}
    return {"containers": [container], "builtInAdapter": {"serverType": "mlserver", **adapter}}


def test_constraints_come_out_as_documented() -> None:
    formats = [{"name": "tensorflow", "version": "1.10", "autoSelect": True}, {"name": "tensorflow", "version": "2"}]
    one = runtime("tf-serving-runtime", supportedModelFormats=formats, protocolVersions=["v1", "v2"])
    assert type_constraints({one.name: one}) == {
        "_default": {"required": ["_no_runtime"]},
        "mt:tensorflow": {"required": ["mt:tensorflow"]},
        "mt:tensorflow:1.10": {"required": ["mt:tensorflow:1.10"]},
        "mt:tensorflow:1.10|pv:v1": {"required": ["mt:tensorflow:1.10", "pv:v1"]},
        "mt:tensorflow:1.10|pv:v2": {"required": ["mt:tensorflow:1.10", "pv:v2"]},
        "mt:tensorflow|pv:v1": {"required": ["mt:tensorflow", "pv:v1"]},
        "mt:tensorflow|pv:v2": {"required": ["mt:tensorflow", "pv:v2"]},
        "rt:tf-serving-runtime": {"required": ["rt:tf-serving-runtime"]},
    }


def test_the_built_in_runtime_offers_what_modelmeshs_does_and_has_its_capacity() -> None:
    document = cast(AnyRuntime, built_in()[0].document)
    expected = "mt:lightgbm,mt:lightgbm:3,mt:sklearn,mt:sklearn:0,mt:xgboost,mt:xgboost:1,pv:grpc-v2,rt:mlserver-1.x"
    assert ",".join(labels(document.name, document.spec, rest=False)) == expected
    assert "pv:v2" in labels(document.name, document.spec)
    plan = pod_plan(document)
    assert (plan.capacity, plan.load_timeout, plan.version) == (939524096, 90000, "1.7.1")


def test_the_walkthroughs_custom_runtime_is_understood() -> None:
    plan = pod_plan(cast(AnyRuntime, parse(read_path(str(EXAMPLES / "peft" / "peft-model-server.yaml")))[0].document))
    assert (plan.memory_request, plan.memory_buffer) == (4 << 30, 128 << 20)
    assert plan.server_env["PRETRAINED_MODEL_PATH"] == "bigscience/bloomz-560m"


def test_a_serving_runtime_goes_before_the_clusters_and_a_disabled_one_serves_nothing() -> None:
    own, cluster = runtime("a"), runtime("a", "ClusterServingRuntime")
    assert in_force([own, cluster]) == in_force([cluster, own]) == {"a": own}
    assert in_force([runtime("b", disabled=True), runtime("c", multiModel=False)]) == {}


def test_every_method_of_the_v2_protocol_that_names_a_model_may_name_an_alias() -> None:
    config = dataplane_config()
    assert config["allowOtherRpcs"] is True
    assert config["rpcConfigs"]["inference.GRPCInferenceService/ModelStreamInfer"] == {"idExtractionPath": [1], "vModelId": True}
    assert config["rpcConfigs"]["tensorflow.serving.PredictionService/Predict"] == {"idExtractionPath": [1, 1], "vModelId": True}


def test_the_image_tag_is_the_version_even_behind_a_registrys_port() -> None:
    assert pod_plan(runtime("a", **server("1Gi"))).version == "1.9"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "spec.builtInAdapter is missing"),
        ({"builtInAdapter": {"serverType": "mlserver"}}, "spec.containers has none named 'mlserver'"),
        (server("1Mi", memBufferBytes=1 << 20), "leaves no room for models"),
        (server("lots"), "resources.requests.memory: 'lots' is not a quantity"),
        ({**server("1Gi"), "containers": [{"name": "mm"}]}, "'mm' is reserved"),
        ({"containers": [{"name": "mlserver"}], "builtInAdapter": {"serverType": "mlserver"}}, "resources.requests.memory is missing"),
    ],
)
def test_a_runtime_that_cannot_be_run_says_why(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(Malformed, match=r"ServingRuntime a: ") as caught:
        pod_plan(runtime("a", **spec))
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("text", "value"), [("1Gi", 1 << 30), ("500m", 1), ("1.5Ki", 1536), ("2k", 2000), ("1e3", 1000), (7, 7), ("1E", 10**18)]
)
def test_quantities_are_kubernetes_quantities(text: str | int, value: int) -> None:
    assert parse_quantity(text, "here") == value


@given(st.text(max_size=6))
def test_any_other_text_is_refused_with_its_place(text: str) -> None:
    said = ""
    try:
        parse_quantity(text, "here")
    except Malformed as error:
        said = error.message
    assert not said or said.startswith(f"here: {text!r} is not a quantity")
