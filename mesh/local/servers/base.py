"""What a local mesh asks of the recipe of one model server."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from mesh.local.processes import Command
from mesh.manifests.runtimes import PodPlan


@dataclass(frozen=True)
class Place:
    """Where the model server of one pod runs; everything in it is this pod's alone.

    Attributes:
        process: name of the process in messages, e.g. `pod-0/triton`.
        environment: virtual environment with the server, made from the list `Server.environment` or given by an image's folder.
        folder: for whatever the server writes; its working folder.
        models: root of the model files (ROOT_MODEL_DIR); layouts lie in `models / Server.layout`.
        log: file that its output goes to.
        ports: free ports of 127.0.0.1 by the names in `Server.ports`; the same in each life of the pod.
        inherited: the user's environment without what would make a different server. PYTHONPATH in it has the code of an image's
            folder: a recipe that sets PYTHONPATH puts it before its own.
    """

    process: str
    environment: Path
    folder: Path
    models: Path
    log: Path
    ports: Mapping[str, int]
    inherited: Mapping[str, str]

    @property
    def python(self) -> str:
        """The interpreter of the environment."""
        return str(self.environment / "bin" / "python")

    def command(
        self, argv: Sequence[str], environment: Mapping[str, str], *, orphan_signal: signal.Signals = signal.SIGKILL, grace: float = 10.0
    ) -> Command:
        """A command that runs here.

        Args:
            environment: what is added to `inherited`.
            orphan_signal, grace: as of `Command`.
        """
        whole = {**self.inherited, **environment}
        return Command(self.process, argv, whole, self.log, self.folder, orphan_signal=orphan_signal, grace=grace)


class Server(Protocol):
    """The recipe of one model server; a module of this package has one as `SERVER`. It keeps nothing of a pod."""

    server_type: str
    """As `builtInAdapter.serverType` names it; also the adapter's name (`python -m runtime_adapters NAME`)."""
    runtime: str
    """The built-in ClusterServingRuntime that runs it."""
    environment: str
    """The list in `environments/` that the environment is made from."""
    ports: Sequence[str]
    """Names of the ports that it needs, e.g. `grpc`, `http`, `metrics`."""
    layout: str
    """Folder below `Place.models` where the adapter lays models out; it is there before the server starts."""
    fixed: Mapping[str, str]
    """Variables of the container that a machine shared with others cannot take over → why, in a few words (`the mesh chooses the port`)."""

    def prepare(self, place: Place, plan: PodPlan) -> None:
        """Write what the server reads at its start; called before each first start of a pod's processes, also over an earlier life's
        files. Blocking, and quick: no download. OSError if the file system refuses."""
        ...

    def command(self, place: Place, plan: PodPlan) -> Command:
        """What is run. `plan.server_env` is the container's environment, of which everything but `fixed` is to be handed on."""
        ...

    def adapter(self, place: Place, plan: PodPlan) -> Mapping[str, str]:
        """What the adapter's environment says of this server: RUNTIME_PORT at least. Goes before the document's `builtInAdapter.env`."""
        ...

    def data_endpoint(self, place: Place) -> str:
        """Where data calls go, `port:N` or `unix:/path`; both the router and the adapter (RUNTIME_DATA_ENDPOINT) are told."""
        ...


@runtime_checkable
class Telling(Protocol):
    """A recipe that has something to say of what it runs here."""

    def note(self, environment: Mapping[str, str]) -> str:
        """One line for whoever starts a mesh with it; "" if there is nothing to say. Failed if it cannot be run.

        Args:
            environment: of the server.
        """
        ...


def taken(server: Server, plan: PodPlan) -> dict[str, str]:
    """The container's environment without what `server.fixed` keeps back."""
    return {name: value for name, value in plan.server_env.items() if name not in server.fixed}
