"""How a mesh on this machine starts each kind of model server: one module a server, found by its `serverType`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from mesh.core.errors import Malformed
from mesh.local.servers.base import Server

MODULES: Mapping[str, str] = {"mlserver": "mlserver", "ovms": "openvino", "torchserve": "torchserve", "triton": "triton"}
"""`builtInAdapter.serverType` → module of this package, whose `SERVER` is the recipe; imported when it is asked for."""


def find(server_type: str, place: str = "") -> Server:
    """The recipe of a server type.

    Args:
        place: what asks for it, for the message, e.g. `ServingRuntime mine`.

    Raises:
        Malformed: there is no such server type.
    """
    if server_type not in MODULES:
        who = f"{place}: " if place else ""
        raise Malformed(f"{who}builtInAdapter.serverType {server_type!r} is not known; there are {', '.join(sorted(MODULES))}")
    server: Server = importlib.import_module(f"{__name__}.{MODULES[server_type]}").SERVER
    return server
