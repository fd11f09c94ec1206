"""The folder that MLServer loads one model from: `model-settings.json`, and links to the model's files.

*Native*: the model is a directory with a `model-settings.json` of its own, which is rewritten for the mesh. *Generated*: anything
else; the settings are made from the model type.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import InvalidRequest
from runtime_adapters.mlserver.implementations import implementation, own_parameters
from runtime_adapters.paths import clamp, folder_name
from runtime_adapters.schema import Schema, Tensor

SETTINGS = "model-settings.json"
ENVIRONMENTS = ("environment_tarball", "environment_path")
"""Parameters that name a Python environment for the model alone."""
TEXT = {"content_type": "str"}
"""Parameters of a tensor that holds text: MLServer hands it to the model class as strings."""

_CUT = re.compile(r"[?#\x00-\x1f]")
"""MLServer reads `uri` as a URL: what comes after these in a file's name would be lost."""


def build(target: Path, model: LocalModel) -> None:
    """Make `target` the layout of `model`, replacing what is there.

    Raises:
        InvalidRequest: the model's own settings cannot be used, or there are more of them deeper down.
        OSError: the disk refuses.
    """
    remove(target)
    native = model.path / SETTINGS
    is_native = native.is_file()
    _check_folders(model)
    settings = native_settings(native.read_bytes(), target, model) if is_native else generated_settings(target, model)
    target.mkdir(parents=True)
    # The server looks for settings files only: links may exist before, but settings must not exist without what they point at.
    for source in sorted(model.path.iterdir()) if is_native else [model.path]:
        if not (is_native and source.name == SETTINGS):
            (target / (source.name if is_native else _link(source))).symlink_to(source.absolute())
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
    parameters = {"uri": str(target / _link(model.path)), **own_parameters(model.type, model.path)}
    return settings | {"parameters": parameters} | _tensors(model.schema, settings)


def native_settings(document: bytes, target: Path, model: LocalModel) -> dict[str, Any]:
    """The model's own settings under the mesh's name, the paths in `parameters` made absolute inside `target`; all else is kept.

    Raises:
        InvalidRequest: not a JSON object, `parameters` is no object, or a path in it no string.
    """
    try:
        settings = json.loads(document) if document.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{SETTINGS} of model {model.id} is not JSON: {error}") from None
    if not isinstance(settings, dict):
        raise InvalidRequest(f"{SETTINGS} of model {model.id} must hold an object, not {type(settings).__name__}")
    settings = settings | {"name": model.id}
    parameters = settings.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise InvalidRequest(f"`parameters` in {SETTINGS} of model {model.id} must be an object, not {type(parameters).__name__}")
    if paths := _paths(parameters or {}, target, model):
        settings["parameters"] = {**(parameters or {}), **paths}
    return settings | _tensors(model.schema, settings)


def _paths(parameters: dict[str, Any], target: Path, model: LocalModel) -> dict[str, str]:
    """What `parameters` says of the model's own files. The entries of `target` are links to them, so the join is by name only."""
    found: dict[str, str] = {}
    for name in ("uri", *ENVIRONMENTS):
        value = parameters.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise InvalidRequest(f"`parameters.{name}` in {SETTINGS} of model {model.id} must be a string, not {type(value).__name__}")
        # An environment may also be one of the server's own; a relative path MLServer would look for where it was started.
        if name == "uri" or not value.startswith(("/", "~", "$")):
            found[name] = str(target / clamp(value))
    return found


def _check_folders(model: LocalModel) -> None:
    """MLServer searches all folders at each load, through links: settings deeper down would be a model of their own, under any name.

    Raises:
        InvalidRequest: there are such settings, or a link by which it would search what is not the model's, up to the whole disk.
    """
    seen: set[str] = set()
    own = os.path.realpath(model.path)
    for folder, folders, files in os.walk(model.path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        inner = os.path.relpath(folder, model.path)
        if os.path.commonpath([own, real]) != own:
            raise InvalidRequest(
                f"model {model.id} has a link {inner!r} to a folder outside of it, which MLServer would search at each load; "
                f"put the folder itself there"
            )
        if SETTINGS in files and inner != ".":
            raise InvalidRequest(
                f"model {model.id} has a {SETTINGS} in {inner!r}, which MLServer would take for another model; "
                f"let the model's path end there, or remove that file"
            )


def _link(source: Path) -> str:
    return folder_name(source.name) if _CUT.search(source.name) else source.name


def _tensors(schema: Schema | None, settings: dict[str, Any]) -> dict[str, Any]:
    """The schema's inputs and outputs in the words of MLServer. It knows nothing of content types: a tensor keeps its own."""
    if schema is None:
        return {}
    sides = (("inputs", schema.inputs), ("outputs", schema.outputs))
    return {side: [_tensor(tensor, settings.get(side)) for tensor in tensors] for side, tensors in sides if tensors is not None}


def _tensor(tensor: Tensor, own: Any) -> dict[str, Any]:
    # MLServer knows no STRING and refuses settings that use it; BYTES is how text travels in the v2 protocol.
    text = tensor.datatype == "STRING"
    described = {"name": tensor.name, "datatype": "BYTES" if text else tensor.datatype, "shape": list(tensor.shape)}
    theirs = next((item for item in own if isinstance(item, dict) and item.get("name") == tensor.name), {}) if isinstance(own, list) else {}
    parameters = theirs.get("parameters") or (TEXT if text else None)
    return described | ({"parameters": parameters} if parameters else {})
