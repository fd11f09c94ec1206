"""The pods of a mesh on this machine and the registry that they share: laid out, started, started anew, added, taken away."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mesh.core.errors import Conflict
from mesh.local import environments, ports, state
from mesh.local.kits import Kit, Wanted
from mesh.local.options import UpOptions
from mesh.local.pod import ALONE, PodPorts, PodSetup
from mesh.local.pods import LocalPod
from mesh.local.processes import Child, Say
from mesh.local.state import Context, DataFolder
from mesh.local.store import OwnEtcd

READY_POLL = 0.2

PATIENCE = 120.0
"""Seconds that a pod gets to take calls again before the next one is started anew."""


class Fleet:
    """All pods, in the order of their numbers.

    Args:
        storage_config: folder of the storage keys.
        router_ended: told whenever a router does not take calls any more.

    Attributes:
        alone: there is a single pod, whose registry is its own memory unless a store was named.
    """

    def __init__(self, options: UpOptions, folder: DataFolder, storage_config: Path, say: Say, router_ended: Callable[[], None]) -> None:
        self.options, self.folder = options, folder
        self.pods: list[LocalPod] = []
        self.etcd: OwnEtcd | None = None
        self.alone = True
        self._storage_config, self._say, self._router_ended = storage_config, say, router_ended
        self._reserved: list[socket.socket] = []
        self._setups: dict[tuple[str, str], PodSetup] = {}
        self._changing = asyncio.Lock()

    @property
    def kv_store(self) -> str:
        """The registry that pods share, as `KV_STORE` names it; empty while a single pod has it in memory."""
        return self.etcd.kv_store if self.etcd else self.options.store

    # Laid out

    def claim_ports(self, context: Context) -> None:
        """Makes sure of the clients' ports, which no other program can have from now on.

        Raises:
            Conflict: another process has one; the message names it.
        """
        options, other = self.options, state.current()
        mine = {options.grpc_port, options.rest_port}
        # Its router may be between two lives, and its ports free for the moment.
        if other and other.data != context.data and mine & {other.grpc_port, other.rest_port}:
            raise Conflict(_taken(next(iter(mine & {other.grpc_port, other.rest_port})), "--grpc-port and --rest-port"))
        for port, option in ((options.grpc_port, "--grpc-port"), (options.rest_port, "--rest-port")):
            if not ports.is_free(port):
                raise Conflict(_taken(port, option))
            # Its pods come and go: no other program can slip in among those that share it, nor while none of them lives.
            self._reserved.append(ports.reserve(port))

    def lay_out(self, kits: Sequence[Kit], *, alone: bool) -> None:
        """Who runs where.

        Args:
            kits: one a pod.
            alone: there is a single pod, which need not share its registry.

        Raises:
            OSError: the file system refuses.
            Failed: the environment `etcd` has none.
        """
        self.alone = alone
        if not alone:
            if not self.options.store:
                self._share_a_registry()
            self.folder.leave_models_of([f"pod-{number}" for number in range(len(kits))])
        for number, kit in enumerate(kits):
            self.pods.append(self._made(ALONE if alone else f"pod-{number}", kit))

    def _share_a_registry(self) -> None:
        port, peer_port = ports.choose(OwnEtcd.PORTS)
        environment = self.options.environments.get("etcd") or environments.find("etcd").path
        self.etcd = OwnEtcd(environment, self.folder, port, peer_port, self._say)
        self.etcd.wipe()

    def _made(self, name: str, kit: Kit, *, aside: bool = False) -> LocalPod:
        """The pod of this name, which has the same place and ports in each of its lives with the same runtime."""
        key = name, kit.plan.name
        setup = self._setups.get(key) or self._setup(name)
        self._setups[key] = setup
        setup.folder.prepare()
        setup = replace(setup, shared=None) if aside else setup
        return LocalPod(setup, kit, self._say, self._router_ended)

    def _setup(self, name: str) -> PodSetup:
        return PodSetup(
            name,
            "" if self.alone else f"{name}/",
            self.folder if self.alone else self.folder.of_pod(name),
            PodPorts(*ports.choose(PodPorts.count())),
            self._storage_config,
            self.kv_store,
            (self.options.grpc_port, self.options.rest_port),
        )

    # Running

    async def start(self) -> None:
        """Starts the registry and the pods. Failed if the registry does not start, or OSError."""
        if self.etcd:
            await self.etcd.start()
        for one in self.pods:
            await one.start(one.kit)

    async def widen(self) -> LocalPod:
        """Makes a mesh of one pod one of several: starts the registry that they share; answers the pod, which still serves.

        The caller adds pods and, when they take calls, ends the old one, which then is none of `pods`.

        Raises:
            Failed, OSError: there is no registry to share; nothing has changed then.
        """
        async with self._changing:
            if not self.options.store:
                self._share_a_registry()
                assert self.etcd
                try:
                    await self.etcd.start()
                except BaseException:
                    failed, self.etcd = self.etcd, None
                    await failed.stop()
                    raise
            (old,) = self.pods
            self.pods.clear()
            self.alone = False
            return old

    async def narrow(self, old: LocalPod) -> None:
        """Takes a `widen` back: the old pod is the only one again."""
        async with self._changing:
            for one in self.pods:
                await one.stop()
                await one.router.close()
            if self.etcd:
                await self.etcd.stop()
            self.etcd, self.alone, self.pods[:] = None, True, [old]

    async def restart(self, name: str, kit: Kit) -> None:
        """Starts a pod again, with another kit."""
        async with self._changing:
            one = self._named(name)
            self._router_ended()
            await one.stop()
            self._router_ended()
            await one.start(kit)

    async def add(self, kit: Kit, *, aside: bool = False) -> LocalPod:
        """Starts a pod more, under the lowest number that is free. OSError or Failed if what it needs cannot be made.

        Args:
            aside: it does not listen on the clients' ports.
        """
        async with self._changing:
            taken = {one.name for one in self.pods}
            number = next(number for number in itertools.count() if f"pod-{number}" not in taken)
            added = self._made(f"pod-{number}", kit, aside=aside)
            try:
                await asyncio.to_thread(self._clear_of_others, added)
                await added.start(kit)
            except BaseException:
                await added.router.close()
                raise
            self.pods.append(added)
            self.pods.sort(key=lambda one: int(one.name.rpartition("-")[2]))
            return added

    async def remove(self, name: str) -> None:
        """Has a pod hand over what it serves, and ends it."""
        async with self._changing:
            leaving = self._named(name)
            await leaving.stop()
            self.pods.remove(leaving)
            await leaving.router.close()

    async def look(self) -> bool:
        """Learns which pods take calls; answers whether all do."""
        await asyncio.gather(*(one.look() for one in self.pods))
        return all(one.ready for one in self.pods)

    async def until_ready(self, one: LocalPod, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Waits until a pod takes calls, for `PATIENCE` at most; answers whether it does."""
        for _ in range(int(PATIENCE / READY_POLL)):
            if one.ready or given_up():
                break
            await asyncio.sleep(READY_POLL)
        return one.ready

    async def stop(self) -> None:
        """Ends every process and gives the ports back."""
        await asyncio.gather(*(one.stop() for one in self.pods))
        if self.etcd:
            await self.etcd.stop()
        await asyncio.gather(*(one.router.close() for one in self.pods))
        for kept in self._reserved:
            kept.close()

    def processes(self) -> list[Child]:
        """All that are kept running."""
        return [*([self.etcd.child] if self.etcd else []), *(child for one in self.pods for child in one.children)]

    def _named(self, name: str) -> LocalPod:
        return next(one for one in self.pods if one.name == name)

    def _clear_of_others(self, added: LocalPod) -> None:
        """What a pod of another runtime left under this number: no adapter would ever clear it."""
        for entry in added.setup.folder.models.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()


def weigh(wanted: Iterable[Wanted]) -> list[str]:
    """A warning if the pods may want more memory than there is."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    planned = [(one.kit.plan, one.share.most) for one in wanted if one.kit]
    pods, memory = sum(most for _, most in planned), sum(plan.memory_request * most for plan, most in planned)
    if memory <= there:
        return []
    each = {plan.memory_request for plan, _ in planned}
    told = (
        f"with {_gib(each.pop())} each"
        if len(each) == 1
        else "with " + ", ".join(f"{_gib(p.memory_request)} of {p.name}" for p, _ in planned)
    )
    names = " or ".join(plan.name for plan, _ in planned)
    return [
        f"{pods} pods that plan {told} may want {_gib(memory)}, and this machine has {_gib(there)}: choose fewer (--pods), or apply a "
        f"ServingRuntime {names} with a smaller memory request"
    ]


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
