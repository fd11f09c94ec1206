"""Files on the local disk: their size, their removal, and where a download lies until it is whole."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import time
from pathlib import Path

from runtime_adapters.errors import AdapterError, Full

_attempts = itertools.count(1)


def disk_usage(path: Path, *, within: float = 60.0) -> int | None:
    """Bytes of a file or of all files below a directory, links followed, each directory counted once.

    None if `path` cannot be read, or if counting takes longer than `within` seconds. Blocking.
    """
    end = time.monotonic() + within
    seen: set[tuple[int, int]] = set()
    waiting = [path]
    total = 0
    try:
        while waiting:
            here = waiting.pop()
            if time.monotonic() > end:
                return None
            status = here.stat()
            if not here.is_dir():
                total += status.st_size
            elif (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                waiting += [Path(entry) for entry in os.scandir(here) if not _dangling(entry)]
    except OSError:
        return None
    return total


def staging(final: Path) -> Path:
    """Make and return an empty folder beside `final` for what is not whole yet. No model's folder has its name."""
    folder = final.with_name(f"{final.name}~{next(_attempts)}")
    remove(folder)
    folder.mkdir(parents=True)
    return folder


def publish(staged: Path, final: Path) -> None:
    """Give a finished folder its final name; what had that name is removed."""
    remove(final)
    staged.rename(final)


def remove(path: Path) -> None:
    """Remove a file, a link (not what it points at) or a directory; fine if there is none."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    elif path.exists():
        shutil.rmtree(path)


def disk_error(error: OSError, path: Path) -> AdapterError:
    """The adapter's error for what the disk refused."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Full(f"no space left on the disk of {path}; give the model folder more room or unload models")
    return AdapterError(f"cannot write below {path}: {error.strerror or error}")


def _dangling(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)
