"""Keeps the pods those that are wanted: makes environments, starts pods of new runtimes, rolls changed ones, ends the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mesh.core.errors import Failed, MeshError
from mesh.local import environments, making
from mesh.local.environments import Environment
from mesh.local.fleet import PATIENCE, Fleet
from mesh.local.kits import Kit, Wanted
from mesh.local.pods import LocalPod
from mesh.local.processes import Say
from mesh.local.rollout import Add, Remove, Replace, Restart, Seen, Step, Widen, next_step

PERIOD = 0.5
"""Seconds between two looks at whether a step that had to wait can be taken."""

AGAIN = 60.0
"""Seconds after which what failed is tried again by itself; a document that is applied tries it at once."""


@dataclass
class Trouble:
    """Why a runtime's pods, or the registry that pods share, cannot be made; tried again at `again` (loop time)."""

    why: str
    again: float


class Crew:
    """Runs until cancelled.

    Args:
        fleet: the pods that there are.
        registered: whether everything applied is known to the pods' registry.
        forget: told that the registry is another one, which knows nothing.

    Attributes:
        wanted: by runtime; replaced by `want`.
        making: what is being done for a runtime's environment, by the environment's name.
    """

    def __init__(self, fleet: Fleet, say: Say, registered: Callable[[], bool], forget: Callable[[], None]) -> None:
        self.wanted: Mapping[str, Wanted] = {}
        self.making: dict[str, str] = {}
        self._fleet, self._say = fleet, say
        self._registered, self._forget = registered, forget
        self._troubles: dict[str, Trouble] = {}
        self._makers: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def want(self, wanted: Mapping[str, Wanted]) -> None:
        """Other pods are wanted from now on; what failed is tried again at once."""
        self.wanted = wanted
        self._troubles.clear()
        self._wake.set()

    def why_not(self, runtime: str) -> str:
        """Why a runtime has not the pods that it is to have; empty if nothing is in the way."""
        one = self.wanted.get(runtime)
        if one is None:
            return ""
        if one.kit is None:
            return one.missing
        environment = one.kit.environment.name
        if environment in self.making:
            return f"making its environment: {self.making[environment]}"
        for name in (runtime, environment, "etcd"):
            if name in self._troubles:
                return self._troubles[name].why
        return ""

    async def run(self) -> None:
        """Works until it is cancelled."""
        try:
            while True:
                self._wake.clear()
                if not await self._work():
                    waiting = asyncio.create_task(self._wake.wait())
                    await asyncio.wait([waiting], timeout=PERIOD)
                    waiting.cancel()
        finally:
            for maker in self._makers.values():
                maker.cancel()
            await asyncio.gather(*self._makers.values(), return_exceptions=True)

    async def _work(self) -> bool:
        """Takes one step; answers whether there was one to take."""
        able = {name: one for name, one in self.wanted.items() if self._able(name, one)}
        # What cannot be made now keeps the pods that it has.
        wished = {name: one if name in able else Wanted(one.share, None, "later") for name, one in self.wanted.items()}
        pods = [Seen(one.name, one.kit, one.ready, one.served) for one in self._fleet.pods]
        step = next_step(pods, wished, alone=self._fleet.alone)
        if step is None:
            return False
        subject = step.kit.plan.name if isinstance(step, Add | Replace | Restart) else "etcd" if isinstance(step, Widen) else step.pod
        try:
            await self._take(step)
        except (OSError, MeshError) as error:
            why = error.message if isinstance(error, MeshError) else f"{error.strerror or error} ({error.filename})"
            self._fail(subject, why)
            return False
        self._troubles.pop(subject, None)
        return True

    def _able(self, runtime: str, one: Wanted) -> bool:
        """Whether a pod of it can be started now; has its environment made if that is what is missing."""
        if one.kit is None or self._blocked(runtime):
            return False
        needed = [one.kit.environment]
        if self._fleet.alone and not self._fleet.options.store and self._several():
            needed.append(self._etcd())
        made = [self._made(environment) for environment in needed]
        return all(made)

    def _several(self) -> bool:
        runtimes = {name for name, one in self.wanted.items() if one.share.least}
        return sum(one.share.least for one in self.wanted.values()) > 1 or runtimes != {one.runtime for one in self._fleet.pods}

    def _etcd(self) -> Environment:
        given = self._fleet.options.environments.get("etcd")
        return Environment("etcd", given, "", given=True) if given else environments.find("etcd")

    def _made(self, environment: Environment) -> bool:
        if environment.made:
            return True
        if environment.name not in self._makers and not self._blocked(environment.name):
            self._makers[environment.name] = asyncio.create_task(self._make(environment))
        return False

    async def _make(self, environment: Environment) -> None:
        def told(step: str) -> None:
            self.making[environment.name] = step
            self._say("mesh", f"environment {environment.name}: {step}")

        self.making[environment.name] = "beginning"
        try:
            await making.make(environment, told)
            self._say("mesh", f"environment {environment.name} is made")
        except (MeshError, OSError) as error:
            self._fail(environment.name, str(error))
        finally:
            del self.making[environment.name], self._makers[environment.name]
            self._wake.set()

    def _blocked(self, name: str) -> bool:
        trouble = self._troubles.get(name)
        return trouble is not None and asyncio.get_running_loop().time() < trouble.again

    def _fail(self, name: str, why: str) -> None:
        self._troubles[name] = Trouble(why, asyncio.get_running_loop().time() + AGAIN)
        self._say("mesh", f"{name}: {why}; tried again in {AGAIN:g} s, or when a document is applied")

    # Steps

    async def _take(self, step: Step) -> None:
        fleet = self._fleet
        match step:
            case Add(kit):
                added = await fleet.add(kit)
                self._say("mesh", f"{added.name} is added for {added.runtime}")
            case Remove(pod, why):
                self._say("mesh", f"{pod} hands over what it serves, and ends: {why}")
                await fleet.remove(pod)
                self._say("mesh", f"{pod} has ended")
            case Restart(pod, kit):
                self._say("mesh", f"the runtime {kit.plan.name} changed; the pod starts again")
                await fleet.restart(pod, kit)
            case Replace(pod, kit):
                await self._replace(pod, kit)
            case Widen(kit):
                await self._widen(kit)

    async def _replace(self, pod: str, kit: Kit) -> None:
        added = await self._fleet.add(kit)
        self._say("mesh", f"the runtime {kit.plan.name} changed; {added.name} takes the place of {pod}")
        if await self._ready(added, kit):
            await self._fleet.remove(pod)
            self._say("mesh", f"{pod} has ended")
        else:
            self._say("mesh", f"{added.name} does not take calls; {pod} goes on serving (logs: {added.setup.folder.logs})")

    async def _widen(self, kit: Kit) -> None:
        """The old pod serves until another one knows everything: a call that met a pod whose registry is still empty would be refused.

        A first pod beside the clients' ports has everything registered; the next one finds all that when it begins.
        """
        fleet = self._fleet
        self._say("mesh", "more than one pod is wanted: they share an etcd from now on, and the first pod is replaced")
        old = await fleet.widen()
        try:
            registrar = await self._started(kit, old, aside=True)
            for _ in range(int(PATIENCE / PERIOD)):
                if self._registered() or not registrar.ready:
                    break
                await asyncio.sleep(PERIOD)
            await self._started(kit, old)
        except BaseException:
            await fleet.narrow(old)
            self._forget()
            raise
        await old.stop()
        await old.router.close()
        await fleet.remove(registrar.name)
        await asyncio.to_thread(fleet.folder.leave_models_of, [one.name for one in fleet.pods])

    async def _started(self, kit: Kit, old: LocalPod, *, aside: bool = False) -> LocalPod:
        added = await self._fleet.add(kit, aside=aside)
        if aside:
            self._forget()
        if not await self._ready(added, kit):
            raise Failed(f"{added.name} does not take calls; {old.name} goes on serving (logs: {added.setup.folder.logs})")
        return added

    async def _ready(self, added: LocalPod, kit: Kit) -> bool:
        """Whether it takes calls, unless another kit is wanted before that."""

        def outdated() -> bool:
            now = self.wanted.get(kit.plan.name)
            return now is None or now.kit != kit

        return await self._fleet.until_ready(added, outdated)
