"""TorchServe, from the environment `torchserve` and a Java that is installed on this machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh.core.errors import Failed
from mesh.local.ports import HOST
from mesh.local.processes import Command
from mesh.local.servers.base import Place, Server, taken
from mesh.manifests.runtimes import PodPlan

JAVA = 17
"""The oldest Java that runs TorchServe 0.12: its classes are compiled for it."""
_VERSION = re.compile(r'version "(\d+)')
_JAVA_LIMIT = 30.0
"""Seconds for `java -version`, which takes a tenth of one."""
_PORT = "the mesh chooses the ports of a machine that pods share"
_START = 'while [ ! -e "$TS_CONFIG_FILE" ]; do sleep 0.2; done; exec "$@"'


class TorchServe:
    """The recipe; see `Server`."""

    server_type = "torchserve"
    runtime = "torchserve-0.x"
    environment = "torchserve"
    ports: Sequence[str] = ("data", "grpc", "management", "http", "management_http", "metrics")
    layout = "_torchserve_models"
    fixed: Mapping[str, str] = {
        "TS_CONFIG_FILE": "the adapter writes the configuration",
        "TS_MODEL_STORE": "each pod has a model folder of its own",
        "TS_INFERENCE_ADDRESS": _PORT,
        "TS_MANAGEMENT_ADDRESS": _PORT,
        "TS_METRICS_ADDRESS": _PORT,
        "TS_GRPC_INFERENCE_ADDRESS": f"the mesh listens on {HOST} only",
        "TS_GRPC_MANAGEMENT_ADDRESS": f"the mesh listens on {HOST} only",
        "TS_GRPC_INFERENCE_PORT": _PORT,
        "TS_GRPC_MANAGEMENT_PORT": _PORT,
        "TS_LOAD_MODELS": "the mesh decides which models are loaded",
        "LOG_LOCATION": "each pod has a folder of its own",
        "METRICS_LOCATION": "each pod has a folder of its own",
    }

    def prepare(self, place: Place, plan: PodPlan) -> None:
        """Makes the folders that it writes to.

        Raises:
            Failed: there is no Java, or one that is too old.
        """
        find_java({**place.inherited, **plan.server_env})
        for name in ("logs", "tmp"):
            (place.folder / name).mkdir(parents=True, exist_ok=True)
        # Of an earlier life, with other ports perhaps: TorchServe waits until the adapter has written it again.
        (place.models / self.layout / "mmconfig.properties").unlink(missing_ok=True)

    def command(self, place: Place, plan: PodPlan) -> Command:
        """Java itself, once the adapter has written the configuration: TorchServe's own launcher would leave it behind when it dies."""
        home = _packages(place.environment)
        java = [
            find_java({**place.inherited, **plan.server_env}),
            f"-Dmodel_server_home={home}",
            f"-Djava.io.tmpdir={place.folder / 'tmp'}",
            "-cp",
            f"{home / 'ts' / 'frontend'}/*",
            "org.pytorch.serve.ModelServer",
            *("--python", place.python, "--no-config-snapshot"),
            # What guards the adapter's calls otherwise is a token in a file, and a switch; the ports are this machine's alone.
            *("--disable-token-auth", "--enable-model-api"),
        ]
        return place.command(
            ["/bin/sh", "-c", _START, "torchserve", *java],
            {
                **taken(self, plan),
                "TS_CONFIG_FILE": str(place.models / self.layout / "mmconfig.properties"),
                "TS_MANAGEMENT_ADDRESS": f"http://{HOST}:{place.ports['management_http']}",
                "TS_METRICS_ADDRESS": f"http://{HOST}:{place.ports['metrics']}",
                "LOG_LOCATION": str(place.folder / "logs"),
                "METRICS_LOCATION": str(place.folder / "logs"),
                "TEMP": str(place.folder / "tmp"),
                # Workers are started as `python` by some handlers.
                "PATH": f"{place.environment / 'bin'}{os.pathsep}{place.inherited.get('PATH', os.defpath)}",
            },
            orphan_signal=signal.SIGTERM,
        )

    def adapter(self, place: Place, plan: PodPlan) -> Mapping[str, str]:  # noqa: ARG002 - of the protocol
        """Loads go to the management port; the adapter's bridge calls the others, and listens at the data endpoint."""
        return {
            "RUNTIME_PORT": str(place.ports["management"]),
            "TORCHSERVE_GRPC_PORT": str(place.ports["grpc"]),
            "TORCHSERVE_HTTP_PORT": str(place.ports["http"]),
            "MODELSIZE_MULTIPLIER": "2.75",
        }

    def data_endpoint(self, place: Place) -> str:
        """The port of the adapter's bridge."""
        return f"port:{place.ports['data']}"


def find_java(environment: Mapping[str, str]) -> str:
    """The `java` to run: of JAVA_HOME, else of the PATH.

    Raises:
        Failed: there is none, or it is too old.
    """
    home = environment.get("JAVA_HOME")
    wanted = str(Path(home) / "bin" / "java") if home else "java"
    found = shutil.which(wanted, path=environment.get("PATH", os.defpath))
    advice = f"install Java {JAVA} or later (`apt-get install openjdk-{JAVA}-jre-headless` on Debian), or set JAVA_HOME to one"
    if found is None:
        where = f"JAVA_HOME is {home}, but {wanted} cannot be run" if home else "there is no `java` on the PATH"
        raise Failed(f"TorchServe needs Java, and {where}: {advice}")
    try:
        told = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=_JAVA_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"TorchServe needs Java, and {found} does not run ({error}): {advice}") from error
    version = _VERSION.search(told.stderr + told.stdout)
    if told.returncode != 0 or version is None or int(version[1]) < JAVA:
        shown = (told.stderr + told.stdout).strip().splitlines()[:1] or ["no version"]
        raise Failed(f"TorchServe needs Java {JAVA} or later, and {found} says {shown[0]!r}: {advice}")
    return found


def _packages(environment: Path) -> Path:
    """The site-packages of the environment, in which TorchServe lies."""
    found = sorted(environment.glob("lib/python*/site-packages/ts/frontend"))
    if not found:
        raise Failed(f"TorchServe is not installed in {environment}: make it again with `mesh environment make torchserve`")
    return found[-1].parents[1]


SERVER: Server = TorchServe()
