"""The folder that Triton loads one model from: versions, links to the model's files, perhaps a `config.pbtxt`.

*Native*: the model is a directory with a `config.pbtxt` of its own; it stays as it is but for the name in there. *Generated*: anything
else becomes the one version of a model, under the name that its type wants.
"""

from __future__ import annotations

import os
from pathlib import Path

from runtime_adapters import layouts
from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import InvalidRequest, Missing
from runtime_adapters.storage import tree
from runtime_adapters.triton import config
from runtime_adapters.triton.formats import FORMATS, OTHER

SCHEMA = "_schema.json"
"""A schema that lies beside a model's files is none of them."""
FIRST = 1
"""The version of what has none."""


def build(target: Path, model: LocalModel) -> None:
    """Make `target` the layout of `model`, replacing what is there.

    Raises:
        InvalidRequest: the model's own configuration cannot be used, or its files are not what Triton loads.
        Missing: there are no files.
        OSError: the disk refuses.
    """
    tree.remove(target)
    if not model.path.exists():
        raise Missing(f"the files of model {model.id} are not there: {model.path.name}")
    try:
        if (model.path / config.NAME).is_file():
            _native(target, model)
        else:
            _generated(target, model)
    except BaseException:
        tree.remove(target)
        raise


def _native(target: Path, model: LocalModel) -> None:
    own = config.rewrite((model.path / config.NAME).read_bytes(), model.id, model.schema)
    target.mkdir(parents=True)
    for name in os.listdir(model.path):
        if name == config.NAME and own is not None:
            (target / name).write_text(own, encoding="utf-8")
        else:
            layouts.link(target / name, model.path / name)


def _generated(target: Path, model: LocalModel) -> None:
    version, source = _find(model)
    chosen = FORMATS.get(model.type, OTHER)
    if model.type == "keras" and source.is_file():
        raise InvalidRequest(
            f"model {model.id} is a Keras file ({source.name}), and Triton serves TensorFlow's SavedModel only. The conversion needs "
            f"TensorFlow, which this adapter does not bring: convert it beforehand with tf.keras.models.load_model(...).export(FOLDER), "
            f"and give the folder as the model's path"
        )
    place = target / str(version)
    name = chosen.directory if source.is_dir() else chosen.file or source.name
    layouts.link(place / name if name else place, source)
    if model.schema:
        (target / config.NAME).write_text(config.generate(chosen.backend, model.schema), encoding="utf-8")


def _find(model: LocalModel) -> tuple[int, Path]:
    """Which part of the files is the model, and its version."""
    if not model.path.is_dir():
        return FIRST, model.path
    version, folder = layouts.newest_version(model.path) or (FIRST, model.path)
    inside = [name for name in os.listdir(folder) if name != SCHEMA]
    # What lies alone in its folder is the model, whatever its name; of a type that nobody knows the folder is.
    alone = model.type in FORMATS and len(inside) == 1
    return version, folder / inside[0] if alone else folder
