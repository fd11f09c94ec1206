"""The process behind `mesh up`: the pods' processes, the registry they share, the documents, the controller, the control socket."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from mesh.core.errors import Failed, Malformed
from mesh.core.ids import AliasId
from mesh.local import pod, policies, ports, state, volumes
from mesh.local.controller import Controller
from mesh.local.crew import Crew
from mesh.local.documents import Documents
from mesh.local.fleet import READY_POLL, Fleet, weigh
from mesh.local.history import History
from mesh.local.images import Images
from mesh.local.in_force import KINDS, InForce, kits_at_start, several
from mesh.local.kits import Wanted
from mesh.local.options import UpOptions
from mesh.local.pods import AnyRouter, LocalPod
from mesh.local.policies import Policies
from mesh.local.processes import Say
from mesh.local.scaler import Scaler
from mesh.local.state import Context, DataFolder
from mesh.manifests.bounds import passed_over
from mesh.manifests.documents import AnyRuntime, InferenceService, PersistentVolumeClaim, Predictor, Secret, TrafficPolicy
from mesh.manifests.parsing import Applied
from mesh.manifests.runtimes import labels, supports

SERVICES = (InferenceService, Predictor)
"""Kinds of documents that are called by name."""


class Supervisor:
    """One mesh on this machine, from `run` to the end of `run`."""

    def __init__(self, options: UpOptions, say: Say) -> None:
        self.options = options
        self.say = say
        self.folder = DataFolder.at(options.data)
        self.storage_config = (options.storage_config or self.folder.storage_config).expanduser().absolute()
        self.context = Context(os.getpid(), str(self.folder.root), str(self.folder.socket), options.grpc_port, options.rest_port)
        self.documents = Documents(self.folder.documents, options.namespace)
        self.history = History(self.folder.documents / ".history", say, lambda: int(time.time() * 1000))
        self.started = time.time()
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.fleet = Fleet(options, self.folder, self.storage_config, say, self._router_ended)
        self._served = False
        self._offered: list[tuple[str, ...]] = []
        # Set by run, in this order: a port of its own is chosen only once the data folder is ours.
        self.runtimes: InForce
        self.router: AnyRouter
        self.controller: Controller
        self.policies: Policies
        self.crew: Crew

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
            self.fleet.claim_ports(self.context)
            self._prepare()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self.stopping.set)
            if not state.publish(self.context):
                self.say("mesh", f"another mesh stays the current one; name this one with --mesh {self.folder.root}")
            tasks = [
                asyncio.create_task(work)
                for work in (
                    control(self),
                    self.controller.run(),
                    self.policies.run(),
                    self._watch_ready(),
                    self._keep_pods(),
                    self._follow(),
                )
            ]
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

    @property
    def pods(self) -> list[LocalPod]:
        """The pods that there are."""
        return self.fleet.pods

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
        policies.check(batch, self.documents.of("TrafficPolicy"))
        self.runtimes.check(one for one in batch if isinstance(one.document, KINDS))
        before = self.runtimes.all()
        results = []
        for applied in batch:
            old = self.documents.held.get((applied.document.kind, applied.document.name))
            change = self.documents.put(applied)
            if isinstance(applied.document, SERVICES):
                self.history.note(applied, old)
            note = self._act(applied, old)
            results.append({"kind": applied.document.kind, "name": applied.document.name, "change": change, "note": note})
        if any(isinstance(one.document, KINDS) for one in batch):
            self.use_runtimes(rules_changed=self.runtimes.all() != before)
            for result, applied in zip(results, batch, strict=True):
                result["note"] = self._note(applied) if isinstance(applied.document, KINDS) else result["note"]
        return results

    def delete(self, kind: str, name: str) -> str:
        """Forgets a document and undoes it; answers a note for the user. Unknown if there is none."""
        runtime_kinds = [one.__name__ for one in KINDS]
        if kind in runtime_kinds:
            self.documents.get(kind, name)
            self.runtimes.check((), without=(kind, name))
        applied = self.documents.remove(kind, name)
        document = applied.document
        if isinstance(document, SERVICES):
            self.history.forget(applied)
            self.controller.unwant(AliasId(name))
        elif isinstance(document, TrafficPolicy):
            self.policies.unwant(document.service)
        elif isinstance(document, PersistentVolumeClaim):
            return f"its files stay in {self.folder.pvc / name}"
        elif isinstance(document, Secret) and name == volumes.STORAGE_SECRET:
            volumes.write_keys(self.storage_config, {}, volumes.storage_keys(document, name))
        elif kind in runtime_kinds:
            self.use_runtimes()
            return "" if name in self.crew.wanted else "its pods hand over what they serve, and end"
        return ""

    def services(self) -> list[Applied]:
        """Documents that are called by name."""
        return list(self.documents.of("InferenceService", "Predictor"))

    def runtimes_in_force(self) -> dict[str, AnyRuntime]:
        """Those of the user and the built-in ones."""
        return self.runtimes.all()

    def use_runtimes(self, *, rules_changed: bool = True) -> None:
        """Acts on other documents of runtimes or other images. Failed if the file system refuses."""
        try:
            if rules_changed:
                self._write_rules()
        except OSError as error:
            raise Failed(f"the routers' rules cannot be written to {self.folder.config}: {error.strerror}") from error
        wanted = self.runtimes.wanted()
        for warning in weigh(wanted.values()):
            self.say("mesh", warning)
        self.crew.want(wanted)

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
        if isinstance(document, SERVICES):
            self.controller.want(self.history.registration(applied))
            return passed_over(document)
        if isinstance(document, TrafficPolicy):
            self.policies.want(document)
        if isinstance(document, PersistentVolumeClaim):
            return f"its files lie in {volumes.make_claim(self.folder.pvc, document.name).resolve()}"
        if isinstance(document, Secret):
            if document.name != volumes.STORAGE_SECRET:
                return f"kept, but only a Secret named {volumes.STORAGE_SECRET} is used"
            before = volumes.storage_keys(old.document, old.origin) if old and isinstance(old.document, Secret) else {}
            volumes.write_keys(self.storage_config, volumes.storage_keys(document, applied.origin), before)
        return ""

    def _note(self, applied: Applied) -> str:
        """What a runtime's document means here; a line each."""
        # One that is applied unchanged is not the one that is kept.
        document = self.documents.get(applied.document.kind, applied.document.name).document
        if not isinstance(document, KINDS):
            return ""
        if self.runtimes.all().get(document.name) is not document:
            why = "disabled" if document.spec.disabled else "multiModel is not true" if not document.spec.multi_model else ""
            return f"kept; {why or 'a ServingRuntime of the same name goes before it'}, so no pods are started for it"
        one = self.crew.wanted[document.name]
        if one.kit is None:
            return f"kept, but no pods can be started: {one.missing}"
        there = [pod_.kit for pod_ in self.pods if pod_.runtime == document.name]
        pods = "1 pod" if one.share.least == 1 else f"{one.share.least} pods"
        if not there:
            told = [f"{pods} of it {'start' if one.share.least != 1 else 'starts'}"]
        elif any(kit != one.kit for kit in there):
            told = ["the pod starts again with it" if self.fleet.alone else "its pods are replaced one after another"]
        else:
            told = []
        return "\n".join([*told, *filter(None, [one.warning]), *one.notes])

    # The pods

    def _prepare(self) -> None:
        self.folder.prepare()
        if not self.storage_config.is_dir():
            raise Malformed(f"--storage-config {self.storage_config}: there is no such folder")
        volumes.map_claims(self.folder.pvc, self.options.claims)
        self.documents.read(self.say)
        self.runtimes = InForce(self.options, self.documents, Images(self.folder.images, self.options.images))
        self.runtimes.check(())
        wanted = self.runtimes.wanted()
        self._lay_out(wanted)
        self._write_rules()
        self.router = AnyRouter(self.pods)
        self.controller = Controller(self.router, self.say, self._supported)
        self.crew = Crew(self.fleet, self.say, lambda: not self.controller.pending(), self.controller.forget)
        self.crew.want(wanted)
        for applied in self.documents.of("PersistentVolumeClaim"):
            volumes.make_claim(self.folder.pvc, applied.document.name)
        self.history.read()
        for applied in self.services():
            self.controller.want(self.history.registration(applied))
        self.policies = Policies(self.router, self.say)
        for applied in self.documents.of("TrafficPolicy"):
            if isinstance(applied.document, TrafficPolicy):
                self.policies.want(applied.document)

    def _lay_out(self, wanted: Mapping[str, Wanted]) -> None:
        kits = kits_at_start(wanted)
        if not kits:
            environments = sorted({one.kit.environment.name for one in wanted.values() if one.kit})
            raise Failed(f"no pod can be started: run `mesh environment make {' '.join(environments)}` first")
        self.fleet.lay_out(kits, alone=not several(wanted))
        for warning in weigh(wanted.values()):
            self.say("mesh", warning)

    def _write_rules(self) -> None:
        """For the routers. Raises OSError."""
        every = self.runtimes.all()
        pod.write_rules(self.folder, every)
        self._offered = [labels(name, document.spec) for name, document in every.items()]

    def _supported(self, model_type: str) -> bool:
        return any(supports(offered, model_type) for offered in self._offered)

    def _router_ended(self) -> None:
        self.ready.clear()
        # A registry in memory ends with its router; one in etcd does not.
        if not self.fleet.kv_store:
            self.controller.forget()

    async def _keep_pods(self) -> None:
        """Starts the registry and the first pods, and keeps the pods those that are wanted."""
        await self.fleet.start()
        await self.crew.run()

    async def _follow(self) -> None:
        """Follows the numbers of pods that are wanted, where that is wished."""
        await Scaler(self.fleet, lambda: self.crew.wanted, self.say).keep()

    async def _watch_ready(self) -> None:
        """Tells when all routers take calls and know every document, again after each end of one."""
        while True:
            if await self.fleet.look() and not self.ready.is_set() and not self.controller.pending():
                self.ready.set()
                self._served = True
                self.say("mesh", "ready")
            await asyncio.sleep(READY_POLL)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        if self.pods:
            self.say("mesh", "ending")
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task
        await self.fleet.stop()

    def state(self) -> str:
        """`starting` until every pod takes calls for the first time, then `ready`; `degraded` while some do not, `stopping` at the end."""
        if self.stopping.is_set():
            return "stopping"
        if self.ready.is_set():
            return "ready"
        return "degraded" if self._served and any(one.ready for one in self.pods) else "starting"

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
            "metrics": described[0]["metrics"] if described else "",
            "probe": described[0]["probe"] if described else "",
            "store": self.fleet.kv_store or "memory",
            "pods": described,
            "runtimes": self._runtimes_told(),
            "services": {
                "total": len(services),
                "ready": sum(one.ready for one in services),
                "pending": self.controller.pending(),
                "trouble": self.controller.trouble,
            },
            "processes": [child.described() for child in self.fleet.processes()],
            "claims": volumes.claims(self.folder.pvc),
            "storageConfig": str(self.storage_config),
            "warnings": [*weigh(self.crew.wanted.values()), *self._whys()],
        }

    def _runtimes_told(self) -> list[dict[str, Any]]:
        of = [one.runtime for one in self.pods]
        wanted = self.crew.wanted
        return [
            {
                "name": name,
                "pods": of.count(name),
                "capacityBytes": one.kit.plan.capacity if one.kit else None,
                "least": one.share.least,
                "most": one.share.most,
                "whyNot": self.crew.why_not(name),
            }
            for name, one in wanted.items()
        ]

    def _whys(self) -> list[str]:
        told = [f"{name}: {why}" for name in self.crew.wanted if (why := self.crew.why_not(name))]
        return told + [f"{name}: {one.warning}" for name, one in self.crew.wanted.items() if one.warning]
