"""The demo's class in a real MLServer, with a tiny base and adapters made on the spot, behind adapter and router."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import environments
from tests.support.stubs import ROOT
from tests.torch.llm.pod import Pod

PEFT = ROOT / "examples" / "peft"


@pytest.fixture(scope="session")
def environment() -> Path:
    return environments.made("llm")


@pytest.fixture(scope="session")
def tiny(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base` and `adapter`."""
    folder = tmp_path_factory.mktemp("tiny")
    command = [str(environment / "bin" / "python"), str(PEFT / "build.py"), str(folder)]
    subprocess.run(command, check=True, timeout=250, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    return folder


@pytest.fixture(scope="session")
def pod(environment: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    """The walkthrough's runtime; every story registers models of its own."""
    server = {
        "PYTHONPATH": str(PEFT / "server"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "2",
        "MLSERVER_MODEL_IMPLEMENTATION": "peft_model_server.PeftModelServer",
        "PRETRAINED_MODEL_PATH": str(tiny / "base"),
        "PEFT_MODEL_ID": str(tiny / "adapter"),
    }
    pod = Pod(environment, tmp_path_factory.mktemp("pod"), server)
    try:
        shutil.copytree(tiny / "adapter", pod.rig.claim("models") / "own")
        yield pod
    finally:
        pod.close()
