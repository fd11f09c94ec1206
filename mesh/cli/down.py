"""`mesh down`: ends a mesh on this machine; its documents stay."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from mesh.cli import output
from mesh.cli.client import Control, MeshOption
from mesh.core.errors import Failed, MeshError
from mesh.local import state
from mesh.local.state import Context, DataFolder

_LIMIT = 60.0
"""Seconds: the router's own time to end, the model server's, and some."""


def down(mesh: MeshOption = None) -> None:
    """Ends the mesh and all its processes; documents and claims stay in the data folder."""
    with output.plain_errors():
        context = DataFolder.at(mesh).running() if mesh else state.current()
        if context is None:
            output.console.print("no mesh runs" + (f" with the data folder {mesh}" if mesh else ""), markup=False)
            return
        try:
            Control(context).post("stop")
        except MeshError:
            # It does not answer on its socket: it is asked as any process is.
            with suppress(ProcessLookupError):
                os.kill(context.pid, signal.SIGTERM)
        if not _gone(context):
            with suppress(ProcessLookupError):
                os.kill(context.pid, signal.SIGKILL)
            raise Failed(f"the mesh did not end within {_LIMIT:g} s and was killed ({context.named()})")
        output.console.print(f"the mesh ended; its documents stay in {context.data}", markup=False)


def _gone(context: Context) -> bool:
    limit = time.monotonic() + _LIMIT
    while time.monotonic() < limit:
        running = DataFolder.at(Path(context.data)).running()
        if running is None or running.pid != context.pid:
            return True
        time.sleep(0.05)
    return False
