"""The image of the language model's runtime: its steps in a clean environment, and a container of it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from tests.integration.docker.image import Image
from tests.support import environments, ports
from tests.support.waiting import until
from tests.unit.docker.files import FOLDER

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def image(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """`mesh environment make llm` is a step of it, by which the tests' own environment was made too; that one is found again."""
    fetched = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(environments.wheels()), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    there = {f"opt/runtime/environments/{environment.name}": environment}
    return Image(FOLDER / "Dockerfile.peft", tmp_path_factory.mktemp("image"), fetched, there)


def test_a_container_is_well_and_answers(image: Image, tiny: Path) -> None:
    http, grpc, metrics = ports.free(3)
    server = f"http://127.0.0.1:{http}"
    told = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_PORT": str(metrics),
        "PRETRAINED_MODEL_PATH": str(tiny / "base"),
        "PEFT_MODEL_ID": str(tiny / "adapter"),
        "HF_HUB_OFFLINE": "1",
    }
    model = image.root / "models" / "_mlserver_models" / "demo"
    model.mkdir(parents=True)
    (model / "model-settings.json").write_text(json.dumps({"name": "demo", "parameters": {"uri": "."}}))
    before = image.files()
    with image.running(*image.command, **told):
        image.until_well(image.health_check, **told)
        body = {"inputs": [{"name": "content", "shape": [1], "datatype": "BYTES", "data": ["thank you"]}]}
        # Well is the server; its model comes after it.
        until(lambda: httpx.get(f"{server}/v2/models/demo/ready", timeout=60).status_code == 200, "the model to be ready", within=300)
        answer = httpx.post(f"{server}/v2/models/demo/infer", json=body, timeout=300)
    assert answer.status_code == 200, answer.text
    (text,) = answer.json()["outputs"][0]["data"]
    assert text.startswith("Tweet text : thank you Label :")
    assert image.files() == before, "the root file system of a container is read-only"
