"""The pods of a mesh on this machine, each with its processes; and the router of whichever of them lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from mesh.core.errors import MeshError, PeerUnavailable
from mesh.core.explaining.status import AliasStatus, TrafficStatus
from mesh.core.ids import AliasId
from mesh.core.registry.reconciliation import DropAlias, PointAlias
from mesh.local.kits import Kit
from mesh.local.pod import PodSetup
from mesh.local.ports import HOST
from mesh.local.processes import Child, Say
from mesh.local.router_client import RouterClient

T = TypeVar("T")

_LONGEST_WORDS = 500
"""Characters of what a router said at its end that are shown."""

_SHORT = 2.0
"""Seconds that a pod gets to tell its own figures; what others know of it is shown then."""


class LocalPod:
    """One pod: processes that are kept running.

    Attributes:
        kit: what it is made of; changed by `start`.
        ready: its router takes calls, as far as was seen.
        served: it took calls since it was started.
        children: model server, adapter or puller, router; empty before `start`.
    """

    def __init__(self, setup: PodSetup, kit: Kit, say: Say, router_ended: Callable[[], None]) -> None:
        self.setup, self.kit = setup, kit
        self.router = RouterClient(setup.ports.grpc, setup.ports.probe)
        self.ready = self.served = False
        self.children: list[Child] = []
        self._say = say
        self._router_ended = router_ended

    @property
    def name(self) -> str:
        """Its name, which is also its instance id."""
        return self.setup.name

    @property
    def runtime(self) -> str:
        """The name of its runtime."""
        return self.kit.plan.name

    async def start(self, kit: Kit) -> None:
        """Starts its processes. Failed or OSError if what they need cannot be made; none of them runs then."""
        await asyncio.to_thread(self.setup.prepare, kit)
        commands = await asyncio.to_thread(self.setup.commands, kit)
        self.kit, self.served = kit, False
        self.children = [Child(command, self._say) for command in commands]
        self.children[-1].on_exit = self._ended
        for child in self.children:
            child.start()

    async def stop(self) -> None:
        """The router first, so that its last calls are answered; then what served them."""
        self.ready = False
        if self.children:
            *servers, router = self.children
            await router.stop()
            await asyncio.gather(*(child.stop() for child in servers))

    async def look(self) -> None:
        """Learns whether it takes calls, unless it is known to."""
        if not self.ready:
            self.ready = await self.router.ready()
            self.served |= self.ready

    def state(self) -> str:
        """`ready`; `impaired` if its router takes calls but another process is down; `starting`, `restarting`, `stopped`."""
        states = {child.state for child in self.children}
        if self.ready:
            return "ready" if states == {"running"} else "impaired"
        return "stopped" if states <= {"stopped", "stopping"} else "restarting" if "waiting" in states else "starting"

    def last_words(self) -> str:
        """Why it does not take calls: what its router said at its end, or which other process ends; empty if it does, or none ended."""
        ended = [child for child in self.children if child.restarts]
        if self.ready or not ended:
            return ""
        if ended[-1] is self.children[-1]:
            with suppress(OSError):
                return self.setup.termination.read_text(encoding="utf-8", errors="replace").strip()[:_LONGEST_WORDS]
        process = ended[0].described()
        return f"{process['name']} ended, {process['lastExit']}, and was started {process['restarts']} times again (log: {process['log']})"

    def described(self) -> dict[str, Any]:
        """For `mesh status`: where to find it."""
        numbers = self.setup.ports
        return {
            "name": self.name,
            "state": self.state(),
            "runtime": self.runtime,
            "grpc": f"{HOST}:{numbers.grpc}",
            "rest": f"http://{HOST}:{numbers.rest}",
            "peer": f"{HOST}:{numbers.peer}",
            "metrics": f"http://{HOST}:{numbers.metrics}/metrics",
            "probe": f"http://{HOST}:{numbers.probe}",
        }

    def _ended(self) -> None:
        self.ready = False
        self._router_ended()


class AnyRouter:
    """The router of any pod that lives: the one that answered last, then the others. All of them know the same registry.

    Every method raises `PeerUnavailable` if none answers.
    """

    def __init__(self, pods: Sequence[LocalPod]) -> None:
        self._pods = pods
        self._latest: LocalPod | None = None

    async def set_alias(self, order: PointAlias, *, retry: bool) -> AliasStatus:
        """As `RouterClient.set_alias`; doing it twice is doing it once."""
        return await self._ask(lambda router: router.set_alias(order, retry=retry))

    async def delete_alias(self, order: DropAlias) -> None:
        """As `RouterClient.delete_alias`."""
        await self._ask(lambda router: router.delete_alias(order))

    async def alias(self, alias: AliasId) -> AliasStatus:
        """As `RouterClient.alias`."""
        return await self._ask(lambda router: router.alias(alias))

    async def traffic(self, alias: AliasId) -> TrafficStatus | None:
        """As `RouterClient.traffic`."""
        return await self._ask(lambda router: router.traffic(alias))

    async def set_policy(self, alias: AliasId, policy: Mapping[str, Any], owner: str) -> TrafficStatus:
        """As `RouterClient.set_policy`; doing it twice is doing it once."""
        return await self._ask(lambda router: router.set_policy(alias, policy, owner))

    async def details(self, path: str, params: dict[str, str]) -> Any:
        """As `RouterClient.details`."""
        return await self._ask(lambda router: router.details(path, params))

    async def _ask(self, call: Callable[[RouterClient], Awaitable[T]]) -> T:
        # Those that take calls come first: of the others one may be just alive enough to keep a caller waiting.
        failure = PeerUnavailable("the mesh has no pod")
        for pod in sorted(self._pods, key=lambda pod: (not pod.ready, pod is not self._latest)):
            try:
                answer = await call(pod.router)
            except PeerUnavailable as error:
                failure = error
            else:
                self._latest = pod
                return answer
        raise failure


async def ask_each(pods: Sequence[LocalPod], path: str, params: dict[str, str]) -> dict[str, Any]:
    """What every pod that takes calls tells at `/mesh/v1/<path>`, by pod; those that tell nothing, or not soon, are left out.

    Pods that did not take calls when they were last looked at are looked at again: what is told of them is true now.
    Those that come while the others are asked are not; one that is taken away then tells nothing.
    """
    asked = tuple(pods)

    async def one(pod: LocalPod) -> Any:
        with suppress(MeshError, TimeoutError):
            async with asyncio.timeout(_SHORT):
                await pod.look()
                return await pod.router.details(path, params) if pod.ready else None
        return None

    answers = await asyncio.gather(*map(one, asked))
    return {pod.name: answer for pod, answer in zip(asked, answers, strict=True) if answer is not None}
