"""Triton of its environment, and what the libraries say when they are used directly."""

from __future__ import annotations

import json
import random
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.triton.rig import MODELS, TIMEOUT, Rig
from tests.support import environments

DIRECTLY = """
import json, sys
import lightgbm, numpy as np, onnxruntime, xgboost
given = json.load(sys.stdin)
digit = np.array(given["digit"], np.float32).reshape(1, 1, 28, 28)
rows = np.array(given["rows"], np.float32)
folder = sys.argv[1]
session = onnxruntime.InferenceSession(f"{folder}/mnist.onnx", providers=["CPUExecutionProvider"])
booster = xgboost.Booster()
booster.load_model(f"{folder}/mushroom.json")
print(json.dumps({
    "onnx": session.run(None, {"Input3": digit})[0].ravel().tolist(),
    "xgboost": booster.inplace_predict(rows).ravel().tolist(),
    "lightgbm": lightgbm.Booster(model_file=f"{folder}/mushroom.bst").predict(rows).ravel().tolist(),
}))
"""


@pytest.fixture(scope="session")
def environment() -> Path:
    return environments.made("triton")


@pytest.fixture(scope="session")
def given() -> dict[str, Any]:
    """A ring, 28 by 28, which the model takes for a 0; two mushrooms of 126 traits."""
    draw = random.Random(5)
    ring = [255.0 if 49 <= (row - 13.5) ** 2 + (column - 13.5) ** 2 <= 90 else 0.0 for row in range(28) for column in range(28)]
    rows = [[float(draw.random() < 0.2) for _ in range(126)] for _ in range(2)]
    return {"digit": list(struct.unpack("784f", struct.pack("784f", *ring))), "rows": rows}


@pytest.fixture(scope="session")
def expected(environment: Path, given: dict[str, Any]) -> dict[str, list[float]]:
    """What each library answers without any server."""
    command = [str(environment / "bin" / "python"), "-c", DIRECTLY, str(MODELS)]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, check=True)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def rig(request: pytest.FixtureRequest, environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One Triton and its adapter for the stories of a module, with a router unless the module says `ROUTER = False`.

    `SETTINGS` of the module are the adapter's.
    """
    settings = getattr(request.module, "SETTINGS", {})
    rig = Rig(environment, tmp_path_factory.mktemp("rig"), router=getattr(request.module, "ROUTER", True), **settings)
    try:
        if rig.router:
            rig.router.await_ready(TIMEOUT)
        else:
            rig.until_ready()
        yield rig
    finally:
        rig.close()
