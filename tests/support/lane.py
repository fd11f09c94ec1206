"""The compiled express lane of this tree, and whether the routers of stories use it: `MESH_LANE=auto pytest …` says that they do."""

from __future__ import annotations

import os
import threading
from pathlib import Path

TREE = Path(os.environ.get("CARGO_TARGET_DIR") or Path(__file__).parents[2] / "lane" / "target")
LIBRARY = TREE / "release" / "libmesh_lane.so"


def built() -> bool:
    """Whether somebody compiled it.

    Raises:
        RuntimeError: nobody did, and the tests' surroundings ask for it.
    """
    found = LIBRARY.exists()
    if not found and os.environ.get("MESH_LANE") == "auto":
        raise RuntimeError(f"MESH_LANE=auto asks for the express lane, and there is no {LIBRARY}: `make lane` makes it")
    return found


def folder() -> Path:
    """From where Python imports it."""
    link = TREE / "python" / "mesh_lane.abi3.so"
    link.parent.mkdir(exist_ok=True)
    # Several processes of tests may do so at once, and several threads of each.
    made = link.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    made.symlink_to(LIBRARY.resolve())
    made.replace(link)
    return link.parent


def variables(mode: str = "") -> dict[str, str]:
    """Of a router: `auto` or `off`; as the tests' surroundings say, unless given."""
    mode = mode or os.environ.get("MESH_LANE", "off")
    return {"MESH_LANE": mode} | ({"PYTHONPATH": str(folder())} if mode == "auto" and built() else {})
