"""The example of strings around a packaged model: a real MLServer with its class, the adapter, and a router that clients call."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from mesh.protocols import inference_pb2 as v2
from tests.integration.mlserver_adapter.rig import TIMEOUT, Rig, load_request
from tests.support.client import Client
from tests.support.http import plain
from tests.support.mesh import RouterProcess
from tests.support.stubs import ROOT

pytestmark = pytest.mark.mlserver

TEXT = ROOT / "examples" / "text"
BODY = json.loads((TEXT / "bodies" / "languages.infer.json").read_text())
MODEL = "languages"


class Pod:
    """A router over the rig, with the example's model registered."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        serving = {"INTERNAL_GRPC_PORT": str(rig.port), "INTERNAL_SERVING_GRPC_PORT": str(rig.mlserver.port)}
        self.router = RouterProcess(folder, serving)
        self.client = Client.insecure(self.router.address)
        self.client.loaded(MODEL, "languages", kind="mt:text-classifier", key=load_request(MODEL, "languages", "text-classifier").modelKey)

    def close(self) -> None:
        self.client.channel.close()
        self.router.stop()

    def rest(self, body: dict[str, Any]) -> httpx.Response:
        return plain.post(f"{self.router.rest}/v2/models/{MODEL}/infer", json=body, timeout=TIMEOUT)

    def asked(self, *tensors: v2.ModelInferRequest.InferInputTensor) -> list[str]:
        answer = self.client.v2.ModelInfer(v2.ModelInferRequest(model_name=MODEL, inputs=tensors), timeout=TIMEOUT)
        (output,) = answer.outputs
        assert (output.name, output.datatype, list(output.shape)) == ("label", "BYTES", [len(output.contents.bytes_contents), 1])
        return [word.decode() for word in output.contents.bytes_contents]


@pytest.fixture(scope="module")
def pod(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    folder = tmp_path_factory.mktemp("text")
    server = {
        "PYTHONPATH": str(TEXT / "server"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MLSERVER_MODEL_IMPLEMENTATION": "text_classifier.TextClassifier",
    }
    rig = Rig(environment, folder, server)
    try:
        rig.mlserver.start()
        command = [environment / "bin" / "python", "-B", TEXT / "build.py", rig.claim("models") / "languages"]
        subprocess.run([str(part) for part in command], check=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"})
        pod = Pod(rig, folder)
        yield pod
        pod.close()
    finally:
        rig.close()


def texts(*values: bytes, datatype: str = "BYTES", name: str = "text") -> v2.ModelInferRequest.InferInputTensor:
    tensor = v2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=[len(values)])
    if datatype == "BYTES":
        tensor.contents.bytes_contents.extend(values)
    else:
        tensor.contents.fp32_contents.extend(float(value) for value in values)
    return tensor


def test_strings_go_in_and_words_come_out_over_grpc(pod: Pod) -> None:
    assert pod.asked(texts(b"where is the nearest station")) == ["english"]
    several = ["the house by the sea", "das Haus am Meer ist heute zu warm", "la maison dans le jardin de l'été", ""]
    assert pod.asked(texts(*(text.encode() for text in several)))[:3] == ["english", "german", "french"]


def test_strings_go_in_over_rest_as_the_example_says(pod: Pod) -> None:
    answer = pod.rest(BODY)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert (output["name"], output["shape"]) == ("label", [3, 1])
    assert output["parameters"]["content_type"] == "str"
    assert output["data"] == ["english", "german", "french"]
    assert pod.rest({**BODY, "id": "mine"}).json()["id"] == "mine"


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ([texts(b"a"), texts(b"b", name="more")], r"takes one input 'text' of datatype BYTES, not text \(BYTES\), more \(BYTES\)"),
        ([texts(b"1", datatype="FP32")], r"takes one input 'text' of datatype BYTES, not text \(FP32\)"),
        ([texts(b"\xff\xfe")], "input 'text' is not UTF-8 text"),
    ],
)
def test_what_is_no_text_is_refused_in_words(pod: Pod, tensors: list[v2.ModelInferRequest.InferInputTensor], said: str) -> None:
    with pytest.raises(grpc.RpcError, match=said) as refused:
        pod.asked(*tensors)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
