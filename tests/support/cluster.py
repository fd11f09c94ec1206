"""Several real routers, each with a scripted model server, on one real etcd."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.support.client import Client
from tests.support.http import plain
from tests.support.mesh import RouterProcess, RuntimeProcess
from tests.support.runtime_state import Behaviour
from tests.support.waiting import until

FOLLOWING_LOAD = {"MESH_RATE_INTERVAL_MS": "UNSET"}
"""Variables of routers after which copies follow their load as they do outside of tests."""

Connect = Callable[[RouterProcess], Client]


def chosen_places(size: int) -> dict[str, str]:
    """A variable of routers after which a model's type says where it may be.

    `on-N` is for pod N alone, `off-N` for all pods but that one, `nowhere` for none, any other type for all.
    """
    types = {f"{where}-{number}": {"required": [f"{where}-{number}"]} for where in ("on", "off") for number in range(size)}
    return {"MM_TYPE_CONSTRAINTS": json.dumps({"nowhere": {"required": ["no-pod"]}, **types})}


@dataclass(frozen=True)
class Special:
    """What sets one pod apart.

    Attributes:
        behaviour: script of its runtime; None is that of all.
        environment: of its router, beside that of all.
    """

    behaviour: Behaviour | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


ORDINARY = Special()
MOST = 10
"""Pods of a cluster that have labels of their own."""


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
        return plain.get(f"http://127.0.0.1:{self.router.ports['probe']}/mesh/v1/{path}", timeout=10).raise_for_status().json()

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
    separate: bool = False
    connect: Connect = field(default=lambda router: Client.insecure(router.address))
    pods: list[PodProcesses] = field(default_factory=list)

    def __getitem__(self, number: int) -> PodProcesses:
        return self.pods[number]

    def __len__(self) -> int:
        return len(self.pods)

    def add(
        self, count: int = 1, *, ready: bool = True, environment: Mapping[str, str] | None = None, each: Sequence[Special] = ()
    ) -> list[PodProcesses]:
        """Starts further pods, all at once; `each` has what sets the first ones of them apart."""
        first = len(self.pods)
        specials = [*each, *[ORDINARY] * (count - len(each))]
        specials = [replace(one, environment={**(environment or {}), **one.environment}) for one in specials]
        with ThreadPoolExecutor(max(1, count)) as starters:
            made = list(starters.map(lambda number: self._start(number, ready, specials[number - first]), range(first, first + count)))
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

    def start(self, number: int, special: Special = ORDINARY) -> PodProcesses:
        """Starts a pod again that was killed or stopped, under its old name."""
        self.pods[number] = self._start(number, True, special)
        return self.pods[number]

    def _start(self, number: int, ready: bool, special: Special) -> PodProcesses:
        folder = self.folder / f"pod-{number}"
        folder.mkdir(exist_ok=True)
        name = f"{self.service}-7f9c4d5b6-pod{number:02}"
        labels = [f"on-{number}", *(f"off-{other}" for other in range(MOST) if other != number)]
        runtime = RuntimeProcess(folder, special.behaviour or self.behaviour, separate=self.separate)
        given = {
            **runtime.environment,
            "MM_SERVICE_NAME": self.service,
            "KV_STORE": self.store,
            "WKUBE_POD_NAME": name,
            "WKUBE_POD_IPADDR": "127.0.0.1",
            "MM_LABELS": ",".join(labels),
            **self.environment,
            **special.environment,
        }
        try:
            router = RouterProcess(folder, given, ready=ready)
        except BaseException:
            runtime.stop()
            raise
        return PodProcesses(name[-12:], folder, runtime, router, self.connect(router) if ready else Client.insecure("127.0.0.1:1"))

    # Asked

    def loads(self, model: str | None = None) -> int:
        """Loads begun, on all pods."""
        return sum(pod.runtime.loads(model) for pod in self.pods)

    def holders(self, model: str) -> dict[str, int]:
        """Pods that have a model or load it, as the first living pod sees it, and since when."""
        living = next(pod for pod in self.pods if pod.router.process.returncode is None)
        copies = living.facts(f"models/{model}")["copies"]
        return {copy["pod"]: copy["since_ms"] for copy in copies if copy["state"] not in ("draining", "unloading")}

    def held(self, model: str) -> set[int]:
        """Numbers of the pods that have a model or load it."""
        numbers = {pod.id: number for number, pod in enumerate(self.pods)}
        return {numbers[pod] for pod in self.holders(model)}

    def calls(self, model: str, method: str = "predict") -> list[int]:
        """Calls of a model that began on each runtime."""
        return [len(pod.runtime.seen(method, model)) for pod in self.pods]

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
    each: Sequence[Special] = (),
    separate: bool = False,
    connect: Connect | None = None,
) -> Iterator[Cluster]:
    """Pods for as long as the context lasts.

    Args:
        folder: takes logs and journals.
        store: value of KV_STORE.
        size: number of pods.
        service: name of the mesh; meshes of one store need different ones.
        behaviour: script of each runtime.
        environment: of each router, beside what it needs.
        each: what sets the first pods apart.
        separate: whether runtimes serve inference on ports of their own.
        connect: makes the client of a pod; without it they talk plaintext.
    """
    cluster = Cluster(folder, store, service, environment or {}, behaviour or Behaviour(), separate)
    cluster.connect = connect or cluster.connect
    try:
        cluster.add(size, each=each)
        yield cluster
    finally:
        cluster.stop()
