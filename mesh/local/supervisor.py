"""The process behind `mesh up`: the pods' processes, the registry they share, the documents, the controller, the control socket."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mesh.core.errors import Conflict, Failed, Malformed
from mesh.local import pod, ports, state, volumes
from mesh.local.controller import Controller
from mesh.local.documents import Documents
from mesh.local.pod import PodPorts, PodSetup
from mesh.local.pods import AnyRouter, LocalPod
from mesh.local.processes import Child, Say
from mesh.local.state import Context, DataFolder
from mesh.local.store import OwnEtcd
from mesh.manifests import runtimes
from mesh.manifests.bounds import passed_over
from mesh.manifests.documents import AnyRuntime, ClusterServingRuntime, InferenceService, PersistentVolumeClaim, Predictor, Secret
from mesh.manifests.documents import ServingRuntime as NamespacedRuntime
from mesh.manifests.parsing import Applied
from mesh.manifests.predictor import registration
from mesh.manifests.runtimes import PodPlan

_READY_POLL = 0.2

_RESTART_PATIENCE = 120.0
"""Seconds that a pod gets to take calls again before the next one is started anew."""


@dataclass(frozen=True)
class UpOptions:
    """What `mesh up` was told.

    Attributes:
        environment: of the model servers.
        storage_config: None means the data folder's own.
        store: the etcd that is used, as `KV_STORE` names it; empty means one of the mesh's own, or none for a single pod.
        etcd: environment with an etcd; needed for several pods without a store.
    """

    data: Path
    environment: Path
    claims: Mapping[str, Path] = field(default_factory=dict)
    storage_config: Path | None = None
    namespace: str = "modelmesh-serving"
    grpc_port: int = 8033
    rest_port: int = 8008
    pods: int = 1
    store: str = ""
    etcd: Path | None = None


class Supervisor:
    """One mesh on this machine, from `run` to the end of `run`."""

    def __init__(self, options: UpOptions, say: Say) -> None:
        self.options = options
        self.say = say
        self.folder = DataFolder.at(options.data)
        self.storage_config = (options.storage_config or self.folder.storage_config).expanduser().absolute()
        self.context = Context(os.getpid(), str(self.folder.root), str(self.folder.socket), options.grpc_port, options.rest_port)
        self.documents = Documents(self.folder.documents, options.namespace)
        self.started = time.time()
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self._replanned = asyncio.Event()
        self.pods: list[LocalPod] = []
        self.warnings: list[str] = []
        self._served = False
        self._reserved: list[socket.socket] = []
        # Set by run, in this order: a port of its own is chosen only once the data folder is ours.
        self.plan: PodPlan
        self.etcd: OwnEtcd | None = None
        self.router: AnyRouter
        self.controller: Controller

    async def run(self, control: Callable[[Supervisor], Coroutine[Any, Any, None]]) -> None:
        """Until `stopping` is set or a signal asks for the end; everything that was started has ended when it answers.

        Args:
            control: serves the control socket until it is cancelled.

        Raises:
            Conflict: the data folder or a port is another process's; the message names it.
            Malformed: the claims or the kept documents of the runtime make no pod.
            Failed: the file system refuses, or the mesh's own etcd does not start.
        """
        lock = self.folder.acquire(self.context)
        tasks: list[asyncio.Task[None]] = []
        try:
            self._claim_ports()
            self._prepare()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self.stopping.set)
            if not state.publish(self.context):
                self.say("mesh", f"another mesh stays the current one; name this one with --mesh {self.folder.root}")
            tasks = [asyncio.create_task(work) for work in (control(self), self.controller.run(), self._watch_ready(), self._keep_pods())]
            ending = asyncio.create_task(self.stopping.wait())
            done, _ = await asyncio.wait([*tasks, ending], return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            for task in done - {ending}:
                task.result()
        except OSError as error:
            raise Failed(f"the mesh cannot run: {error.strerror or error} ({error.filename or self.folder.root})") from error
        finally:
            self.stopping.set()
            await self._end(tasks)
            state.withdraw(self.context)
            lock.close()

    # Documents

    def apply(self, batch: list[Applied]) -> list[dict[str, str]]:
        """Keeps the documents and acts on them; all are checked before the first is kept.

        Raises:
            Malformed, Conflict: a document cannot be applied here; none was.
            Failed: the file system refused one; those before it are applied.
        """
        batch = self.documents.with_what_was_scaled(batch)
        self.documents.check(batch)
        self._check_secrets(batch)
        before = self._runtimes(())
        after = self._runtimes(batch)
        pod.local_plan(after)
        results = []
        for applied in batch:
            old = self.documents.held.get((applied.document.kind, applied.document.name))
            change = self.documents.put(applied)
            note = self._act(applied, old)
            results.append({"kind": applied.document.kind, "name": applied.document.name, "change": change, "note": note})
        if after != before:
            self._use_runtimes(after)
        return results

    def delete(self, kind: str, name: str) -> str:
        """Forgets a document and undoes it; answers a note for the user. Unknown if there is none."""
        runtime_kinds = (NamespacedRuntime.__name__, ClusterServingRuntime.__name__)
        if kind in runtime_kinds:
            pod.local_plan(self._runtimes((), without=(kind, name)))
        document = self.documents.remove(kind, name).document
        if isinstance(document, InferenceService | Predictor):
            self.controller.unwant(registration(document).alias)
        elif isinstance(document, PersistentVolumeClaim):
            return f"its files stay in {self.folder.pvc / name}"
        elif isinstance(document, Secret) and name == volumes.STORAGE_SECRET:
            volumes.write_keys(self.storage_config, {}, volumes.storage_keys(document, name))
        elif kind in runtime_kinds:
            self._use_runtimes(self._runtimes(()))
        return ""

    def services(self) -> list[Applied]:
        """Documents that are called by name."""
        return list(self.documents.of("InferenceService", "Predictor"))

    def runtimes_in_force(self) -> dict[str, AnyRuntime]:
        """Those of the user and the built-in ones."""
        return self._runtimes(())

    def _check_secrets(self, batch: list[Applied]) -> None:
        for applied in batch:
            if isinstance(applied.document, Secret) and applied.document.name == volumes.STORAGE_SECRET:
                volumes.storage_keys(applied.document, applied.origin)
                if self.options.storage_config:
                    raise Malformed(
                        f"{applied.origin}: Secret {volumes.STORAGE_SECRET}: the storage keys of this mesh are the files of "
                        f"{self.storage_config} (--storage-config); change them there"
                    )

    def _act(self, applied: Applied, old: Applied | None) -> str:
        document = applied.document
        if isinstance(document, InferenceService | Predictor):
            self.controller.want(registration(document, applied.origin))
            return passed_over(document)
        if isinstance(document, PersistentVolumeClaim):
            return f"its files lie in {volumes.make_claim(self.folder.pvc, document.name).resolve()}"
        if isinstance(document, Secret):
            if document.name != volumes.STORAGE_SECRET:
                return f"kept, but only a Secret named {volumes.STORAGE_SECRET} is used"
            before = volumes.storage_keys(old.document, old.origin) if old and isinstance(old.document, Secret) else {}
            volumes.write_keys(self.storage_config, volumes.storage_keys(document, applied.origin), before)
        elif document.name == pod.RUNTIME:
            return "the pod starts again with it if it differs"
        else:
            return f"kept; a local mesh runs {pod.RUNTIME} only, so services that need this runtime wait"
        return ""

    def _runtimes(self, batch: list[Applied] | tuple[()], without: tuple[str, str] | None = None) -> dict[str, AnyRuntime]:
        held = {key: applied for key, applied in self.documents.held.items() if key != without}
        held |= {(applied.document.kind, applied.document.name): applied for applied in batch}
        every = [*runtimes.built_in(), *held.values()]
        kinds = (NamespacedRuntime, ClusterServingRuntime)
        return runtimes.in_force([one.document for one in every if isinstance(one.document, kinds)])

    # The pods

    def _claim_ports(self) -> None:
        other = state.current()
        mine = {self.options.grpc_port, self.options.rest_port}
        # Its router may be between two lives, and its ports free for the moment.
        if other and other.data != self.context.data and mine & {other.grpc_port, other.rest_port}:
            raise Conflict(_taken(next(iter(mine & {other.grpc_port, other.rest_port})), "--grpc-port and --rest-port"))
        for port, option in ((self.options.grpc_port, "--grpc-port"), (self.options.rest_port, "--rest-port")):
            if not ports.is_free(port):
                raise Conflict(_taken(port, option))
            if self.options.pods > 1:
                # Held from now on: no other program can slip in among those that share it, nor while none of them lives.
                self._reserved.append(ports.reserve(port))

    def _prepare(self) -> None:
        self.folder.prepare()
        if not self.storage_config.is_dir():
            raise Malformed(f"--storage-config {self.storage_config}: there is no such folder")
        volumes.map_claims(self.folder.pvc, self.options.claims)
        self.documents.read(self.say)
        in_force = self._runtimes(())
        self.plan = pod.local_plan(in_force)
        self._lay_out()
        pod.write_rules(self.folder, in_force)
        self.router = AnyRouter(self.pods)
        self.controller = Controller(self.router, self.say)
        for applied in self.documents.of("PersistentVolumeClaim"):
            volumes.make_claim(self.folder.pvc, applied.document.name)
        for applied in self.services():
            document = applied.document
            if isinstance(document, InferenceService | Predictor):
                self.controller.want(registration(document, applied.origin))

    def _lay_out(self) -> None:
        """Who runs where: all ports that clients need not know come from one allocation."""
        options = self.options
        free = iter(ports.choose(PodPorts.count() * options.pods + OwnEtcd.PORTS))
        if options.pods > 1 and not options.store:
            if options.etcd is None:
                raise Malformed("several pods share a registry: an etcd environment or a store has to be given")
            self.etcd = OwnEtcd(options.etcd, self.folder, next(free), next(free), self.say)
            self.etcd.wipe()
        store = self.etcd.kv_store if self.etcd else options.store
        alone = options.pods == 1
        if not alone:
            self.folder.leave_models_of([f"pod-{number}" for number in range(options.pods)])
        for number in range(options.pods):
            name = pod.ALONE if alone else f"pod-{number}"
            folder = self.folder if alone else self.folder.of_pod(name)
            folder.prepare()
            allocated = PodPorts(*itertools.islice(free, PodPorts.count()))
            if alone:
                allocated = replace(allocated, grpc=options.grpc_port, rest=options.rest_port)
            setup = PodSetup(
                name,
                "" if alone else f"{name}/",
                folder,
                allocated,
                options.environment,
                self.storage_config,
                store,
                None if alone else (options.grpc_port, options.rest_port),
            )
            self.pods.append(LocalPod(setup, self.say, self._router_ended))

    def _router_ended(self) -> None:
        self.ready.clear()
        self._forget()

    def _forget(self) -> None:
        """A registry in memory ends with its router; one in etcd does not."""
        if not self.pods[0].setup.kv_store:
            self.controller.forget()

    def _use_runtimes(self, after: Mapping[str, AnyRuntime]) -> None:
        try:
            pod.write_rules(self.folder, after)
        except OSError as error:
            raise Failed(f"the routers' rules cannot be written to {self.folder.config}: {error.strerror}") from error
        plan = pod.local_plan(after)
        if plan != self.plan:
            self.plan = plan
            self._replanned.set()

    async def _keep_pods(self) -> None:
        """Starts the registry and the pods, and the pods again after their plan changed."""
        self._weigh()
        if self.etcd:
            await self.etcd.start()
        for one in self.pods:
            one.start(self.plan)
        while True:
            await self._replanned.wait()
            self._replanned.clear()
            self.say("mesh", f"the runtime {self.plan.name} changed; {'the pods start' if len(self.pods) > 1 else 'the pod starts'} again")
            self._weigh()
            await self._restart()

    async def _restart(self) -> None:
        """One after the other: capacity and labels are read once, at the start of each process, and the others serve meanwhile."""
        for one in self.pods:
            self.ready.clear()
            await one.stop()
            self._forget()
            one.start(self.plan)
            for _ in range(int(_RESTART_PATIENCE / _READY_POLL)):
                if one is self.pods[-1] or one.ready or self._replanned.is_set():
                    break
                await asyncio.sleep(_READY_POLL)

    def _weigh(self) -> None:
        """Says if the pods may want more memory than there is."""
        there, each = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), self.plan.memory_request
        self.warnings.clear()
        if each * len(self.pods) > there:
            self.warnings.append(
                f"{len(self.pods)} pods that plan with {_gib(each)} each may want {_gib(each * len(self.pods))}, and this machine has "
                f"{_gib(there)}: choose fewer (--pods), or apply a ServingRuntime {self.plan.name} with a smaller memory request"
            )
            self.say("mesh", self.warnings[-1])

    async def _watch_ready(self) -> None:
        """Tells when all routers take calls and know every document, again after each end of one."""
        while True:
            await asyncio.gather(*(one.look() for one in self.pods))
            if not self.ready.is_set() and all(one.ready for one in self.pods) and not self.controller.pending():
                self.ready.set()
                self._served = True
                self.say("mesh", "ready")
            await asyncio.sleep(_READY_POLL)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        if self.pods:
            self.say("mesh", "ending")
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task
        await asyncio.gather(*(one.stop() for one in self.pods))
        if self.etcd:
            await self.etcd.stop()
        await asyncio.gather(*(one.router.close() for one in self.pods))
        for kept in self._reserved:
            kept.close()

    def state(self) -> str:
        """`starting` until every pod takes calls for the first time, then `ready`; `degraded` while some do not, `stopping` at the end."""
        if self.stopping.is_set():
            return "stopping"
        if self.ready.is_set():
            return "ready"
        return "degraded" if self._served and any(one.ready for one in self.pods) else "starting"

    def processes(self) -> list[Child]:
        """All that are kept running."""
        return [*([self.etcd.child] if self.etcd else []), *(child for one in self.pods for child in one.children)]

    def status(self) -> dict[str, Any]:
        """For `mesh status`."""
        services = self.controller.services.values()
        described = [one.described() for one in self.pods]
        return {
            "state": self.state(),
            "pid": self.context.pid,
            "data": self.context.data,
            "namespace": self.options.namespace,
            "startedAt": int(self.started * 1000),
            "grpc": f"{ports.HOST}:{self.options.grpc_port}",
            "rest": f"http://{ports.HOST}:{self.options.rest_port}",
            "metrics": described[0]["metrics"],
            "probe": described[0]["probe"],
            "store": self.pods[0].setup.kv_store or "memory",
            "pods": described,
            "runtime": {"name": self.plan.name, "capacityBytes": self.plan.capacity},
            "services": {"total": len(services), "ready": sum(one.ready for one in services), "pending": self.controller.pending()},
            "processes": [child.described() for child in self.processes()],
            "claims": volumes.claims(self.folder.pvc),
            "storageConfig": str(self.storage_config),
            "warnings": self.warnings,
        }


def _gib(amount: int) -> str:
    return f"{amount / (1 << 30):.1f} GiB"


def _taken(port: int, option: str) -> str:
    other = state.current()
    if other and port in (other.grpc_port, other.rest_port):
        who = f"the mesh that runs already ({other.named()})"
        return f"port {port} is taken by {who}; end it with `mesh down`, or choose another with {option}"
    pid = ports.holder(port)
    who = f"process {pid}" if pid else "another process"
    return f"port {port} on {ports.HOST} is taken by {who}; end it, or choose another with {option}"
