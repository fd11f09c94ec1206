"""One MLServer serves scikit-learn, XGBoost and LightGBM at a time, and says what the libraries say."""

from __future__ import annotations

import functools
import json
import shutil
import struct
import subprocess
from collections.abc import Iterator

import pytest

from mesh.protocols import inference_pb2 as v2
from tests.integration.models.stack import MODELS, PATIENCE, Stack, service
from tests.support import environments
from tests.support.http import plain

pytestmark = pytest.mark.mlserver

DIRECTLY = """
import json, sys
import lightgbm, numpy, xgboost
folder, rows = sys.argv[1], [numpy.array([row]) for row in json.loads(sys.argv[2])]
first, second = xgboost.Booster(model_file=f"{folder}/mushroom.json"), lightgbm.Booster(model_file=f"{folder}/mushroom.bst")
print(json.dumps([
    [float(first.predict(xgboost.DMatrix(row.astype(numpy.float32)))[0]), float(second.predict(row)[0])] for row in rows
]))
"""
ONES = (0, 8, 18, 20, 23, 33, 35, 38, 41, 52, 55, 64, 68, 76, 85, 87, 91, 94, 101, 105, 116, 121)
MUSHROOM = [float(index in ONES) for index in range(126)]
"""An edible mushroom: the row of ModelMesh's own functional tests."""
KNOWN = {"xgboost": 0.012412078, "lightgbm": 2.1157326350598036e-05}
"""Probability that it is poisonous, worked out by hand from the leaves of the trees."""
ROWS = {
    "mushroom": MUSHROOM,
    "every seventh": [float(index % 7 == 0) for index in range(126)],
    "all zero": [0.0] * 126,
    "all one": [1.0] * 126,
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("formats")) as stack:
        shutil.copytree(MODELS, stack.claim, dirs_exist_ok=True)
        stack.apply(
            service("digits", "mnist-svm.joblib"),
            service("mushroom-xgboost", "mushroom.json", "xgboost"),
            service("mushroom-lightgbm", "mushroom.bst", "lightgbm"),
        )
        yield stack


def directly(row: list[float]) -> dict[str, float]:
    """What XGBoost and LightGBM say of one of `ROWS` without any server, in the environment that MLServer has them in."""
    said = _of_the_libraries()[list(ROWS.values()).index(row)]
    return dict(zip(("xgboost", "lightgbm"), said, strict=True))


@functools.cache
def _of_the_libraries() -> list[list[float]]:
    """Of each row, both: the libraries take seconds to import."""
    python = environments.made("mlserver") / "bin" / "python"
    command = [str(python), "-c", DIRECTLY, str(MODELS), json.dumps(list(ROWS.values()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def served(stack: Stack, kind: str, row: list[float]) -> float:
    tensor = v2.ModelInferRequest.InferInputTensor(name="predict", shape=[1, 126])
    if kind == "xgboost":
        tensor.datatype = "FP32"
        tensor.contents.fp32_contents.extend(row)
    else:
        tensor.datatype = "FP64"
        tensor.contents.fp64_contents.extend(row)
    answer = stack.client.v2.ModelInfer(v2.ModelInferRequest(model_name=f"mushroom-{kind}", inputs=[tensor]), timeout=PATIENCE)
    output = answer.outputs[0]
    (value,) = [*output.contents.fp32_contents, *output.contents.fp64_contents]
    return value


def served_over_rest(stack: Stack, kind: str) -> float:
    tensor = {"name": "predict", "shape": [1, 126], "datatype": "FP32" if kind == "xgboost" else "FP64", "data": MUSHROOM}
    answer = plain.post(f"{stack.rest}/v2/models/mushroom-{kind}/infer", json={"inputs": [tensor]}, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    (value,) = answer.json()["outputs"][0]["data"]
    return float(value)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_trees_answer_to_the_last_bit_what_their_libraries_answer(stack: Stack, row: list[float]) -> None:
    assert {kind: served(stack, kind, row) for kind in KNOWN} == directly(row)


@pytest.mark.parametrize("kind", KNOWN)
def test_known_answers_come_over_both_doors(stack: Stack, kind: str) -> None:
    known = KNOWN[kind]
    if kind == "xgboost":
        # Over gRPC a 32-bit float is that float; JSON has its shortest decimal form.
        assert served(stack, kind, MUSHROOM) == struct.unpack("f", struct.pack("f", known))[0]
    else:
        assert served(stack, kind, MUSHROOM) == known
    assert served_over_rest(stack, kind) == known


def test_all_three_are_resident_in_one_server(stack: Stack) -> None:
    assert stack.digit("digits") == 8
    for kind in KNOWN:
        served(stack, kind, ROWS["all zero"])
    assert stack.resident() == {stack.concrete(name) for name in ("digits", "mushroom-xgboost", "mushroom-lightgbm")}
    assert stack.facts()["models"] == 3
