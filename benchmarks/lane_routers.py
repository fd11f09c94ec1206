"""Whole routers in front of an upstream that only answers: the express lane as `mesh router` runs it, and the Python doors without it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import lane
from tests.support.mesh import Mesh, a_mesh
from tests.support.runtime_state import Behaviour

MODEL = "bench"


def pin(pid: int, cores: list[int]) -> None:
    """Keeps all threads of a process to some cores; those that it starts later follow."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # One may have ended by now.
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


@contextmanager
def a_router(folder: Path, mode: str, upstream: int, cores: list[int], environment: Mapping[str, str] | None = None) -> Iterator[Mesh]:
    """A router with `MESH_LANE=auto` or `off` and one loaded model, whose inference goes to a port that is not its runtime's.

    The scripted runtime loads the model; calls of it go to whoever listens on `upstream` and answers anything.
    """
    folder.mkdir()
    given = {"INTERNAL_SERVING_GRPC_PORT": str(upstream), "MESH_LOG_LEVEL": "WARNING"} | lane.variables(mode) | dict(environment or {})
    # A copy of its own for so many calls would be asked of other pods.
    given |= {"MM_SCALEUP_RPM_THRESHOLD": "1000000000"}
    with a_mesh(folder, Behaviour(), given) as mesh:
        mesh.client.loaded(MODEL)
        pin(mesh.router.process.pid, cores)
        yield mesh
