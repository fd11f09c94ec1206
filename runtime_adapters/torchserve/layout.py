"""TorchServe's model store: a link `<escaped id>.mar` for each model; and the file that TorchServe is configured by."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from runtime_adapters import schema
from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import InvalidRequest, Missing
from runtime_adapters.paths import folder_name
from runtime_adapters.schema import Schema

PROPERTIES = "mmconfig.properties"
"""TorchServe is started once this file is in the store."""
SUFFIX = ".mar"
MANIFEST = "MAR-INF/MANIFEST.json"
ROWS = "rows"
REQUEST = "request"
MAX_MESSAGE = 256 * 1024 * 1024
"""Bytes of a request or an answer; TorchServe's default of 6.5 MB is less than many an image batch."""
MAX_DOCUMENT = 64 * 1024
"""Bytes of an archive's manifest, and of its configuration, unpacked. Both are small; a large one would only keep the adapter busy."""


_UNREADABLE = (KeyError, ValueError, AttributeError, TypeError, YAMLError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)
"""What reading a document in an archive by a stranger ends with; a RuntimeError is one of encryption, of compression, or of nesting."""


class Facts(NamedTuple):
    """What the bridge goes by."""

    schema: Schema | None
    v2: str
    """How the handler is given a v2 request: `ROWS` or `REQUEST`."""


def file_name(model_id: str) -> str:
    r"""The file of a model. Names that Kubernetes allows stand as they are.

    ModelMesh writes `\` and `/` as `\\` and `\_`; TorchServe takes a backslash for a separator and looks for what follows the last one, so
    other bytes than letters, digits, `.`, `_` and `-` become `%XX` here.
    """
    return f"{folder_name(model_id)}{SUFFIX}"


def build(store: Path, model: LocalModel) -> None:
    """Link the archive of `model` into the store, replacing what is there.

    Raises:
        InvalidRequest: it is not one model archive.
        Missing: there is no file.
        OSError: the disk refuses.
    """
    if model.path.is_dir():
        raise InvalidRequest(
            f"Model path is a directory, must be a MAR file: model {model.id} needs one archive made by torch-model-archiver"
        )
    if not model.path.exists():
        raise Missing(f"the archive of model {model.id} is not there: {model.path.name}")
    if not _is_archive(model.path):
        raise InvalidRequest(
            f"{model.path.name!r} of model {model.id} is not a model archive: make a .mar file of it with torch-model-archiver"
        )
    link = store / file_name(model.id)
    remove(store, model.id)
    if model.schema:
        # Kept on disk, as the archive is: an adapter that restarts beside a running TorchServe still knows it.
        _schema_file(link).write_text(_document(model.schema), encoding="utf-8")
    link.symlink_to(model.path.absolute())
    facts(store, model.id)


def remove(store: Path, model_id: str) -> None:
    """Remove the link of a model; fine if there is none."""
    link = store / file_name(model_id)
    link.unlink(missing_ok=True)
    _schema_file(link).unlink(missing_ok=True)


def facts(store: Path, model_id: str) -> Facts:
    """What the archive and the schema of a model in the store say; nothing known of one that is not there.

    Raises:
        InvalidRequest: the archive's configuration cannot be used.
    """
    link = store / file_name(model_id)
    schema_path = _schema_file(link)
    found = schema.read(schema_path) if schema_path.exists() else None
    try:
        with zipfile.ZipFile(link) as archive:
            return Facts(found, _v2(archive, model_id))
    except (OSError, zipfile.BadZipFile):
        return Facts(found, ROWS)


def _v2(archive: zipfile.ZipFile, model_id: str) -> str:
    """The key `v2` of the archive's model-config.yaml."""
    try:
        manifest = json.loads(_document_of(archive, MANIFEST))
        name = manifest["model"].get("configFile")
        config = YAML(typ="safe", pure=True).load(_document_of(archive, name)) if name else None
    except _UNREADABLE as error:
        raise InvalidRequest(f"the configuration in the archive of model {model_id} cannot be read: {error}") from None
    way = config.get("v2", ROWS) if isinstance(config, dict) else ROWS
    if way not in (ROWS, REQUEST):
        raise InvalidRequest(f"`v2: {way}` in the configuration of model {model_id}'s archive must be `{ROWS}` or `{REQUEST}`")
    return str(way)


def _document_of(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_DOCUMENT:
        raise ValueError(f"{name} has {size} bytes, more than the {MAX_DOCUMENT} that are read")
    return archive.read(name)


def _schema_file(link: Path) -> Path:
    return link.with_name(f"{link.name}.schema")


def write_properties(folder: Path, store: Path, management_port: int, grpc_port: int, http_port: int) -> None:
    """Write TorchServe's configuration in one step: whoever waits for the file sees all of it.

    Raises:
        OSError: the disk refuses.
    """
    # Only what starts with TS_ in TorchServe's environment may change these: enable_envvars_config.
    lines = {
        "enable_envvars_config": "true",
        "model_store": str(store),
        # Memory of the workers is measured this often, in seconds.
        "metric_time_interval": "10",
        "inference_address": f"http://127.0.0.1:{http_port}",
        "grpc_inference_port": str(grpc_port),
        "grpc_management_port": str(management_port),
        "number_of_netty_threads": "8",
        "job_queue_size": "512",
        "max_request_size": str(MAX_MESSAGE),
        "max_response_size": str(MAX_MESSAGE),
    }
    partial = folder / f"{PROPERTIES}~"
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(f"{key}={_escaped(value)}\n" for key, value in lines.items())
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder / PROPERTIES)


def _document(found: Schema) -> str:
    return json.dumps({side: [tensor._asdict() for tensor in tensors] for side, tensors in found._asdict().items() if tensors is not None})


def _escaped(value: str) -> str:
    r"""A value of a Java properties file: a backslash starts an escape there, and what is not ASCII is `\uXXXX` in units of UTF-16."""
    return "".join(one.replace("\\", "\\\\") if " " < one <= "~" else "".join(f"\\u{unit:04x}" for unit in _units(one)) for one in value)


def _units(character: str) -> list[int]:
    encoded = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(encoded[at : at + 2], "big") for at in range(0, len(encoded), 2)]


def _is_archive(path: Path) -> bool:
    if not path.is_file():  # but a pipe, which nobody may ever write to
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return MANIFEST in archive.namelist()
    except (zipfile.BadZipFile, ValueError, RuntimeError):
        return False
