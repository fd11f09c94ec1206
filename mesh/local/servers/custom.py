"""A runtime that is a `mmesh.ModelRuntime` server itself: what its image's folder and its document say is run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesh.core.errors import Failed
from mesh.local.images import Image
from mesh.local.processes import Command
from mesh.local.servers.base import Place
from mesh.manifests.runtimes import PodPlan

_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_LONGEST_SOCKET = 100
"""Unix sockets take paths of up to 107 bytes."""


@dataclass
class Custom:
    """The recipe of one such runtime; see `Server`.

    Pods of one machine cannot all listen at the port that the document names. The mesh chooses one for each and tells it in
    MESH_GRPC_ENDPOINT and MESH_GRPC_DATA_ENDPOINT (`port:N` or `unix:PATH`); a variable of the container whose value is the document's
    number or path gets the chosen one too.
    """

    plan: PodPlan
    image: Image
    server_type: str = ""
    runtime: str = ""
    environment: str = ""
    ports: Sequence[str] = ("grpc", "data")
    layout: str = ""
    fixed: Mapping[str, str] = field(default_factory=dict)

    def prepare(self, place: Place, plan: PodPlan) -> None:  # noqa: ARG002 - of the protocol
        """Makes the folder of its sockets and removes those of an earlier life.

        Raises:
            Failed: a socket's path would be too long, or there is no command to run.
        """
        place.folder.mkdir(parents=True, exist_ok=True)
        for endpoint in {self.endpoint(place), self.data_endpoint(place)}:
            if endpoint.startswith("unix:"):
                socket = Path(endpoint.removeprefix("unix:"))
                if len(os.fsencode(socket)) > _LONGEST_SOCKET:
                    raise Failed(f"the path {socket} is too long for a socket; choose a data folder with a shorter name (--data)")
                socket.unlink(missing_ok=True)
        self._argv({})

    def command(self, place: Place, plan: PodPlan) -> Command:
        """The document's command, else the folder's entry point, with the document's arguments; it runs in the image's folder."""
        environment = self._variables(place, plan)
        path = os.pathsep.join((str(place.environment / "bin"), place.inherited.get("PATH", os.defpath)))
        whole = {**place.inherited, "PATH": path, **environment}
        return Command(place.process, self._argv(environment), whole, place.log, self.image.folder)

    def adapter(self, place: Place, plan: PodPlan) -> Mapping[str, str]:  # noqa: ARG002 - of the protocol
        """Of the puller in front of it."""
        return {"MODEL_SERVER_ENDPOINT": self.endpoint(place)}

    def endpoint(self, place: Place) -> str:
        """Its management interface."""
        return _endpoint(place, self.plan.endpoint, "grpc")

    def data_endpoint(self, place: Place) -> str:
        """Its inference interface, which may be the same."""
        if self.plan.data_endpoint in ("", self.plan.endpoint):
            return self.endpoint(place)
        return _endpoint(place, self.plan.data_endpoint, "data")

    def changed(self, plan: PodPlan) -> dict[str, str]:
        """Variables of the container that get what the mesh chooses → what they were."""
        wanted = {value for one in (plan.endpoint, plan.data_endpoint) if one for value in _spellings(one)}
        return {name: value for name, value in plan.server_env.items() if value in wanted}

    def _variables(self, place: Place, plan: PodPlan) -> dict[str, str]:
        grpc, data = self.endpoint(place), self.data_endpoint(place)
        chosen = dict(zip(_spellings(plan.endpoint), _spellings(grpc), strict=True))
        if plan.data_endpoint and plan.data_endpoint != plan.endpoint:
            chosen |= dict(zip(_spellings(plan.data_endpoint), _spellings(data), strict=True))
        own = {name: chosen.get(value, value) for name, value in plan.server_env.items()}
        return {**own, "MESH_GRPC_ENDPOINT": grpc, "MESH_GRPC_DATA_ENDPOINT": data, "ROOT_MODEL_DIR": str(place.models)}

    def _argv(self, environment: Mapping[str, str]) -> list[str]:
        program = list(self.plan.command) or ([str(self.image.entrypoint)] if self.image.entrypoint else [])
        if not program:
            raise Failed(
                f"nothing says what to run for the image {self.image.reference}: make an executable {self.image.folder}/entrypoint, "
                f"or give the container {self.plan.container} a command"
            )
        # As Kubernetes does: $(NAME) is a variable of the container, and stays as it is if there is none.
        return [_REFERENCE.sub(lambda found: environment.get(found[1], found[0]), part) for part in (*program, *self.plan.args)]


def _endpoint(place: Place, wanted: str, port: str) -> str:
    return f"port:{place.ports[port]}" if wanted.startswith("port:") else f"unix:{place.folder / f'{port}.sock'}"


def _spellings(endpoint: str) -> tuple[str, str]:
    """Ways to write an endpoint in a variable: as it is, and without its kind."""
    kind, _, rest = endpoint.partition(":")
    return endpoint, f"/{rest.lstrip('/')}" if kind == "unix" else rest
