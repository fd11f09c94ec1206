"""Places that models come from, each behind the same two questions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Protocol

from runtime_adapters.errors import InvalidRequest, Missing, NotConfigured
from runtime_adapters.paths import clamp, scoped_join
from runtime_adapters.storage import tree
from runtime_adapters.storage.parameters import Parameters, required
from runtime_adapters.turns import to_end


class Source(Protocol):
    """One storage, ready to be read."""

    async def fetch(self, path: str, target: Path) -> None:
        """Bring the file or directory `path` to `target`, whose parent exists and is the caller's to clean up.

        Raises:
            AdapterError: `Missing`, `Denied`, `Unreachable`, `Damaged`, … with a message that names the place.
            OSError: the disk refuses.
        """
        ...

    async def size(self, path: str) -> int | None:
        """Bytes that `fetch` would bring, quickly; None if this storage cannot tell. Errors as for `fetch`."""
        ...


class Folder:
    """A directory of this machine. Nothing is copied: a link is made."""

    def __init__(self, root: Path, label: str) -> None:
        self.root = root
        self.label = label

    async def fetch(self, path: str, target: Path) -> None:
        """Link `target` to the place."""
        await to_end(asyncio.to_thread(self._link, path, target))

    async def size(self, path: str) -> int | None:
        """Bytes on disk."""
        return await asyncio.to_thread(lambda: tree.disk_usage(self._find(path), within=1.0))

    def _link(self, path: str, target: Path) -> None:
        target.symlink_to(self._find(path))

    def _find(self, path: str) -> Path:
        try:
            found = scoped_join(self.root, path)
        except ValueError as error:
            raise InvalidRequest(f"path {path!r}: {error}") from None
        if not found.exists():
            raise Missing(f"path {path!r} does not exist in {self.label}")
        return found


def claim(parameters: Parameters, mounts: Path) -> Folder:
    """The source of a `pvc`: a claim mounted below `mounts` under its name."""
    (name,) = required(parameters, "name")
    if not mounts.is_dir():
        raise NotConfigured(f"the PVC mount base '{mounts}' doesn't exist")
    # The entries of `mounts` are made by whoever mounts, who may have linked them; what lies in a claim is its users'.
    first, _, inner = clamp(name).partition("/")
    root = scoped_join(mounts / first, inner)
    if root == mounts or not root.is_dir():
        raise NotConfigured(f"claim {name!r} is not mounted: there is no directory {root}")
    return Folder(root, f"claim {name!r}")


def local(parameters: dict[str, Any]) -> Folder:
    """The source of a `local` entry of storage-config: a directory of this machine."""
    (path,) = required(parameters, "path")
    root = Path(path)
    if not root.is_absolute() or not root.is_dir():
        raise NotConfigured(f"storage of type 'local': {path!r} is not an absolute path of a directory")
    return Folder(root.resolve(), f"directory {path!r}")
