"""Several real routers, each with a scripted model server, on one real etcd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.client import Client
from tests.support.mesh import RouterProcess, RuntimeProcess
from tests.support.runtime_state import Behaviour
from tests.support.waiting import until


@dataclass
class PodProcesses:
    """One pod of a cluster: router, model server, and a client of the router alone."""

    id: str
    folder: Path
    runtime: RuntimeProcess
    router: RouterProcess
    client: Client

    def facts(self, path: str = "pod") -> Any:
        """What the pod says of itself or the mesh (`/mesh/v1/…`)."""
        return httpx.get(f"http://127.0.0.1:{self.router.ports['probe']}/mesh/v1/{path}", timeout=10).raise_for_status().json()

    def kill(self) -> None:
        """As when the machine is lost: router and model server at once."""
        self.router.process.kill()
        self.runtime.kill()


@dataclass
class Cluster:
    """Pods of one mesh."""

    folder: Path
    store: str
    service: str
    environment: Mapping[str, str]
    behaviour: Behaviour
    pods: list[PodProcesses] = field(default_factory=list)

    def __getitem__(self, number: int) -> PodProcesses:
        return self.pods[number]

    def __len__(self) -> int:
        return len(self.pods)

    def add(self, count: int = 1, *, ready: bool = True, environment: Mapping[str, str] | None = None) -> list[PodProcesses]:
        """Starts further pods, all at once."""
        first = len(self.pods)
        with ThreadPoolExecutor(max(1, count)) as starters:
            made = list(starters.map(lambda number: self._start(number, ready, environment or {}), range(first, first + count)))
        self.pods += made
        if ready:
            self.await_all()
        return made

    def await_all(self) -> None:
        """Returns when each pod sees every other."""
        living = {pod.id for pod in self.pods if pod.router.process.returncode is None}
        for pod in self.pods:
            if pod.id in living:
                until(lambda pod=pod: {one["id"] for one in pod.facts("pods")["pods"]} == living, f"{pod.id} sees {living}")  # type: ignore[misc]

    def start(self, number: int) -> PodProcesses:
        """Starts a pod again that was killed or stopped, under its old name."""
        self.pods[number] = self._start(number, True, {})
        return self.pods[number]

    def _start(self, number: int, ready: bool, environment: Mapping[str, str]) -> PodProcesses:
        folder = self.folder / f"pod-{number}"
        folder.mkdir(exist_ok=True)
        name = f"{self.service}-7f9c4d5b6-pod{number:02}"
        runtime = RuntimeProcess(folder, self.behaviour)
        given = {
            **runtime.environment,
            "MM_SERVICE_NAME": self.service,
            "KV_STORE": self.store,
            "WKUBE_POD_NAME": name,
            "WKUBE_POD_IPADDR": "127.0.0.1",
            **self.environment,
            **environment,
        }
        try:
            router = RouterProcess(folder, given, ready=ready)
        except BaseException:
            runtime.stop()
            raise
        return PodProcesses(
            name[-12:], folder, runtime, router, Client.insecure(router.address) if ready else Client.insecure("127.0.0.1:1")
        )

    # Asked

    def loads(self, model: str | None = None) -> int:
        """Loads begun, on all pods."""
        return sum(pod.runtime.loads(model) for pod in self.pods)

    def holders(self, model: str) -> dict[str, int]:
        """Pods that the registry shows for a model, as the first living pod sees it, and since when."""
        living = next(pod for pod in self.pods if pod.router.process.returncode is None)
        return {copy["pod"]: copy["since_ms"] for copy in living.facts(f"models/{model}")["copies"]}

    def logs(self) -> str:
        return "\n".join(f"--- {pod.id}\n{pod.router.process.tail(40)}" for pod in self.pods)

    def stop(self) -> None:
        for pod in self.pods:
            pod.client.channel.close()
        with ThreadPoolExecutor(max(1, len(self.pods))) as enders:
            list(enders.map(lambda pod: (pod.router.stop(), pod.runtime.stop()), self.pods))


@contextmanager
def a_cluster(
    folder: Path,
    store: str,
    size: int,
    *,
    service: str,
    behaviour: Behaviour | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """Pods for as long as the context lasts.

    Args:
        folder: takes logs and journals.
        store: value of KV_STORE.
        size: number of pods.
        service: name of the mesh; meshes of one store need different ones.
        behaviour: script of each runtime.
        environment: of each router, beside what it needs.
    """
    cluster = Cluster(folder, store, service, environment or {}, behaviour or Behaviour())
    try:
        cluster.add(size)
        yield cluster
    finally:
        cluster.stop()
