"""The folder that OpenVINO Model Server serves one model from: numbered version directories, of which there is one."""

from __future__ import annotations

from pathlib import Path

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import Missing
from runtime_adapters.layouts import link, newest_version
from runtime_adapters.storage import tree

ONNX = "model.onnx"
"""An ONNX model that is one file gets this name whatever it had: the server knows formats by their endings."""


def build(target: Path, model: LocalModel) -> None:
    """Make `target` the layout of `model`, replacing what is there.

    One file is linked as `1/<its name>`; a directory as `1`, or the largest of its version directories by its number.

    Raises:
        Missing: there is neither file nor directory at the model's path.
        OSError: the disk refuses.
    """
    tree.remove(target)
    if model.path.is_dir():
        number, source = newest_version(model.path) or (1, model.path)
        place = target / str(number)
    elif model.path.is_file():
        source = model.path
        place = target / "1" / (ONNX if model.type == "onnx" else model.path.name)
    else:
        raise Missing(f"model {model.id} has no file or directory {model.path.name!r}")
    link(place, source)
