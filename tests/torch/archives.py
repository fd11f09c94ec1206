"""Model archives, made by TorchServe's own archiver around the model that lies in Triton's layout elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

HANDLERS = Path(__file__).with_name("handlers")
_NETWORK = """
import sys, torch
torch.manual_seed(7)
net = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
    torch.nn.Linear(6*14*14, 10))
torch.jit.script(net.eval()).save(sys.argv[1])
"""
_DIRECT = """
import json, sys, torch
model = torch.jit.load(sys.argv[1]).eval()
with torch.no_grad():
    print(json.dumps(model(torch.tensor(json.load(sys.stdin), dtype=torch.float32)).tolist()))
"""


def network(environment: Path, path: Path) -> Path:
    """A TorchScript network of the shape of the CIFAR examples: images [n, 3, 32, 32] in, ten scores each out."""
    subprocess.run([environment / "bin" / "python", "-c", _NETWORK, path], check=True, timeout=300)
    return path


def directly(environment: Path, path: Path, images: Sequence[object]) -> list[list[float]]:
    """The scores by torch alone."""
    command: list[str | Path] = [environment / "bin" / "python", "-c", _DIRECT, path]
    told = subprocess.run(command, input=json.dumps(images), capture_output=True, text=True, check=True, timeout=300)
    scores: list[list[float]] = json.loads(told.stdout)
    return scores


def archive(environment: Path, folder: Path, name: str, handler: str, *, model: Path | None = None, config: str = "") -> Path:
    """`folder/name.mar` with one of our handlers."""
    folder.mkdir(parents=True, exist_ok=True)
    command: list[str | Path] = [
        environment / "bin" / "python",
        environment / "bin" / "torch-model-archiver",
        "--model-name",
        name,
        "--version",
        "1.0",
    ]
    command += ["--handler", HANDLERS / f"{handler}.py", "--export-path", folder, "--force"]
    if model:
        command += ["--serialized-file", model]
    if config:
        written = folder / f"{name}.yaml"
        written.write_text(config, encoding="utf-8")
        command += ["--config-file", written]
    surroundings = {**os.environ, "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(command, check=True, timeout=300, env=surroundings)
    return folder / f"{name}.mar"
