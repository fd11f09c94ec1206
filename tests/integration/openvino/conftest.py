"""The environment of the OpenVINO runtime, and what it says when it is used directly."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.openvino.rig import KINDS, MODELS, Rig
from tests.support import environments

DIRECTLY = """
import json, sys
import numpy as np, openvino as ov
pixels = np.array(json.load(sys.stdin), np.float32).reshape(1, 1, 28, 28)
core = ov.Core()
for path in sys.argv[1:]:
    model = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    print(json.dumps(model(pixels)[0].ravel().tolist()))
"""


@pytest.fixture(scope="session")
def environment() -> Path:
    return environments.made("openvino")


@pytest.fixture(scope="session")
def pixels() -> list[float]:
    """A ring, 28 by 28: the models take it for a 0."""
    found = [255.0 if 49 <= (row - 13.5) ** 2 + (column - 13.5) ** 2 <= 90 else 0.0 for row in range(28) for column in range(28)]
    return list(struct.unpack("784f", struct.pack("784f", *found)))


@pytest.fixture(scope="session")
def expected(environment: Path, pixels: list[float]) -> Mapping[str, list[float]]:
    """Ten scores of each kind of model, by the runtime without any server."""
    files = [str(MODELS / "mnist.onnx"), str(MODELS / "openvino-mnist" / "mnist.xml")]
    done = subprocess.run(
        [environment / "bin" / "python", "-c", DIRECTLY, *files], input=json.dumps(pixels), capture_output=True, text=True, check=True
    )
    return dict(zip(KINDS, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.fixture(scope="module")
def rig(request: pytest.FixtureRequest, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One pod of stand-in, adapter and router for the stories of a module, with the module's `SETTINGS` of the adapter and `ROUTER`."""
    given = request.module
    rig = Rig(environment, tmp_path_factory.mktemp("openvino"), getattr(given, "ROUTER", {}), **getattr(given, "SETTINGS", {}))
    try:
        rig.router.await_ready()
        yield rig
    finally:
        rig.close()
