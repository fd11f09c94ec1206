"""One mesh of MLServer, Triton and OpenVINO (a stand-in over the real runtime) pods: every model answers as its library does by itself,
each where its format runs, and one that runs nowhere says so.

The kinds of pods share their registry and the clients' port, so a call enters at any pod and may be served by another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from mesh.protocols import inference_pb2 as v2
from tests.integration.local.rig import Shell
from tests.integration.runtimes.rig import CLOSE, SERVICES, TIMEOUT, Given, isvc, over_rest, tensor_of
from tests.support.client import Client
from tests.support.http import plain
from tests.support.waiting import until

RUNTIME_OF = {"svm": "mlserver-1.x", "xgboost": "mlserver-1.x", "lightgbm": "mlserver-1.x", "onnx": "triton-2.x", "ir": "ovms-1.x"}


@pytest.mark.parametrize("name", SERVICES)
def test_every_model_answers_as_its_library_does(
    mesh: Shell, client: Client, given: Given, expected: Mapping[str, list[float]], name: str
) -> None:
    wanted = expected["onnx" if name.startswith("onnx") else name.partition("-")[0]]
    assert over_rest(mesh, name, given) == pytest.approx(wanted, rel=CLOSE, abs=CLOSE)
    answer = client.v2.ModelInfer(v2.ModelInferRequest(model_name=name, inputs=[tensor_of(name, given)]), timeout=TIMEOUT)
    assert answer.model_name.startswith(f"{name}__isvc-")


def test_onnx_and_openvino_agree_on_the_same_input(mesh: Shell, given: Given) -> None:
    onnx, ir, other = (over_rest(mesh, name, given) for name in ("onnx", "ir", "onnx-by-openvino"))
    assert onnx == pytest.approx(ir, rel=CLOSE, abs=CLOSE * 10)
    assert onnx == pytest.approx(other, rel=CLOSE, abs=CLOSE * 10)
    assert max(range(10), key=onnx.__getitem__) == 0


def test_each_model_is_where_its_format_runs_and_nowhere_else(mesh: Shell) -> None:
    runtimes = {pod["name"]: pod["runtime"] for pod in mesh.ask("pods")}
    assert set(runtimes.values()) >= set(RUNTIME_OF.values())
    for name, (_, _, named) in SERVICES.items():
        (model,) = (one for one in mesh.ask("models")["models"] if one["id"].startswith(f"{name}__"))
        found = {runtimes[copy["pod"]] for copy in model["copies"]}
        assert found == {named or RUNTIME_OF[name]}, name


def test_a_service_that_no_pod_can_serve_says_so_and_what_to_do(mesh: Shell) -> None:
    said = {
        "of-no-format": (isvc("of-no-format", "paddle", "x"), "No ServingRuntime supports specified model type and/or protocol"),
        "of-no-runtime": (isvc("of-no-runtime", "onnx", "x", "nothing-1.x"), "Specified runtime name not recognized"),
        "of-no-pod": (
            isvc("of-no-pod", "pytorch-mar", "x"),
            "Waiting for supporting runtime Pod to become available: torchserve-0.x takes it and has no pods here; "
            "start the mesh with `--runtime mlserver,triton,ovms,torchserve`",
        ),
    }
    mesh.ok("apply", "-f", "-", typed="".join(document for document, _ in said.values()))
    try:
        for name, (_, message) in said.items():
            found = until(lambda name=name: mesh.ask("services", name=name)[0]["message"], name)  # type: ignore[misc]
            assert message in found
            refused = plain.post(f"http://127.0.0.1:{mesh.rest}/v2/models/{name}/infer", json={"inputs": []}, timeout=TIMEOUT)
            assert refused.status_code >= 400
    finally:
        mesh.ok("delete", "isvc", *said)


def test_get_runtimes_shows_formats_pods_capacity_and_health(mesh: Shell) -> None:
    lines = {line.split()[0]: line.split() for line in mesh.ok("get", "runtimes").splitlines() if line}
    assert lines["NAME"] == ["NAME", "SERVER", "FORMATS", "PODS", "HEALTH", "MODELS", "USED", "CAPACITY", "FREE"]
    assert lines["mlserver-1.x"][1:5] == ["mlserver", "sklearn:0,xgboost:1,lightgbm:3", "1/1", "ready"]
    assert lines["ovms-1.x"][1:5] == ["ovms", "openvino_ir:opset1,onnx:1*", "1/1", "ready"]
    assert lines["torchserve-0.x"][1:5] == ["torchserve", "pytorch-mar:0", "0", "off"]
    found = {one["metadata"]["name"]: one["status"] for one in mesh.json("get", "runtimes", "--state", "ready")["items"]}
    assert set(found) >= {"mlserver-1.x", "ovms-1.x", "triton-2.x"}
    assert "torchserve-0.x" not in found
    for name in ("mlserver-1.x", "ovms-1.x", "triton-2.x"):
        status = found[name]
        assert (status["health"], status["pods"]["ready"], status["pods"]["there"]) == ("ready", 1, 1)
        assert status["capacityBytes"] == status["plannedBytes"]
        assert 0 < status["usedBytes"] <= status["capacityBytes"] - status["freeBytes"]
        assert status["models"] == sum((named or RUNTIME_OF[one]) == name for one, (_, _, named) in SERVICES.items())
    # Where no OpenVINO Model Server is installed, a stand-in serves, and says so.
    assert "stand-in" in "".join(found["ovms-1.x"]["notes"])
    assert "stand-in" in mesh.ok("get", "runtimes", "ovms-1.x", "-o", "wide")
    assert any("stand-in" in warning for warning in mesh.ask("status")["warnings"])


def test_a_runtime_that_does_not_exist_is_refused_with_those_that_do(mesh: Shell) -> None:
    done = mesh.mesh("get", "runtimes", "nothing-1.x")
    assert done.returncode != 0
    assert "there is no runtime 'nothing-1.x'; there are " in done.stderr
    assert json.loads(mesh.ok("get", "runtimes", "triton-2.x", "-o", "json"))["kind"] == "ClusterServingRuntime"
