"""The folder that MLServer loads one model from: `model-settings.json`, and links to the model's files.

*Native*: the model is a directory with a `model-settings.json` of its own, which is rewritten for the mesh. *Generated*: anything
else; the settings are made from the model type.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import InvalidRequest
from runtime_adapters.mlserver.implementations import implementation, mllib_format
from runtime_adapters.paths import clamp
from runtime_adapters.schema import Schema, Tensor

SETTINGS = "model-settings.json"


def build(target: Path, model: LocalModel) -> None:
    """Make `target` the layout of `model`, replacing what is there.

    Raises:
        InvalidRequest: the model's own settings cannot be used, or there are more of them deeper down.
        OSError: the disk refuses.
    """
    remove(target)
    native = model.path / SETTINGS
    is_native = native.is_file()
    _refuse_inner_settings(model)
    settings = native_settings(native.read_bytes(), target, model) if is_native else generated_settings(target, model)
    target.mkdir(parents=True)
    # The server looks for settings files only: links may exist before, but settings must not exist without what they point at.
    for source in sorted(model.path.iterdir()) if is_native else [model.path]:
        if not (is_native and source.name == SETTINGS):
            (target / source.name).symlink_to(source.absolute())
    partial = target / f"{SETTINGS}~"
    partial.write_text(json.dumps(settings, indent=2), encoding="utf-8")
    partial.rename(target / SETTINGS)


def remove(target: Path) -> None:
    """Remove a layout, never following its links; fine if there is none."""
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.exists():
        shutil.rmtree(target)


def generated_settings(target: Path, model: LocalModel) -> dict[str, Any]:
    """Settings for a bare file or directory. `implementation` is left out for a type that MLServer's own environment must decide."""
    settings: dict[str, Any] = {"name": model.id}
    if chosen := implementation(model.type):
        settings["implementation"] = chosen
    parameters: dict[str, Any] = {"uri": str(target / model.path.name)}
    if model.type == "mllib" and (found := mllib_format(model.path)):
        parameters["format"] = found
    return settings | {"parameters": parameters} | _tensors(model.schema)


def native_settings(document: bytes, target: Path, model: LocalModel) -> dict[str, Any]:
    """The model's own settings under the mesh's name, `parameters.uri` made absolute inside `target`.

    Raises:
        InvalidRequest: not a JSON object, `parameters` is no object, or `uri` no string.
    """
    try:
        settings = json.loads(document) if document.strip() else {}
    except ValueError as error:
        raise InvalidRequest(f"{SETTINGS} of model {model.id} is not JSON: {error}") from None
    if not isinstance(settings, dict):
        raise InvalidRequest(f"{SETTINGS} of model {model.id} must hold an object, not {type(settings).__name__}")
    settings = settings | {"name": model.id}
    parameters = settings.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidRequest(f"`parameters` in {SETTINGS} of model {model.id} must be an object, not {type(parameters).__name__}")
    uri = (parameters or {}).get("uri")
    if uri is not None and not isinstance(uri, str):
        raise InvalidRequest(f"`parameters.uri` in {SETTINGS} of model {model.id} must be a string, not {type(uri).__name__}")
    if uri is not None:
        # The entries of `target` are links into the model's own files, so the join is by name only.
        settings["parameters"] = {**(parameters or {}), "uri": str(target / clamp(uri))}
    return settings | _tensors(model.schema)


def _refuse_inner_settings(model: LocalModel) -> None:
    """MLServer searches all folders at each load, through links: settings deeper down would be a model of their own, under any name.

    Raises:
        InvalidRequest: there are such settings.
    """
    seen: set[str] = set()
    for folder, folders, files in os.walk(model.path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        inner = os.path.relpath(folder, model.path)
        if SETTINGS in files and inner != ".":
            raise InvalidRequest(
                f"model {model.id} has a {SETTINGS} in {inner!r}, which MLServer would take for another model; "
                f"let the model's path end there, or remove that file"
            )


def _tensors(schema: Schema | None) -> dict[str, Any]:
    if schema is None:
        return {}
    sides = (("inputs", schema.inputs), ("outputs", schema.outputs))
    return {side: [_tensor(tensor) for tensor in tensors] for side, tensors in sides if tensors is not None}


def _tensor(tensor: Tensor) -> dict[str, Any]:
    # MLServer knows no STRING and refuses settings that use it; BYTES is how text travels in the v2 protocol.
    datatype = "BYTES" if tensor.datatype == "STRING" else tensor.datatype
    return {"name": tensor.name, "datatype": datatype, "shape": list(tensor.shape)}
