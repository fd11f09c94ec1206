"""Brings one model's files below the root of model files, whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from runtime_adapters.errors import AdapterError
from runtime_adapters.paths import clamp, folder_name
from runtime_adapters.storage import tree
from runtime_adapters.storage.keys import ModelKey
from runtime_adapters.storage.parameters import resolve
from runtime_adapters.storage.providers import source
from runtime_adapters.storage.sources import Source
from runtime_adapters.turns import to_end

log = logging.getLogger(__name__)

CONTEXT = "Failed to pull model from storage due to error"
MODEL_NAME = "_model"
"""Local name of a model that is the root of its storage."""
SCHEMA_NAME = "_schema.json"
"""Local name of a schema file that is named like its model."""


class Pulled(NamedTuple):
    """Where a model lies now: `ROOT/<folder of the id>/<name>`."""

    model: Path
    schema: Path | None


class Puller:
    """Pulls into `root`; `config` is the folder of storage-config entries, `mounts` the one of mounted claims."""

    def __init__(self, root: Path, config: Path, mounts: Path) -> None:
        self._root = root
        self._config = config
        self._mounts = mounts

    async def pull(self, model_id: str, path: str, key: ModelKey) -> Pulled:
        """Bring model and schema. If it fails or is cancelled, nothing of it stays on the disk.

        Raises:
            AdapterError: why it failed; the message begins with `CONTEXT`.
        """
        final = self.folder(model_id)
        model, schema = local_names(path, key.schema_path)
        try:
            origin = self._source(key)
            staged = await to_end(asyncio.to_thread(tree.staging, final))
            try:
                await origin.fetch(path, staged / model)
                if schema and key.schema_path:
                    await origin.fetch(key.schema_path, staged / schema)
                await to_end(asyncio.to_thread(tree.publish, staged, final))
            finally:
                await to_end(asyncio.to_thread(tree.remove, staged))
        except AdapterError as error:
            raise error.within(CONTEXT) from None
        except OSError as error:
            raise tree.disk_error(error, self._root).within(CONTEXT) from error
        return Pulled(final / model, final / schema if schema else None)

    async def size(self, path: str, key: ModelKey) -> int | None:
        """Bytes that a pull would bring; None if the storage cannot tell without one. Errors as for `pull`."""
        return await self._source(key).size(path)

    def remove(self, model_id: str) -> None:
        """Remove what was pulled for a model; fine if nothing was. Blocking."""
        tree.remove(self.folder(model_id))

    def folder(self, model_id: str) -> Path:
        """Where the files of a model lie."""
        return self._root / folder_name(model_id)

    def clear(self) -> None:
        """Remove the files of every model, and what interrupted pulls left. Blocking.

        All of that is folders; a plain file in the root is a model server's own, as OVMS's configuration is.
        """
        for entry in self._root.iterdir():
            if (entry.is_symlink() or entry.is_dir()) and not entry.name.startswith(("_", ".")):
                tree.remove(entry)

    def _source(self, key: ModelKey) -> Source:
        return source(resolve(self._config, key), self._mounts, key.storage_key)


def local_names(path: str, schema_path: str | None) -> tuple[str, str | None]:
    """Names that model and schema get here: their own, unless there is none or both are alike."""
    model = PurePosixPath(clamp(path)).name or MODEL_NAME
    if not schema_path:
        return model, None
    schema = PurePosixPath(clamp(schema_path)).name
    return model, schema if schema and schema != model else SCHEMA_NAME
