"""Triton Inference Server, from the environment `triton`."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

from mesh.core.errors import Failed
from mesh.local.ports import HOST
from mesh.local.processes import Command
from mesh.local.servers.base import Place, Server, taken
from mesh.manifests.runtimes import PodPlan
from runtime_adapters.triton.installation import Installation, NotInstalled

SHARED_MEMORY = "/dev/shm"
"""Where Triton and the processes of its models share memory on Linux."""

_LIBRARIES = "import sysconfig; print(sysconfig.get_config_var('LIBDIR') or '')"
_ASKING_LIMIT = 60.0
"""Seconds for an interpreter to say where its library lies, which takes hundredths of one."""
_START = f'rm -f {SHARED_MEMORY}/"$1"*; shift; exec "$@"'


class Triton:
    """The recipe; see `Server`. Triton is configured by its command line, so the container's environment cannot make another server."""

    server_type = "triton"
    runtime = "triton-2.x"
    environment = "triton"
    ports: Sequence[str] = ("grpc", "http", "metrics")
    layout = "_triton_models"
    fixed: Mapping[str, str] = {
        "PYTHONPATH": "Triton's Python backend has to be found",
        "LD_LIBRARY_PATH": "Triton's libraries have to be found",
        "CUDA_VISIBLE_DEVICES": "a local mesh uses the CPU",
    }

    def prepare(self, place: Place, plan: PodPlan) -> None:  # noqa: ARG002 - of the protocol
        """Makes the folder of backends.

        Raises:
            Failed: there is no Triton in the environment.
        """
        place.folder.mkdir(parents=True, exist_ok=True)
        _installation(place).make_backends(place.folder / "backends")

    def command(self, place: Place, plan: PodPlan) -> Command:
        """A Triton that loads what it is told, on the CPU, listening on this machine only."""
        triton = _installation(place)
        shared = f"mesh_triton_{hashlib.sha256(str(place.folder.absolute()).encode()).hexdigest()[:12]}_"
        path, python = (place.inherited.get(name, "") for name in ("PATH", "PYTHONPATH"))
        return place.command(
            # What a Triton that was killed left in shared memory goes first: nothing else would ever remove it.
            ["/bin/sh", "-c", _START, "triton", shared, str(triton.server), *self._options(place, shared)],
            {
                **taken(self, plan),
                # The processes of models are this interpreter: `python3` of the PATH, and its shared library.
                "PATH": os.pathsep.join(filter(None, (str(place.environment / "bin"), path or os.defpath))),
                "PYTHONPATH": os.pathsep.join(filter(None, (python, str(triton.packages)))),
                "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (_library_folder(place), str(triton.libraries)))),
                "CUDA_VISIBLE_DEVICES": "",
            },
            # It ends the processes of its models itself, which takes a few seconds.
            orphan_signal=signal.SIGTERM,
            grace=20.0,
        )

    def adapter(self, place: Place, plan: PodPlan) -> Mapping[str, str]:  # noqa: ARG002 - of the protocol
        """Loads and calls go to the same port."""
        return {"RUNTIME_PORT": str(place.ports["grpc"])}

    def data_endpoint(self, place: Place) -> str:
        """Its gRPC port."""
        return f"port:{place.ports['grpc']}"

    def _options(self, place: Place, shared: str) -> list[str]:
        return [
            f"--model-repository={place.models / self.layout}",
            f"--backend-directory={place.folder / 'backends'}",
            "--model-control-mode=explicit",
            "--strict-readiness=false",
            *(f"--{door}-address={HOST}" for door in ("grpc", "http", "metrics")),
            *(f"--{door}-port={place.ports[door]}" for door in ("grpc", "http", "metrics")),
            "--allow-gpu-metrics=false",
            "--allow-sagemaker=false",
            "--allow-vertex-ai=false",
            f"--backend-config=python,shm-region-prefix-name={shared}",
            # Calls in progress when it is told to end; the router has drained before.
            "--exit-timeout-secs=10",
        ]


def _installation(place: Place) -> Installation:
    try:
        return Installation.find(place.environment)
    except NotInstalled as error:
        raise Failed(str(error)) from None


def _library_folder(place: Place) -> str:
    """Where the shared library of the environment's interpreter lies; "" if it cannot tell, and the system's folders have to do."""
    try:
        asked = subprocess.run([place.python, "-c", _LIBRARIES], capture_output=True, text=True, timeout=_ASKING_LIMIT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise Failed(f"the interpreter {place.python} does not run ({error}); make it again with `mesh environment make triton`") from error
    return asked.stdout.strip()


SERVER: Server = Triton()
