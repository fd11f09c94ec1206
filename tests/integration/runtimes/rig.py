"""What the stories of several model servers in one mesh share: services, their models, what they are asked, what their libraries answer."""

from __future__ import annotations

import json
import random
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from mesh.protocols import inference_pb2 as v2
from tests.integration.local.rig import EXAMPLES, Shell
from tests.support.http import plain

TIMEOUT = 60.0
CLOSE = 1e-4
"""Scores are some thousands at most, in 32 bits."""
MODELS = EXAMPLES / "models"
SERVERS = ("mlserver", "triton", "openvino")
TREES = {"xgboost": "mushroom.json", "lightgbm": "mushroom.bst"}

CONFIG = """
backend: "fil"
max_batch_size: 100
input [{{ name: "input__0" data_type: TYPE_FP32 dims: [126] }}]
output [{{ name: "output__0" data_type: TYPE_FP32 dims: [1] }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
parameters [{{ key: "model_type" value: {{ string_value: "{kind}" }} }}]
"""
"""Of trees for Triton, which has to be told what they are."""

SERVICES: Mapping[str, tuple[str, str, str]] = {
    "svm": ("sklearn", "mnist-svm.joblib", ""),
    "xgboost": ("xgboost", "mushroom.json", ""),
    "lightgbm": ("lightgbm", "mushroom.bst", ""),
    "onnx": ("onnx", "mnist.onnx", ""),
    "ir": ("openvino_ir", "openvino-mnist", ""),
    "onnx-by-openvino": ("onnx", "mnist.onnx", "ovms-1.x"),
    "xgboost-by-triton": ("xgboost", "triton-xgboost", "triton-2.x"),
    "lightgbm-by-triton": ("lightgbm", "triton-lightgbm", "triton-2.x"),
}
"""Format, path in the claim, and the runtime that is named, if one is."""

DIRECTLY = {
    "mlserver": """
import joblib, lightgbm, xgboost
booster = xgboost.Booster()
booster.load_model(f"{folder}/mushroom.json")
tell("svm", joblib.load(f"{folder}/mnist-svm.joblib").predict(np.array(given["digit"], np.float32).reshape(1, 64)))
tell("xgboost", booster.inplace_predict(np.array(given["mushrooms"], np.float32)))
tell("lightgbm", lightgbm.Booster(model_file=f"{folder}/mushroom.bst").predict(np.array(given["mushrooms"], np.float32)))
""",
    "triton": """
import onnxruntime
session = onnxruntime.InferenceSession(f"{folder}/mnist.onnx", providers=["CPUExecutionProvider"])
tell("onnx", session.run(None, {"Input3": np.array(given["ring"], np.float32).reshape(1, 1, 28, 28)})[0])
""",
    "openvino": """
import openvino
model = openvino.Core().compile_model(f"{folder}/openvino-mnist/mnist.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
tell("ir", model(np.array(given["ring"], np.float32).reshape(1, 1, 28, 28))[0])
""",
}
"""By environment: what its libraries answer without any server."""

_FRAME = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
given, folder = json.load(sys.stdin), sys.argv[1]
def tell(name, value):
    print(json.dumps([name, np.asarray(value).ravel().tolist()]))
"""

Given = Mapping[str, list[float] | list[list[float]]]


def tensor_of(name: str, given: Given) -> v2.ModelInferRequest.InferInputTensor:
    """What a service is asked: each in the words of its server."""
    kind = name.partition("-")[0]
    if kind in ("onnx", "ir"):
        tensor, shape, values = "Input3", [1, 1, 28, 28], given["ring"]
    elif kind == "svm":
        tensor, shape, values = "predict", [1, 64], given["digit"]
    else:
        tensor, shape = "input__0" if name.endswith("-by-triton") else "predict", [2, 126]
        values = [value for row in given["mushrooms"] for value in (row if isinstance(row, list) else [row])]
    found = v2.ModelInferRequest.InferInputTensor(name=tensor, datatype="FP32", shape=shape)
    found.contents.fp32_contents.extend(value for value in values if isinstance(value, float))
    return found


def over_rest(mesh: Shell, name: str, given: Given) -> list[float]:
    tensor = tensor_of(name, given)
    data = list(tensor.contents.fp32_contents)
    body = {"inputs": [{"name": tensor.name, "datatype": "FP32", "shape": list(tensor.shape), "data": data}]}
    answer = plain.post(f"http://127.0.0.1:{mesh.rest}/v2/models/{name}/infer", json=body, timeout=TIMEOUT).raise_for_status().json()
    found: list[float] = answer["outputs"][0]["data"]
    return found


def asked() -> Given:
    """An 8, 8 by 8; a ring, 28 by 28, that is a 0; two mushrooms of 126 traits."""
    body = json.loads((EXAMPLES / "walkthrough" / "bodies" / "sklearn-mnist.infer.json").read_text())
    draw = random.Random(5)
    ring = [255.0 if 49 <= (row - 13.5) ** 2 + (column - 13.5) ** 2 <= 90 else 0.0 for row in range(28) for column in range(28)]
    return {
        "digit": body["inputs"][0]["contents"]["fp32_contents"],
        "ring": list(struct.unpack("784f", struct.pack("784f", *ring))),
        "mushrooms": [[float(draw.random() < 0.2) for _ in range(126)] for _ in range(2)],
    }


def directly(made: Mapping[str, Path], given: Given) -> dict[str, list[float]]:
    """What each library answers without any server."""
    answers: dict[str, list[float]] = {}
    for name, script in DIRECTLY.items():
        command = [str(made[name] / "bin" / "python"), "-c", _FRAME + script, str(MODELS)]
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers.update(json.loads(line) for line in done.stdout.splitlines())
    return answers


def lay_out(claim: Path) -> None:
    """A claim with every model, as their authors would have stored them."""
    shutil.copytree(MODELS, claim)
    for kind, file in TREES.items():
        repository = claim / f"triton-{kind}"
        (repository / "1").mkdir(parents=True)
        model_type = {"xgboost": "xgboost_json", "lightgbm": "lightgbm"}[kind]
        (repository / "config.pbtxt").write_text(CONFIG.format(kind=model_type))
        shutil.copy(MODELS / file, repository / "1" / {"xgboost": "xgboost.json", "lightgbm": "model.txt"}[kind])


def isvc(name: str, format_: str, path: str, runtime: str = "", claim: str = "models") -> str:
    """A service as YAML."""
    model: dict[str, object] = {"modelFormat": {"name": format_}, "storage": {"parameters": {"type": "pvc", "name": claim}, "path": path}}
    if runtime:
        model["runtime"] = runtime
    document = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}},
        "spec": {"predictor": {"model": model}},
    }
    return f"---\n{json.dumps(document)}\n"
