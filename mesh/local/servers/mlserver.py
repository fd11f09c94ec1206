"""MLServer, from the environment `mlserver`."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

from mesh.local.ports import HOST
from mesh.local.processes import Command
from mesh.local.servers.base import Place, Server, taken
from mesh.manifests.runtimes import PodPlan

_PORT = "the mesh chooses the ports of a machine that pods share"


class MLServer:
    """The recipe; see `Server`."""

    server_type = "mlserver"
    runtime = "mlserver-1.x"
    environment = "mlserver"
    ports: Sequence[str] = ("grpc", "http", "metrics")
    layout = "_mlserver_models"
    fixed: Mapping[str, str] = {
        "MLSERVER_MODELS_DIR": "each pod has a model folder of its own",
        "MLSERVER_GRPC_PORT": _PORT,
        "MLSERVER_HTTP_PORT": _PORT,
        "MLSERVER_METRICS_PORT": _PORT,
        "MLSERVER_HOST": f"the mesh listens on {HOST} only",
        "MLSERVER_LOAD_MODELS_AT_STARTUP": "the mesh decides which models are loaded",
        "MLSERVER_ENVIRONMENTS_DIR": "each pod has a folder of its own",
        "MLSERVER_METRICS_DIR": "each pod has a folder of its own",
    }

    def prepare(self, place: Place, plan: PodPlan) -> None:  # noqa: ARG002 - of the protocol
        """Makes the folders that it writes to."""
        for name in ("environments", "metrics"):
            (place.folder / name).mkdir(parents=True, exist_ok=True)

    def command(self, place: Place, plan: PodPlan) -> Command:
        """It watches an empty folder until the adapter lays a model out."""
        return place.command(
            # Through its Python: the script's first line may be longer than the kernel reads.
            [place.python, str(place.environment / "bin" / "mlserver"), "start", str(place.models / self.layout)],
            {
                "MLSERVER_PARALLEL_WORKERS": os.environ.get("MLSERVER_PARALLEL_WORKERS", "0"),
                "MLSERVER_MODEL_NAME": "dummy-model-fixme",
                "MLSERVER_GRPC_MAX_MESSAGE_LENGTH": "-1",
                "MLSERVER_DEBUG": "false",
                **taken(self, plan),
                "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
                "MLSERVER_HOST": HOST,
                "MLSERVER_GRPC_PORT": str(place.ports["grpc"]),
                "MLSERVER_HTTP_PORT": str(place.ports["http"]),
                "MLSERVER_METRICS_PORT": str(place.ports["metrics"]),
                "MLSERVER_ENVIRONMENTS_DIR": str(place.folder / "environments"),
                "MLSERVER_METRICS_DIR": str(place.folder / "metrics"),
            },
            # It ends its worker processes itself, which it could not if it were killed.
            orphan_signal=signal.SIGTERM,
        )

    def adapter(self, place: Place, plan: PodPlan) -> Mapping[str, str]:  # noqa: ARG002 - of the protocol
        """Loads and calls go to the same port."""
        return {"RUNTIME_PORT": str(place.ports["grpc"])}

    def data_endpoint(self, place: Place) -> str:
        """Its gRPC port."""
        return f"port:{place.ports['grpc']}"


SERVER: Server = MLServer()
