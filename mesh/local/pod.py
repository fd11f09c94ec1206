"""The three processes of one pod and the environment of each: router, adapter, MLServer."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mesh.core.errors import Malformed
from mesh.local import ports
from mesh.local.processes import Command
from mesh.local.state import SERVER_MODELS, DataFolder, write_atomically
from mesh.manifests.documents import AnyRuntime
from mesh.manifests.runtimes import PodPlan, dataplane_config, pod_plan, type_constraints

RUNTIME = "mlserver-1.x"
"""The runtime that a mesh on one machine runs."""

SERVICE = "modelmesh-serving"
ALONE = "mesh-local-0"
"""The name of a single pod. Twelve characters: the instance id is the last twelve of the pod's name."""

_SHUTDOWN_MS = 10_000
_OURS = (
    *("MM_", "TAS_", "INTERNAL_", "KV_", "WKUBE_", "REST_PROXY_", "MESH_PEER_PORT", "MESH_BIND_ADDRESS", "MESH_SHARED_"),
    "SHUTDOWN_TIMEOUT_MS",
)
"""Prefixes of what the mesh itself sets for its router; a shell's leftovers of them would make a different router."""

_PASSED = ("MM_LOAD_FAILURE_EXPIRY_TIME_MS", "MM_MULTI_PARALLELISM", "MM_SVC_GRPC_MAX_MSG_SIZE", "MM_LOG_EACH_INVOKE")
"""Of those, what a user may still set for a local mesh."""

_SERVER_FIXED = ("MLSERVER_MODELS_DIR", "MLSERVER_GRPC_PORT", "MLSERVER_HTTP_PORT", "MLSERVER_HOST", "MLSERVER_LOAD_MODELS_AT_STARTUP")
"""What a container of its own may choose and a machine shared with others may not."""


@dataclass(frozen=True)
class PodPorts:
    """Every port of a pod."""

    grpc: int
    rest: int
    peer: int
    probe: int
    prestop: int
    metrics: int
    adapter: int
    server_grpc: int
    server_http: int
    server_metrics: int

    @classmethod
    def count(cls) -> int:
        """How many there are."""
        return len(fields(cls))


@dataclass(frozen=True)
class PodSetup:
    """What a pod is made from.

    Attributes:
        name: of the pod, whose last twelve characters are its instance id.
        prefix: of its processes' names; empty if there is one pod only.
        folder: where it keeps what it has.
        environment: the model server's.
        storage_config: folder of the storage keys.
        kv_store: the registry that it shares; empty for one in its memory.
        shared: the clients' ports of all pods together, gRPC and REST; None if it listens there itself.
    """

    name: str
    prefix: str
    folder: DataFolder
    ports: PodPorts
    environment: Path
    storage_config: Path
    kv_store: str = ""
    shared: tuple[int, int] | None = None

    def commands(self, plan: PodPlan) -> list[Command]:
        """Model server, adapter and router, in the order they are started."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLSERVER_", "PYTHONPATH"))}
        logs, server = self.folder.logs, self.folder.server
        models = self.folder.models / SERVER_MODELS
        python = str(self.environment / "bin" / "python")
        return [
            Command(
                f"{self.prefix}mlserver",
                # Through its Python: the script's first line may be longer than the kernel reads.
                [python, str(self.environment / "bin" / "mlserver"), "start", str(models)],
                {**inherited, **self._server(plan)},
                logs / "mlserver.log",
                server,
                # It ends its worker processes itself, which it could not if it were killed.
                orphan_signal=signal.SIGTERM,
            ),
            Command(
                f"{self.prefix}adapter",
                [sys.executable, "-m", "runtime_adapters", plan.server_type],
                {**inherited, **self._adapter(plan)},
                logs / "adapter.log",
                self.folder.root,
            ),
            Command(
                f"{self.prefix}router",
                [sys.executable, "-m", "mesh.cli.app", "router"],
                {**_without_ours(inherited), **self._router(plan)},
                logs / "router.log",
                self.folder.root,
                grace=_SHUTDOWN_MS / 1000 + 2,
            ),
        ]

    def _server(self, plan: PodPlan) -> dict[str, str]:
        own = {name: value for name, value in plan.server_env.items() if name not in _SERVER_FIXED}
        return {
            "MLSERVER_PARALLEL_WORKERS": os.environ.get("MLSERVER_PARALLEL_WORKERS", "0"),
            "MLSERVER_MODEL_NAME": "dummy-model-fixme",
            "MLSERVER_GRPC_MAX_MESSAGE_LENGTH": "-1",
            "MLSERVER_DEBUG": "false",
            **own,
            "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
            "MLSERVER_HOST": ports.HOST,
            "MLSERVER_HTTP_PORT": str(self.ports.server_http),
            "MLSERVER_GRPC_PORT": str(self.ports.server_grpc),
            "MLSERVER_METRICS_PORT": str(self.ports.server_metrics),
            "MLSERVER_ENVIRONMENTS_DIR": str(self.folder.server / "environments"),
            "MLSERVER_METRICS_DIR": str(self.folder.server / "metrics"),
        }

    def _adapter(self, plan: PodPlan) -> dict[str, str]:
        return {
            "LOADING_CONCURRENCY": str(plan.loading_concurrency),
            **plan.adapter_env,
            "ADAPTER_PORT": str(self.ports.adapter),
            "RUNTIME_PORT": str(self.ports.server_grpc),
            "RUNTIME_DATA_ENDPOINT": f"port:{self.ports.server_grpc}",
            "CONTAINER_MEM_REQ_BYTES": str(plan.memory_request),
            "MEM_BUFFER_BYTES": str(plan.memory_buffer),
            "LOADTIME_TIMEOUT": str(plan.load_timeout),
            "ROOT_MODEL_DIR": str(self.folder.models),
            "STORAGE_CONFIG_DIR": str(self.storage_config),
            "PVC_MOUNTS_DIR": str(self.folder.pvc),
            "USE_EMBEDDED_PULLER": "true",
            "RUNTIME_VERSION": plan.version,
        }

    def _router(self, plan: PodPlan) -> dict[str, str]:
        snapshot = self.folder.registry.with_name(f"registry.{self.name}.snapshot")
        shared = dict(zip(("MESH_SHARED_GRPC_PORT", "MESH_SHARED_REST_PORT"), map(str, self.shared or ()), strict=False))
        return {
            **shared,
            **({"KV_STORE": self.kv_store, "MESH_SNAPSHOT_PATH": str(snapshot)} if self.kv_store else {}),
            "MM_SERVICE_NAME": SERVICE,
            "WKUBE_POD_NAME": self.name,
            "MESH_BIND_ADDRESS": ports.HOST,
            "MM_SVC_GRPC_PORT": str(self.ports.grpc),
            "REST_PROXY_LISTEN_PORT": str(self.ports.rest),
            "MESH_PEER_PORT": str(self.ports.peer),
            "MM_PROBE_PORT": str(self.ports.probe),
            "MM_PRESTOP_WAIT_PORT": str(self.ports.prestop),
            "MM_METRICS": f"prometheus:port={self.ports.metrics};scheme=http",
            "INTERNAL_GRPC_PORT": str(self.ports.adapter),
            "INTERNAL_SERVING_GRPC_PORT": str(self.ports.server_grpc),
            "MM_LABELS": ",".join(plan.labels),
            "MM_TYPE_CONSTRAINTS_PATH": str(self.folder.config / "type_constraints"),
            "MM_DATAPLANE_CONFIG_PATH": str(self.folder.config / "dataplane_api_config"),
            "MM_DEFAULT_VMODEL_OWNER": "ksp",
            "SHUTDOWN_TIMEOUT_MS": str(_SHUTDOWN_MS),
            "LL_TERMINATION_MSG_PATH": str(self.folder.logs / "router.termination"),
        }


def write_rules(folder: DataFolder, runtimes: Mapping[str, AnyRuntime]) -> None:
    """Writes what the routers read again whenever it changes. Raises OSError."""
    _write_json(folder.config / "type_constraints", type_constraints(runtimes))
    _write_json(folder.config / "dataplane_api_config", dataplane_config())


def local_plan(runtimes: Mapping[str, AnyRuntime]) -> PodPlan:
    """The plan of each pod that runs here.

    Raises:
        Malformed: the document of that runtime switches it off, asks for another model server, or cannot be run.
    """
    document = runtimes.get(RUNTIME)
    if document is None:
        raise Malformed(f"the runtime {RUNTIME} is the one that a local mesh runs: it cannot be disabled or have multiModel: false")
    plan = pod_plan(document)
    if plan.server_type != "mlserver":
        raise Malformed(f"{document.kind} {RUNTIME}: builtInAdapter.serverType is {plan.server_type!r}; a local mesh runs mlserver only")
    return plan


def _without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in _PASSED or not name.startswith(_OURS)}


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1) + "\n"
    # Unchanged text is not written again: the router would read it for nothing.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
