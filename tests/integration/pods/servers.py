"""Pods whose model server is a real one: router, adapter and MLServer each as a process, all pods on one etcd."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mesh.manifests.runtimes import dataplane_config
from tests.integration.mlserver_adapter.rig import BUFFER, Rig
from tests.support.client import Client, Status
from tests.support.http import plain
from tests.support.mesh import RouterProcess
from tests.support.waiting import until

CLAIM = "models"
PATIENCE = 60.0
"""Seconds that a call gets."""


class ServerPod:
    """One pod: router, adapter, MLServer, and a client of the router alone."""

    client: Client
    router: RouterProcess

    def __init__(self, number: int, environment: Path, folder: Path, claims: Path, store: str, service: str, capacity: int) -> None:
        folder.mkdir()
        name = f"{service}-7f9c4d5b6-pod{number:02}"
        self.id, self._folder = name[-12:], folder
        memory = str(capacity + BUFFER)
        self.rig = Rig(
            environment, folder / "rig", PVC_MOUNTS_DIR=str(claims), CONTAINER_MEM_REQ_BYTES=memory, MEM_BUFFER_BYTES=str(BUFFER)
        )
        self._variables = {
            "MM_SERVICE_NAME": service,
            "KV_STORE": store,
            "WKUBE_POD_NAME": name,
            "WKUBE_POD_IPADDR": "127.0.0.1",
            "INTERNAL_GRPC_PORT": str(self.rig.port),
            "INTERNAL_SERVING_GRPC_PORT": str(self.rig.mlserver.port),
            "MM_DATAPLANE_CONFIG": json.dumps(dataplane_config()),
        }

    def start(self) -> None:
        """Returns when the router is ready."""
        self.rig.mlserver.start()
        self.start_router()

    def start_router(self) -> None:
        """After a stop, too."""
        self.router = RouterProcess(self._folder, self._variables, ready=False)
        until(lambda: self.router.process.events("listening") and self.router.probe("/ready") == 200, f"{self.id} is ready", within=180)
        self.client = Client.insecure(self.router.address)

    def stop_router(self) -> int:
        """SIGTERM; the exit status."""
        self.client.channel.close()
        return self.router.stop()

    def facts(self, path: str = "pod") -> Any:
        """What the pod says of itself or the mesh (`/mesh/v1/…`)."""
        return plain.get(f"http://127.0.0.1:{self.router.ports['probe']}/mesh/v1/{path}", timeout=PATIENCE).raise_for_status().json()

    def resident(self) -> set[str]:
        """Models that MLServer would serve, by its own index."""
        return self.rig.loaded()

    def loads(self) -> list[str]:
        """Models that MLServer loaded, one entry a load, by its log."""
        return re.findall(r"- Loaded model '([^']+)' successfully", self._server_log())

    def unloads(self) -> list[str]:
        return re.findall(r"- Unloaded all versions of model '([^']+)' successfully", self._server_log())

    def _server_log(self) -> str:
        path = self._folder / "rig" / "mlserver.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def logs(self) -> str:
        return f"--- {self.id}: router\n{self.router.process.tail(40)}\n--- MLServer\n{self._server_log()[-3000:]}"

    def end(self) -> None:
        if hasattr(self, "router"):
            self.stop_router()
        self.rig.close()


class Servers:
    """Pods of one mesh, and the models that were registered."""

    def __init__(self, pods: Sequence[ServerPod]) -> None:
        self.pods = pods

    def __getitem__(self, number: int) -> ServerPod:
        return self.pods[number]

    @property
    def addresses(self) -> list[str]:
        return [pod.router.address for pod in self.pods]

    def register(self, model: str, path: str, kind: str = "", *, through: int = 0, load: bool = False) -> str:
        """A model of the claim; a kind is that of its type, none is for a folder with settings of its own."""
        key = {"storage_params": {"type": "pvc", "name": CLAIM}, **({"model_type": {"name": kind}} if kind else {})}
        client = self.pods[through].client
        status = client.register(model, path, kind=f"mt:{kind}", key=json.dumps(key), load=load, sync=load)
        assert status.status == (Status.LOADED if load else Status.NOT_LOADED), status
        for pod in self.pods:
            until(lambda pod=pod: pod.client.status(model).status != Status.NOT_FOUND, f"{pod.id} knows {model}")  # type: ignore[misc] # default
        return model

    def holders(self, model: str) -> set[int]:
        """Pods whose MLServer has the model."""
        return {number for number, pod in enumerate(self.pods) if model in pod.resident()}

    def loads(self) -> Counter[str]:
        """Of each model, by the logs of all MLServers."""
        return Counter(model for pod in self.pods for model in pod.loads())

    def unloads(self) -> Counter[str]:
        return Counter(model for pod in self.pods for model in pod.unloads())

    def logs(self) -> str:
        return "\n".join(pod.logs() for pod in self.pods)


@contextmanager
def servers(environment: Path, folder: Path, claims: Path, store: str, size: int, *, service: str, capacity: int) -> Iterator[Servers]:
    """Pods for as long as the context lasts, all started at once.

    Args:
        environment: of MLServer.
        folder: takes logs and the files of the pods.
        claims: the folder with the claim `CLAIM`.
        store: value of KV_STORE.
        size: number of pods.
        service: name of the mesh.
        capacity: of each pod, in bytes.
    """
    pods = [ServerPod(number, environment, folder / f"pod-{number}", claims, store, service, capacity) for number in range(size)]
    with ThreadPoolExecutor(size) as workers:
        try:
            list(workers.map(ServerPod.start, pods))
            for pod in pods:
                until(lambda pod=pod: len(pod.facts("pods")["pods"]) == size, f"{pod.id} sees all")  # type: ignore[misc] # default
            yield Servers(pods)
        finally:
            list(workers.map(ServerPod.end, pods))
