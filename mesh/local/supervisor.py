"""The process behind `mesh up`: one pod's processes, the documents, the controller, and the control socket."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.core.errors import Conflict, Failed, Malformed
from mesh.local import pod, ports, state, volumes
from mesh.local.controller import Controller
from mesh.local.documents import Documents
from mesh.local.pod import PodPorts, PodSetup
from mesh.local.processes import Child, Say
from mesh.local.router_client import RouterClient
from mesh.local.state import Context, DataFolder
from mesh.manifests import runtimes
from mesh.manifests.documents import AnyRuntime, ClusterServingRuntime, InferenceService, PersistentVolumeClaim, Predictor, Secret
from mesh.manifests.documents import ServingRuntime as NamespacedRuntime
from mesh.manifests.parsing import Applied
from mesh.manifests.predictor import registration
from mesh.manifests.runtimes import PodPlan

_READY_POLL = 0.2


@dataclass(frozen=True)
class UpOptions:
    """What `mesh up` was told. `storage_config` None means the data folder's own."""

    data: Path
    environment: Path
    claims: Mapping[str, Path] = field(default_factory=dict)
    storage_config: Path | None = None
    namespace: str = "modelmesh-serving"
    grpc_port: int = 8033
    rest_port: int = 8008


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
        # Set by run, in this order: a port of its own is chosen only once the data folder is ours.
        self.setup: PodSetup
        self.plan: PodPlan
        self.router: RouterClient
        self.controller: Controller
        self.children: list[Child] = []

    async def run(self, control: Callable[[Supervisor], Coroutine[Any, Any, None]]) -> None:
        """Until `stopping` is set or a signal asks for the end; everything that was started has ended when it answers.

        Args:
            control: serves the control socket until it is cancelled.

        Raises:
            Conflict: the data folder or a port is another process's; the message names it.
            Malformed: the claims or the kept documents of the runtime make no pod.
            Failed: the file system refuses.
        """
        lock = self.folder.acquire(self.context)
        tasks: list[asyncio.Task[None]] = []
        try:
            self._claim_ports()
            self._prepare()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self.stopping.set)
            self._start_pod()
            if not state.publish(self.context):
                self.say("mesh", f"another mesh stays the current one; name this one with --mesh {self.folder.root}")
            tasks = [asyncio.create_task(work) for work in (control(self), self.controller.run(), self._watch_ready(), self._restart())]
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
        elif isinstance(document, PersistentVolumeClaim):
            return f"its files lie in {volumes.make_claim(self.folder.pvc, document.name).resolve()}"
        elif isinstance(document, Secret):
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

    # The pod

    def _claim_ports(self) -> None:
        other = state.current()
        mine = {self.options.grpc_port, self.options.rest_port}
        # Its router may be between two lives, and its ports free for the moment.
        if other and other.data != self.context.data and mine & {other.grpc_port, other.rest_port}:
            raise Conflict(_taken(next(iter(mine & {other.grpc_port, other.rest_port})), "--grpc-port and --rest-port"))
        for port, option in ((self.options.grpc_port, "--grpc-port"), (self.options.rest_port, "--rest-port")):
            if not ports.is_free(port):
                raise Conflict(_taken(port, option))

    def _prepare(self) -> None:
        self.folder.prepare()
        if not self.storage_config.is_dir():
            raise Malformed(f"--storage-config {self.storage_config}: there is no such folder")
        volumes.map_claims(self.folder.pvc, self.options.claims)
        self.documents.read(self.say)
        in_force = self._runtimes(())
        self.plan = pod.local_plan(in_force)
        allocated = PodPorts.allocate(self.options.grpc_port, self.options.rest_port)
        self.setup = PodSetup(self.folder, allocated, self.options.environment, self.storage_config)
        self.setup.write_rules(in_force)
        self.router = RouterClient(allocated.grpc, allocated.probe)
        self.controller = Controller(self.router, self.say)
        for applied in self.documents.of("PersistentVolumeClaim"):
            volumes.make_claim(self.folder.pvc, applied.document.name)
        for applied in self.services():
            document = applied.document
            if isinstance(document, InferenceService | Predictor):
                self.controller.want(registration(document, applied.origin))

    def _start_pod(self) -> None:
        self.children = [Child(command, self.say) for command in self.setup.commands(self.plan)]
        self.children[-1].on_exit = self._router_ended
        for child in self.children:
            child.start()

    def _router_ended(self) -> None:
        """Its registry was in its memory."""
        self.ready.clear()
        self.controller.forget()

    def _use_runtimes(self, after: Mapping[str, AnyRuntime]) -> None:
        try:
            self.setup.write_rules(after)
        except OSError as error:
            raise Failed(f"the router's rules cannot be written to {self.folder.config}: {error.strerror}") from error
        plan = pod.local_plan(after)
        if plan != self.plan:
            self.plan = plan
            self._replanned.set()

    async def _restart(self) -> None:
        """Starts the pod again after its plan changed: capacity and labels are read once, at the start of each process."""
        while True:
            await self._replanned.wait()
            self._replanned.clear()
            self.say("mesh", f"the runtime {self.plan.name} changed; the pod starts again")
            self.ready.clear()
            await self._stop_pod()
            self.controller.forget()
            self._start_pod()

    async def _watch_ready(self) -> None:
        """Tells when the router takes calls and knows every document, again after each of its ends."""
        while True:
            if not self.ready.is_set() and await self.router.ready() and not self.controller.pending():
                self.ready.set()
                self.say("mesh", "ready")
            await asyncio.sleep(_READY_POLL)

    async def _stop_pod(self) -> None:
        """The router first, so that its last calls are answered; then what served them."""
        *servers, router = self.children
        await router.stop()
        await asyncio.gather(*(child.stop() for child in servers))

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        if self.children:
            self.say("mesh", "ending")
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task
        if self.children:
            await self._stop_pod()
            await self.router.close()

    def status(self) -> dict[str, Any]:
        """For `mesh status`."""
        services = self.controller.services.values()
        return {
            "state": "stopping" if self.stopping.is_set() else "ready" if self.ready.is_set() else "starting",
            "pid": self.context.pid,
            "data": self.context.data,
            "namespace": self.options.namespace,
            "startedAt": int(self.started * 1000),
            "grpc": f"{ports.HOST}:{self.options.grpc_port}",
            "rest": f"http://{ports.HOST}:{self.options.rest_port}",
            "metrics": f"http://{ports.HOST}:{self.setup.ports.metrics}/metrics",
            "probe": f"http://{ports.HOST}:{self.setup.ports.probe}",
            "runtime": {"name": self.plan.name, "capacityBytes": self.plan.capacity},
            "services": {"total": len(services), "ready": sum(one.ready for one in services), "pending": self.controller.pending()},
            "processes": [child.described() for child in self.children],
            "claims": volumes.claims(self.folder.pvc),
            "storageConfig": str(self.storage_config),
        }


def _taken(port: int, option: str) -> str:
    other = state.current()
    if other and port in (other.grpc_port, other.rest_port):
        who = f"the mesh that runs already ({other.named()})"
        return f"port {port} is taken by {who}; end it with `mesh down`, or choose another with {option}"
    pid = ports.holder(port)
    who = f"process {pid}" if pid else "another process"
    return f"port {port} on {ports.HOST} is taken by {who}; end it, or choose another with {option}"
