"""What a runtime's document offers, what models of each type need, and how its pod is run."""

from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.manifests.documents import AnyRuntime
from mesh.manifests.parsing import parse, parse_value
from mesh.manifests.quantities import parse_quantity
from mesh.manifests.reading import read_path
from mesh.manifests.runtimes import PodPlan, built_in, dataplane_config, in_force, labels, pod_plan, supports, type_constraints

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


BUILT_IN = {document.name: document for document in (cast(AnyRuntime, applied.document) for applied in built_in())}


@pytest.mark.parametrize(
    ("name", "offered", "more"),
    [
        ("mlserver-1.x", "mt:lightgbm,mt:lightgbm:3,mt:sklearn,mt:sklearn:0,mt:xgboost,mt:xgboost:1,pv:grpc-v2,rt:mlserver-1.x", {"pv:v2"}),
        (
            "triton-2.x",
            "mt:keras,mt:keras:2,mt:onnx,mt:onnx:1,mt:pytorch,mt:pytorch:1,mt:tensorflow,mt:tensorflow:1,mt:tensorflow:2,mt:tensorrt,"
            "mt:tensorrt:7,pv:grpc-v2,rt:triton-2.x",
            {"pv:v2"},
        ),
        ("ovms-1.x", "mt:openvino_ir,mt:openvino_ir:opset1,pv:grpc-v1,rt:ovms-1.x", set()),
        ("torchserve-0.x", "mt:pytorch-mar,mt:pytorch-mar:0,rt:torchserve-0.x", set()),
    ],
)
def test_the_built_in_runtimes_offer_what_modelmeshs_do_and_have_their_capacity(name: str, offered: str, more: set[str]) -> None:
    document = BUILT_IN[name]
    assert ",".join(labels(name, document.spec, rest=False)) == offered
    # A proxy of REST in front of a runtime that speaks grpc-v2 makes it one that speaks v2 too.
    assert set(labels(name, document.spec)) - set(offered.split(",")) == more
    plan = pod_plan(document)
    assert (plan.capacity, plan.load_timeout, plan.server_type) == (939524096, 90000, name.partition("-")[0])
    assert plan.loading_concurrency == (2 if name == "triton-2.x" else 1)
    assert plan.endpoint == "port:8085"
    assert plan.data_endpoint == ("port:7070" if name == "torchserve-0.x" else "port:8001")


def test_the_four_servers_are_built_in() -> None:
    assert sorted(BUILT_IN) == ["mlserver-1.x", "ovms-1.x", "torchserve-0.x", "triton-2.x"]


@pytest.mark.parametrize(
    ("model_type", "runtimes"),
    [
        ("mt:sklearn", {"mlserver-1.x"}),
        ("mt:sklearn:0", {"mlserver-1.x"}),
        ("mt:sklearn:1", set()),
        ("mt:onnx", {"triton-2.x"}),
        ("mt:onnx|pv:v2", {"triton-2.x"}),
        ("mt:onnx|pv:grpc-v1", set()),
        ("mt:openvino_ir|pv:grpc-v1", {"ovms-1.x"}),
        ("mt:pytorch-mar", {"torchserve-0.x"}),
        ("mt:pytorch", {"triton-2.x"}),
        ("rt:ovms-1.x", {"ovms-1.x"}),
        ("rt:unknown", set()),
        ("mt:mlflow", set()),
    ],
)
def test_a_model_goes_where_every_part_of_its_type_is_offered(model_type: str, runtimes: set[str]) -> None:
    assert {name for name, one in BUILT_IN.items() if supports(labels(name, one.spec), model_type)} == runtimes
    # What no runtime offers falls to the requirement that nothing meets, by which the words for it are chosen.
    assert (model_type in type_constraints(BUILT_IN)) == bool(runtimes)


def test_a_priority_changes_nothing_for_all_runtimes_that_offer_a_format_are_alike() -> None:
    plain = runtime("a", supportedModelFormats=[{"name": "sklearn", "autoSelect": True}])
    first = runtime("a", supportedModelFormats=[{"name": "sklearn", "autoSelect": True, "priority": 2}])
    assert labels("a", plain.spec) == labels("a", first.spec)
    assert type_constraints({"a": plain}) == type_constraints({"a": first})


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
        ({}, "spec.containers is empty"),
        ({"grpcEndpoint": "8085", **server("1Gi")}, "spec.grpcEndpoint must be port:N or unix:/PATH, not '8085'"),
        ({"grpcDataEndpoint": "port:70000", **server("1Gi")}, "spec.grpcDataEndpoint must be port:N or unix:/PATH, not 'port:70000'"),
        ({"volumes": [{"name": "models-dir"}], **server("1Gi")}, "the volume name 'models-dir' is reserved"),
        ({"containers": [{"name": "own", "ports": [{"containerPort": 8090}]}]}, "the port 8090 is reserved"),
        ({"containers": [{"name": "own", "ports": [{"name": "http", "containerPort": 1}]}]}, "the port http is reserved"),
        ({"containers": [{"name": "own", "lifecycle": {}}]}, "lifecycle may not be set"),
        ({"containers": [{"name": "own", "readinessProbe": {}}]}, "readinessProbe may not be set"),
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


def test_a_runtime_with_a_server_of_its_own_has_a_puller_in_front_unless_that_is_switched_off() -> None:
    spec: dict[str, Any] = {"containers": [{"name": "own", "image": "x", "args": ["--a"]}], "grpcEndpoint": "unix:/run/own.sock"}
    plan = pod_plan(runtime("a", **spec))
    assert (plan.server_type, plan.puller, plan.endpoint, plan.args, plan.capacity) == ("", True, "unix:/run/own.sock", ("--a",), None)
    assert not pod_plan(runtime("a", storageHelper={"disabled": True}, **spec)).puller
    assert pod_plan(runtime("a", containers=spec["containers"])).endpoint == "port:8085"
    assert not pod_plan(runtime("a", **server("1Gi"))).puller


def test_what_of_a_document_is_passed_over_is_told() -> None:
    value = server("1Gi")
    value["containers"].append({"name": "sidecar"})
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}, {"name": "B", "valueFrom": {"secretKeyRef": {}}}]
    value["containers"][0]["env"] = twice
    plan: PodPlan = pod_plan(runtime("a", **value))
    assert plan.server_env == {"A": "2"}
    assert plan.notes == (
        "of its containers only mlserver is run, not sidecar",
        "env B: valueFrom cannot be read here, so it is not set",
        "env A stands there more than once; the last one counts",
    )


@pytest.mark.parametrize(
    ("annotation", "field"), [("maxLoadingConcurrency", "loading_concurrency"), ("perModelConcurrencyLimit", "model_concurrency")]
)
def test_limits_stand_in_annotations(annotation: str, field: str) -> None:
    value = {**runtime("a", **server("1Gi")).model_dump(by_alias=True, exclude_unset=True, mode="json")}
    value["metadata"]["annotations"] = {annotation: "7"}
    assert getattr(pod_plan(cast(AnyRuntime, parse_value(value, "test").document)), field) == 7
    value["metadata"]["annotations"] = {annotation: "many"}
    with pytest.raises(Malformed, match=f"the annotation {annotation} must be a whole number"):
        pod_plan(cast(AnyRuntime, parse_value(value, "test").document))


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
