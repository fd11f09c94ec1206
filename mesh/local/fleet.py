"""The pods of a mesh on this machine and the registry that they share: laid out, started, started anew, added, taken away."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mesh.core.errors import Conflict, Malformed
from mesh.local import pod, ports, state
from mesh.local.options import UpOptions
from mesh.local.pod import PodPorts, PodSetup
from mesh.local.pods import LocalPod
from mesh.local.processes import Child, Say
from mesh.local.state import Context, DataFolder
from mesh.local.store import OwnEtcd
from mesh.manifests.runtimes import PodPlan

READY_POLL = 0.2

PATIENCE = 120.0
"""Seconds that a pod gets to take calls again before the next one is started anew."""


class Fleet:
    """All pods, in the order of their numbers.

    Args:
        storage_config: folder of the storage keys.
        router_ended: told whenever a router does not take calls any more.

    Attributes:
        warnings: what is wrong with so many pods on this machine.
    """

    def __init__(self, options: UpOptions, folder: DataFolder, storage_config: Path, say: Say, router_ended: Callable[[], None]) -> None:
        self.options, self.folder = options, folder
        self.pods: list[LocalPod] = []
        self.etcd: OwnEtcd | None = None
        self.warnings: list[str] = []
        self._storage_config, self._say, self._router_ended = storage_config, say, router_ended
        self._reserved: list[socket.socket] = []
        self._setups: dict[int, PodSetup] = {}
        self._changing = asyncio.Lock()

    # Laid out

    def claim_ports(self, context: Context) -> None:
        """Makes sure of the clients' ports.

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
            if not options.alone:
                # Held from now on: no other program can slip in among those that share it, nor while none of them lives.
                self._reserved.append(ports.reserve(port))

    def lay_out(self) -> None:
        """Who runs where. OSError if the file system refuses."""
        options = self.options
        if not options.alone and not options.store:
            if options.etcd is None:
                raise Malformed("several pods share a registry: an etcd environment or a store has to be given")
            port, peer_port = ports.choose(OwnEtcd.PORTS)
            self.etcd = OwnEtcd(options.etcd, self.folder, port, peer_port, self._say)
            self.etcd.wipe()
        if not options.alone:
            self.folder.leave_models_of([f"pod-{number}" for number in range(options.most)])
        for number in range(options.pods):
            self.pods.append(self._made(number))

    def _made(self, number: int) -> LocalPod:
        """The pod of this number, which has the same place and ports in each of its lives."""
        setup = self._setups.get(number) or self._setup(number)
        self._setups[number] = setup
        setup.folder.prepare()
        return LocalPod(setup, self._say, self._router_ended)

    def _setup(self, number: int) -> PodSetup:
        options = self.options
        name = pod.ALONE if options.alone else f"pod-{number}"
        allocated = PodPorts(*ports.choose(PodPorts.count()))
        if options.alone:
            allocated = replace(allocated, grpc=options.grpc_port, rest=options.rest_port)
        return PodSetup(
            name,
            "" if options.alone else f"{name}/",
            self.folder if options.alone else self.folder.of_pod(name),
            allocated,
            options.environment,
            self._storage_config,
            self.etcd.kv_store if self.etcd else options.store,
            None if options.alone else (options.grpc_port, options.rest_port),
        )

    # Running

    async def start(self, plan: PodPlan) -> None:
        """Starts the registry and the pods. Failed if the registry does not start."""
        self.weigh(plan)
        if self.etcd:
            await self.etcd.start()
        for one in self.pods:
            one.start(plan)

    async def restart(self, plan: PodPlan, outdated: Callable[[], bool]) -> None:
        """One after the other: capacity and labels are read once, at the start of each process, and the others serve meanwhile.

        Args:
            outdated: whether the plan has changed again, so that nothing is worth waiting for.
        """
        async with self._changing:
            self.weigh(plan)
            for one in self.pods:
                self._router_ended()
                await one.stop()
                self._router_ended()
                one.start(plan)
                for _ in range(int(PATIENCE / READY_POLL)):
                    if one is self.pods[-1] or one.ready or outdated():
                        break
                    await asyncio.sleep(READY_POLL)

    async def add(self, plan: PodPlan) -> LocalPod:
        """Starts a pod more, under the lowest number that is free. OSError or Failed if the file system refuses."""
        async with self._changing:
            taken = {one.name for one in self.pods}
            number = next(number for number in itertools.count() if f"pod-{number}" not in taken)
            added = self._made(number)
            self.pods.append(added)
            self.pods.sort(key=lambda one: int(one.name.rpartition("-")[2]))
            added.start(plan)
            return added

    async def remove(self, name: str) -> None:
        """Has a pod hand over what it serves, and ends it."""
        async with self._changing:
            leaving = next(one for one in self.pods if one.name == name)
            await leaving.stop()
            self.pods.remove(leaving)
            await leaving.router.close()

    async def look(self) -> bool:
        """Learns which pods take calls; answers whether all do."""
        await asyncio.gather(*(one.look() for one in self.pods))
        return all(one.ready for one in self.pods)

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

    def weigh(self, plan: PodPlan) -> None:
        """Says if the pods may want more memory than there is."""
        there, each, most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), plan.memory_request, self.options.most
        self.warnings.clear()
        if each * most > there:
            self.warnings.append(
                f"{most} pods that plan with {_gib(each)} each may want {_gib(each * most)}, and this machine has "
                f"{_gib(there)}: choose fewer (--pods), or apply a ServingRuntime {plan.name} with a smaller memory request"
            )
            self._say("mesh", self.warnings[-1])


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
