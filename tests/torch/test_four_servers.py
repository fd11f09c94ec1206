"""One mesh of MLServer, Triton (with PyTorch), OpenVINO (a stand-in over the real runtime) and TorchServe pods: every model of the examples
answers as its library does by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.integration.local.rig import Shell
from tests.integration.runtimes.rig import CLOSE, MODELS, SERVERS, SERVICES, Given, asked, directly, isvc, lay_out, over_rest
from tests.support import environments
from tests.torch.archives import archive
from tests.torch.archives import directly as by_torch
from tests.torch.conftest import Image
from tests.torch.rig import TIMEOUT

CIFAR = MODELS / "cifar"


@pytest.fixture(scope="module")
def mesh(environment: Path, with_torch: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell.fresh(tmp_path_factory.mktemp("four"))
    claim, triton = shell.folder / "models", shell.folder / "triton"
    lay_out(claim)
    archive(environment, claim, "cifar-archive", "scores", model=CIFAR / "1" / "model.pt")
    triton.mkdir()
    (triton / "environment").write_text(str(with_torch))
    try:
        where = ("--pvc", f"models={claim}", "--image", f"nvcr.io/nvidia/tritonserver={triton}")
        shell.up("--runtime", ",".join((*SERVERS, "torchserve")), *where)
        documents = "".join(isvc(name, *wanted) for name, wanted in SERVICES.items())
        documents += isvc("cifar-triton", "pytorch", "cifar") + isvc("cifar-torchserve", "pytorch-mar", "cifar-archive.mar")
        shell.ok("apply", "-f", "-", "--wait", "240", typed=documents)
        yield shell
    finally:
        shell.hang_up()
        shell.ok("down")


@pytest.fixture(scope="module")
def given() -> Given:
    return asked()


@pytest.fixture(scope="module")
def expected(given: Given) -> Mapping[str, list[float]]:
    return directly({name: environments.made(name) for name in SERVERS}, given)


@pytest.mark.parametrize("name", SERVICES)
def test_every_model_answers_as_its_library_does(mesh: Shell, given: Given, expected: Mapping[str, list[float]], name: str) -> None:
    wanted = expected["onnx" if name.startswith("onnx") else name.partition("-")[0]]
    assert over_rest(mesh, name, given) == pytest.approx(wanted, rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize(("name", "tensor"), [("cifar-triton", "INPUT__0"), ("cifar-torchserve", "image")])
def test_one_network_answers_alike_in_triton_and_torchserve(
    mesh: Shell, environment: Path, images: list[Image], name: str, tensor: str
) -> None:
    data = [value for plane in images[0] for line in plane for value in line]
    body = {"inputs": [{"name": tensor, "datatype": "FP32", "shape": [1, 3, 32, 32], "data": data}]}
    answer = httpx.post(f"http://127.0.0.1:{mesh.rest}/v2/models/{name}/infer", json=body, timeout=TIMEOUT).raise_for_status().json()
    (wanted,) = by_torch(environment, CIFAR / "1" / "model.pt", images[:1])
    assert answer["outputs"][0]["data"] == pytest.approx(wanted, abs=CLOSE)


def test_each_model_is_where_its_format_runs(mesh: Shell) -> None:
    runtimes = {pod["name"]: pod["runtime"] for pod in mesh.ask("pods")}
    assert len(set(runtimes.values())) == 4
    found = {model["id"].partition("__")[0]: {runtimes[copy["pod"]] for copy in model["copies"]} for model in mesh.ask("models")["models"]}
    assert found["cifar-triton"] == found["onnx"] == {"triton-2.x"}
    assert found["cifar-torchserve"] == {"torchserve-0.x"}
    assert all(one["health"] == "ready" for one in mesh.ask("runtimes"))
