"""OpenVINO Model Server: a binary of the user's, or the stand-in over the OpenVINO runtime from the environment `openvino`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mesh.core.errors import Failed
from mesh.local.ports import HOST
from mesh.local.processes import Command
from mesh.local.servers.base import Place, Server, taken
from mesh.manifests.runtimes import PodPlan
from runtime_adapters.openvino import standin
from runtime_adapters.openvino.config import ConfigFile
from runtime_adapters.openvino.settings import CONFIG_FILE

BINARY = "OVMS_BINARY"
"""Variable with the path of a real server; without it `ovms` is looked for on the PATH."""


class OpenVino:
    """The recipe; see `Server`."""

    server_type = "ovms"
    runtime = "ovms-1.x"
    environment = "openvino"
    ports: Sequence[str] = ("grpc", "rest")
    layout = "_ovms_models"
    fixed: Mapping[str, str] = {}

    def prepare(self, place: Place, plan: PodPlan) -> None:  # noqa: ARG002 - of the protocol
        """Writes an empty list of models: the server does not start without one, and is not to load those of an earlier life."""
        ConfigFile(_config(place)).write({})

    def command(self, place: Place, plan: PodPlan) -> Command:
        """The binary and the stand-in take the same flags.

        Raises:
            Failed: OVMS_BINARY names what cannot be run.
        """
        environment = taken(self, plan)
        if binary := find_binary({**place.inherited, **environment}):
            program = [binary]
        else:
            program = [place.python, "-P", "-m", "ovms_standin"]
            folder = str(Path(standin.__file__).parent)
            given = environment.get("PYTHONPATH", place.inherited.get("PYTHONPATH"))
            environment["PYTHONPATH"] = os.pathsep.join([given, folder] if given else [folder])
        flags = {
            "port": place.ports["grpc"],
            "rest_port": place.ports["rest"],
            "config_path": _config(place),
            "file_system_poll_wait_seconds": 0,
            "grpc_bind_address": HOST,
            "rest_bind_address": HOST,
        }
        return place.command([*program, *(f"--{name}={value}" for name, value in flags.items())], environment)

    def adapter(self, place: Place, plan: PodPlan) -> Mapping[str, str]:  # noqa: ARG002 - of the protocol
        """Loads go by the list and the REST port."""
        return {"RUNTIME_PORT": str(place.ports["rest"]), "MODEL_CONFIG_FILE": str(_config(place))}

    def data_endpoint(self, place: Place) -> str:
        """Its gRPC port."""
        return f"port:{place.ports['grpc']}"

    def note(self, environment: Mapping[str, str]) -> str:
        """What whoever starts it should be told in one line; "" if there is nothing to say. Failed as for `command`."""
        if find_binary(environment):
            return ""
        return (
            f"no OpenVINO Model Server is installed ({BINARY}, or `ovms` on the PATH): a stand-in over the OpenVINO runtime serves instead"
        )


def find_binary(environment: Mapping[str, str]) -> str | None:
    """The real server to run, if there is one.

    Raises:
        Failed: OVMS_BINARY names what cannot be run.
    """
    if given := environment.get(BINARY):
        if found := shutil.which(given, path=environment.get("PATH", os.defpath)):
            return found
        raise Failed(f"{BINARY} is {given}, which cannot be run: name the `ovms` of an installed OpenVINO Model Server, or unset it")
    return shutil.which("ovms", path=environment.get("PATH", os.defpath))


def _config(place: Place) -> Path:
    return place.folder / CONFIG_FILE


SERVER: Server = OpenVino()
