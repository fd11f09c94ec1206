"""The processes of one pod and the environment of each: model server, adapter or puller, router."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mesh.local import ports
from mesh.local.kits import ADAPTER_FIXED, Kit
from mesh.local.processes import Command
from mesh.local.servers.base import Place
from mesh.local.servers.custom import Custom
from mesh.local.state import DataFolder, write_atomically
from mesh.manifests.documents import AnyRuntime
from mesh.manifests.runtimes import dataplane_config, type_constraints

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

_OF_SERVERS = ("MLSERVER_", "TS_", "PYTHONPATH")
"""Prefixes of what a shell's leftovers would make a different model server by."""


@dataclass(frozen=True)
class PodPorts:
    """Ports of a pod, but for those of its model server."""

    grpc: int
    rest: int
    peer: int
    probe: int
    prestop: int
    metrics: int
    adapter: int

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
        storage_config: folder of the storage keys.
        kv_store: the registry that it shares; empty for one in its memory.
        shared: the clients' ports of all pods together, gRPC and REST.
        server_ports: of its model server, by the names that its recipe has for them.
    """

    name: str
    prefix: str
    folder: DataFolder
    ports: PodPorts
    storage_config: Path
    kv_store: str = ""
    shared: tuple[int, int] | None = None
    server_ports: dict[str, int] = field(default_factory=dict)

    def place(self, kit: Kit) -> Place:
        """Where the model server runs; chooses the ports that it needs and has not yet."""
        missing = [name for name in kit.server.ports if name not in self.server_ports]
        self.server_ports.update(zip(missing, ports.choose(len(missing)), strict=True))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OF_SERVERS)}
        if kit.image:
            inherited["PYTHONPATH"] = str(kit.image.folder)
        process = kit.plan.server_type or kit.plan.container
        return Place(
            f"{self.prefix}{process}",
            kit.environment.path,
            self.folder.server,
            self.folder.models,
            self.folder.logs / f"{process}.log",
            {name: self.server_ports[name] for name in kit.server.ports},
            inherited,
        )

    @property
    def termination(self) -> Path:
        """File in which the router says why it ended."""
        return self.folder.logs / "router.termination"

    def prepare(self, kit: Kit) -> None:
        """Makes what its processes need before they start. Blocking. Failed or OSError if that cannot be."""
        self.folder.prepare()
        place = self.place(kit)
        if kit.server.layout:
            (place.models / kit.server.layout).mkdir(parents=True, exist_ok=True)
        kit.server.prepare(place, kit.plan)

    def commands(self, kit: Kit) -> list[Command]:
        """Model server, adapter or puller if there is one, and router, in the order they are started. Blocking. Failed as for `prepare`."""
        place = self.place(kit)
        server = kit.server.command(place, kit.plan)
        if kit.image and kit.image.entrypoint and kit.plan.server_type:
            argv = [str(kit.image.entrypoint), *server.argv]
            server = Command(server.name, argv, server.environment, server.log, server.folder, server.orphan_signal, server.grace)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OF_SERVERS)}
        router = Command(
            f"{self.prefix}router",
            [sys.executable, "-m", "mesh.cli.app", "router"],
            {**_without_ours(inherited), **self._router(kit, place)},
            self.folder.logs / "router.log",
            self.folder.root,
            grace=_SHUTDOWN_MS / 1000 + 2,
        )
        return [server, *self._between(kit, place, inherited), router]

    def _between(self, kit: Kit, place: Place, inherited: Mapping[str, str]) -> list[Command]:
        if kit.plan.server_type:
            name, adapter, environment = "adapter", kit.plan.server_type, self._adapter(kit, place)
        elif kit.plan.puller:
            name, adapter, environment = "puller", "puller", {"PORT": str(self.ports.adapter), **kit.server.adapter(place, kit.plan)}
        else:
            return []
        folders = {
            "ROOT_MODEL_DIR": str(self.folder.models),
            "STORAGE_CONFIG_DIR": str(self.storage_config),
            "PVC_MOUNTS_DIR": str(self.folder.pvc),
        }
        argv = [sys.executable, "-m", "runtime_adapters", adapter]
        whole = {**inherited, **environment, **folders}
        return [Command(f"{self.prefix}{name}", argv, whole, self.folder.logs / f"{name}.log", self.folder.root)]

    def _adapter(self, kit: Kit, place: Place) -> dict[str, str]:
        """What the document says of the adapter goes before what follows from the rest, as in ModelMesh, but not before the machine."""
        plan, of_server = kit.plan, dict(kit.server.adapter(place, kit.plan))
        where = {name: value for name, value in of_server.items() if name.endswith(("_PORT", "_FILE", "_DIR", "_ENDPOINT", "_SOCKET"))}
        return {
            "LOADING_CONCURRENCY": str(plan.loading_concurrency),
            "LIMIT_PER_MODEL_CONCURRENCY": str(plan.model_concurrency),
            "MEM_BUFFER_BYTES": str(plan.memory_buffer),
            "LOADTIME_TIMEOUT": str(plan.load_timeout),
            "RUNTIME_VERSION": plan.version,
            **of_server,
            **{name: value for name, value in plan.adapter_env.items() if name not in ADAPTER_FIXED},
            **where,
            "ADAPTER_PORT": str(self.ports.adapter),
            "RUNTIME_DATA_ENDPOINT": kit.server.data_endpoint(place),
            "CONTAINER_MEM_REQ_BYTES": str(plan.memory_request),
            "USE_EMBEDDED_PULLER": "true",
        }

    def _router(self, kit: Kit, place: Place) -> dict[str, str]:
        snapshot = self.folder.registry.with_name(f"registry.{self.name}.snapshot")
        shared = dict(zip(("MESH_SHARED_GRPC_PORT", "MESH_SHARED_REST_PORT"), map(str, self.shared or ()), strict=False))
        own = isinstance(kit.server, Custom) and not kit.plan.puller
        management = kit.server.endpoint(place) if own and isinstance(kit.server, Custom) else f"port:{self.ports.adapter}"
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
            **_endpoint("INTERNAL_GRPC", management),
            **_endpoint("INTERNAL_SERVING_GRPC", kit.server.data_endpoint(place)),
            "MM_LABELS": ",".join(kit.plan.labels),
            "MM_TYPE_CONSTRAINTS_PATH": str(self.folder.config / "type_constraints"),
            "MM_DATAPLANE_CONFIG_PATH": str(self.folder.config / "dataplane_api_config"),
            "MM_DEFAULT_VMODEL_OWNER": "ksp",
            "SHUTDOWN_TIMEOUT_MS": str(_SHUTDOWN_MS),
            "LL_TERMINATION_MSG_PATH": str(self.termination),
        }


def write_rules(folder: DataFolder, runtimes: Mapping[str, AnyRuntime]) -> None:
    """Writes what the routers read again whenever it changes. Raises OSError."""
    _write_json(folder.config / "type_constraints", type_constraints(runtimes))
    _write_json(folder.config / "dataplane_api_config", dataplane_config())


def _endpoint(name: str, endpoint: str) -> dict[str, str]:
    kind, _, rest = endpoint.partition(":")
    return {f"{name}_PORT": rest} if kind == "port" else {f"{name}_SOCKET_PATH": rest}


def _without_ours(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name in _PASSED or not name.startswith(_OURS)}


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=1) + "\n"
    # Unchanged text is not written again: the router would read it for nothing.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
