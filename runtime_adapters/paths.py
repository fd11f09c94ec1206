"""Joining paths whose parts come from users: every result lies inside its root, whatever the parts say."""

from __future__ import annotations

import hashlib
import os
import re
from collections import deque
from pathlib import Path

MAX_LINKS = 255
"""Symbolic links followed in one join before it is called a loop; the limit of Go's filepath-securejoin."""
MAX_FOLDER = 200
"""Bytes of a folder name; Linux allows 255, and temporary names add a suffix."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9._-]")


def clamp(*parts: str) -> str:
    """`parts` as one relative path that cannot leave its root: `..` stops at the root, absolute parts are relative to it."""
    kept: list[str] = []
    for name in "/".join(parts).split("/"):
        if name == "..":
            del kept[-1:]
        elif name not in ("", "."):
            kept.append(name)
    return "/".join(kept)


def scoped_join(root: str | Path, *parts: str) -> Path:
    """Join `parts` below `root`; symbolic links on the way are read as if `root` were `/`, so they cannot leave it either.

    The path need not exist. `root` itself may be or contain links.

    Raises:
        OSError: more than `MAX_LINKS` links were followed.
        ValueError: a part holds a NUL byte.
    """
    if any("\0" in part for part in parts):
        raise ValueError("a path must not hold a NUL byte")
    base = Path(root)
    rest = deque("/".join(parts).split("/"))
    done: list[str] = []
    links = 0
    while rest:
        name = rest.popleft()
        if name in ("", "."):
            continue
        if name == "..":
            del done[-1:]
            continue
        here = base.joinpath(*done, name)
        if not here.is_symlink():
            done.append(name)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(f"too many symbolic links in {'/'.join(parts)!r} below {base}")
        target = os.readlink(here)
        if target.startswith("/"):
            done.clear()
        rest.extendleft(reversed(target.split("/")))
    return base.joinpath(*done)


def folder_name(model_id: str) -> str:
    """The one folder name of a model id: the id itself where that is safe, else with `%XX` for each unsafe byte.

    Different ids have different names, none begins with `.` or `_` (which adapters use for their own folders), and none is longer
    than `MAX_FOLDER` bytes.

    Raises:
        ValueError: the id is empty.
    """
    if not model_id:
        raise ValueError("a model id must not be empty")
    raw = model_id.encode("utf-8", "surrogatepass")
    name = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], raw).decode("ascii")
    if name[0] in "._":
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > MAX_FOLDER:
        digest = hashlib.sha256(raw).hexdigest()
        name = f"{name[: MAX_FOLDER - len(digest) - 1]}~{digest}"
    return name
