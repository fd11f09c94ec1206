"""TorchScript models in a real Triton, through a router, as torch does when it is used directly."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.integration.triton.rig import Rig, failed, infer, key_of
from tests.support.client import Client
from tests.torch.archives import directly
from tests.torch.conftest import Image

REPOSITORY = """
name: "the-name-of-its-author"
platform: "pytorch_libtorch"
max_batch_size: 8
input [{ name: "INPUT__0" data_type: TYPE_FP32 dims: [3, 32, 32] }]
output [{ name: "OUTPUT__0" data_type: TYPE_FP32 dims: [10] }]
instance_group [{ count: 1 kind: KIND_CPU }]
"""
SCHEMA = {
    "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 32, 32]}],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 10]}],
}
TIMEOUT = 240.0
"""Seconds for a router, a Triton and the first import of torch on a busy machine."""


@pytest.fixture(scope="module")
def mesh(with_torch: Path, torchscript: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    rig = Rig(with_torch, tmp_path_factory.mktemp("triton"), router=True)
    try:
        rig.repository("native", REPOSITORY, "1/model.pt", torchscript.read_bytes())
        (rig.claim / "network.pt").write_bytes(torchscript.read_bytes())
        (rig.claim / "network.schema.json").write_text(json.dumps(SCHEMA))
        assert rig.router
        rig.router.await_ready(TIMEOUT)
        with Client.insecure(rig.router.address) as client:
            client.register("native", "native", kind="triton", key=key_of("pytorch"))
            client.register("file", "network.pt", kind="triton", key=key_of("pytorch", schema_path="network.schema.json"))
            yield client
    finally:
        rig.close()


@pytest.mark.parametrize(("model", "input_name", "output_name"), [("native", "INPUT__0", "OUTPUT__0"), ("file", "image", "scores")])
def test_it_equals_torch(
    mesh: Client, environment: Path, torchscript: Path, images: list[Image], model: str, input_name: str, output_name: str
) -> None:
    values = [value for image in images for plane in image for line in plane for value in line]
    answer = infer(mesh.v2, model, input_name, [3, 3, 32, 32], values)
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == (output_name, "FP32", [3, 10])
    expected = [score for row in directly(environment, torchscript, images) for score in row]
    assert list(memoryview(answer.raw_output_contents[0]).cast("f")) == pytest.approx(expected, abs=1e-5)


def test_images_of_another_size_are_told_to_whoever_sent_them(mesh: Client) -> None:
    code, text = failed(lambda: infer(mesh.v2, "native", "INPUT__0", [1, 3, 8, 8], [0.0] * 192))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "unexpected shape for input 'INPUT__0'" in text
