"""What goes wrong in a schedule, and which errors of calls that explains."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from mesh.core.errors import MeshError
from mesh.simulation import SimulatedPod, World
from tests.simulation.plan import FaultPlan, PodPlan

SHADOW = 45.0
"""Seconds after its end in which a fault still explains errors: a lease has run out, and pods that were put aside were asked again."""


@dataclass
class Shadow:
    """A time in which errors are explained.

    Attributes:
        errors: names of their classes.
        entry: only of calls that came in there; empty is anywhere.
        model: only of calls of it; empty is any.
        until: infinite as long as it lasts.
    """

    what: str
    since: float
    errors: frozenset[str] = frozenset()
    entry: str = ""
    model: str = ""
    until: float = float("inf")


@dataclass
class Trouble:
    """All that went wrong in a world so far."""

    world: World
    plans: dict[str, PodPlan]
    settings: dict[str, int]
    shadows: list[Shadow] = field(default_factory=list)
    honest: bool = True
    """Whether runtimes did, so far, what they were told."""
    replaced: list[SimulatedPod] = field(default_factory=list)
    """Pods that have come back; one that was killed while it ended comes back once."""

    def begin(self, what: str, *errors: str, entry: str = "", model: str = "") -> Shadow:
        """Something goes wrong from now on."""
        self.world.note(f"fault: {what}")
        shadow = Shadow(what, self.world.now, frozenset(errors), entry, model)
        self.shadows.append(shadow)
        return shadow

    def end(self, shadow: Shadow, after: float = SHADOW) -> None:
        """It is over; its consequences are `after` so many seconds."""
        self.world.note(f"over: {shadow.what}")
        shadow.until = self.world.now + after

    def explains(self, error: str, entry: str, model: str, begun: float, ended: float) -> str:
        """What explains an error; empty if nothing does."""
        for shadow in self.shadows:
            then = shadow.since <= ended and begun <= shadow.until
            there = shadow.entry in ("", entry) and shadow.model in ("", model)
            if then and there and error in shadow.errors:
                return shadow.what
        return ""


Fault = Callable[[Trouble, FaultPlan, Random], Awaitable[None]]
DEADLINE = "DeadlineExceeded"
LOADS = ("LoadFailed", "LoadTimedOut")
STORE = ("StoreUnavailable", "Unknown")


async def play(trouble: Trouble, plan: FaultPlan) -> None:
    """Lets a fault happen, and its end."""
    await _FAULTS[plan.kind](trouble, plan, Random(plan.draw))


def _some(trouble: Trouble, random: Random, spare: int = 3) -> SimulatedPod | None:
    """A pod that is up, unless too few would be left."""
    up = trouble.world.up()
    return random.choice(up) if len(up) > spare else None


async def _return(trouble: Trouble, pod: SimulatedPod, random: Random) -> None:
    """Most pods come back, under their name or another."""
    if random.random() < 0.3 or any(pod is other for other in trouble.replaced):
        return
    trouble.replaced.append(pod)
    plan = trouble.plans[pod.name]
    await asyncio.sleep(random.choice([0.5, 5, 30]))
    # With the suffixes of all its predecessors a name would be longer than an instance's id, which is its last twelve characters.
    first = "-".join(pod.name.split("-")[:2])
    name = pod.name if random.random() < 0.7 else f"{first}-{random.randrange(10_000)}"
    trouble.plans[name] = plan
    await start(trouble.world, name, plan)


async def start(world: World, name: str, plan: PodPlan) -> None:
    """Starts a pod; one that cannot reach the store is started again, as a cluster does."""
    while True:
        try:
            await world.add_pod(name, runtime=plan.runtime, skew=plan.skew, drift=plan.drift, zone=plan.zone)
        except MeshError as error:
            world.note(f"{name} does not start: {error}")
            await asyncio.sleep(5)
        else:
            return


async def _kill(trouble: Trouble, plan: FaultPlan, random: Random, *, silently: bool = False) -> None:
    pod = _some(trouble, random)
    if pod is None:
        return
    at_entry = trouble.begin(f"{pod.name} is killed", "Leaving", DEADLINE, entry=pod.name)
    shadow = trouble.begin(f"{pod.name} is killed while calls run", DEADLINE)
    trouble.world.kill(pod, silently=silently)
    trouble.end(at_entry)
    trouble.end(shadow)
    await _return(trouble, pod, random)


async def _lose_machine(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    await _kill(trouble, plan, random, silently=True)


async def _end(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    pod = _some(trouble, random)
    if pod is None:
        return
    at_entry = trouble.begin(f"{pod.name} ends", "Leaving", "Outlived", "Cancelled", DEADLINE, entry=pod.name)
    outlived = trouble.begin(f"calls outlive {pod.name}", "Outlived", DEADLINE)
    await trouble.world.end_pod(pod)
    trouble.end(at_entry)
    trouble.end(outlived)
    await _return(trouble, pod, random)


async def _partition(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    """Two halves that do not reach each other; the store reaches both."""
    names = [pod.name for pod in trouble.world.pods.values() if pod.alive]
    random.shuffle(names)
    half = names[: random.randrange(1, max(2, len(names)))]
    await _cut(trouble, plan, [(one, other) for one in half for other in names if other not in half])


async def _cut(trouble: Trouble, plan: FaultPlan, pairs: list[tuple[str, str]]) -> None:
    shadow = trouble.begin(f"{len(pairs)} links are cut", DEADLINE, "PeerUnavailable")
    for one, other in pairs:
        trouble.world.network.cut(one, other)
    await asyncio.sleep(plan.lasts)
    for one, other in pairs:
        trouble.world.network.mend(one, other)
    trouble.end(shadow)


async def _isolate(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    """One pod reaches neither the others nor the store."""
    pod = _some(trouble, random)
    if pod is None:
        return
    cut = asyncio.ensure_future(_store_cut_of(trouble, plan, pod))
    await _cut(trouble, plan, [(pod.name, other.name) for other in trouble.world.pods.values() if other is not pod])
    await cut


async def _slow_network(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    pod = random.choice(list(trouble.world.pods.values()))
    shadow = trouble.begin(f"the network of {pod.name} is slow", DEADLINE, "PeerUnavailable")
    trouble.world.network.slow(pod.name, random.choice([0.05, 0.5, 3.0]))
    await asyncio.sleep(plan.lasts)
    trouble.world.network.slow(pod.name, 0.0)
    trouble.end(shadow)


async def _store_away(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    shadow = trouble.begin("the store is away", *STORE, DEADLINE)
    trouble.world.store.leave()
    await asyncio.sleep(plan.lasts)
    trouble.world.store.come_back()
    trouble.end(shadow)


async def _store_cut(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    pod = _some(trouble, random, spare=0)
    if pod is not None:
        await _store_cut_of(trouble, plan, pod)


async def _store_cut_of(trouble: Trouble, plan: FaultPlan, pod: SimulatedPod) -> None:
    shadow = trouble.begin(f"the store is out of reach of {pod.name}", *STORE, DEADLINE, "PeerUnavailable", "NotHere")
    pod.registry.cut_off = True
    pod.registry.reach()
    await asyncio.sleep(plan.lasts)
    pod.registry.cut_off = False
    pod.registry.reach()
    trouble.end(shadow)


async def _store_lost(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    shadow = trouble.begin("the store is wiped", *STORE, DEADLINE, "Failed", "NotHere")
    trouble.world.store.restore()
    trouble.end(shadow)


async def _store_rolled_back(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    backup = trouble.world.store.backup()
    await asyncio.sleep(plan.lasts)
    shadow = trouble.begin("the store is an older one", *STORE, DEADLINE, "Failed", "NotHere")
    trouble.world.store.restore(backup)
    trouble.end(shadow)


async def _late_mirror(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    pod = _some(trouble, random, spare=0)
    if pod is None:
        return
    shadow = trouble.begin(f"{pod.name} sees the store late", *STORE, DEADLINE, "NotHere", "Failed")
    pod.registry.lag = random.choice([0.2, 1.0, 5.0])
    await asyncio.sleep(plan.lasts)
    pod.registry.lag = 0.0
    trouble.end(shadow)


async def _runtime_restart(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    pod = _some(trouble, random, spare=0)
    if pod is None:
        return
    shadow = trouble.begin(f"the runtime of {pod.name} restarts", *LOADS, "RuntimeUnavailable", "RuntimeDown", "RuntimeStatus", DEADLINE)
    trouble.honest = False
    pod.runtime.go_down()
    await asyncio.sleep(min(plan.lasts, 30))
    pod.runtime.come_back()
    trouble.end(shadow, SHADOW + trouble.settings["load_failure_expiry"] / 1000)


async def _runtime_hang(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    pod = _some(trouble, random, spare=0)
    if pod is None:
        return
    shadow = trouble.begin(
        f"the runtime of {pod.name} hangs", *LOADS, DEADLINE, "RuntimeStatus", "QueueFull", "RuntimeUnavailable", "Outlived"
    )
    trouble.honest = False
    pod.runtime.hang(True)
    await asyncio.sleep(plan.lasts)
    pod.runtime.hang(False)
    trouble.end(shadow, SHADOW + trouble.settings["load_failure_expiry"] / 1000)


async def _runtime_leak(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    pod = _some(trouble, random, spare=0)
    if pod is None:
        return
    shadow = trouble.begin(f"the runtime of {pod.name} unloads nothing", DEADLINE, "RuntimeUnavailable")
    pod.runtime.leaks = True
    await asyncio.sleep(plan.lasts)
    pod.runtime.leaks = False
    trouble.end(shadow)


async def _runtime_forgets(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    pod = _some(trouble, random, spare=0)
    if pod is None or not pod.runtime.serving:
        return
    trouble.honest = False
    model = random.choice(sorted(pod.runtime.serving))
    trouble.world.note(f"fault: the runtime of {pod.name} forgets {model}")
    pod.runtime.forget(model)


async def _clock_jump(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    pod = _some(trouble, random, spare=0)
    if pod is None:
        return
    trouble.world.note(f"fault: the clock of {pod.name} jumps")
    pod.clock.skew += random.choice([-60_000, -5_000, 5_000, 60_000])


async def _model_breaks(trouble: Trouble, plan: FaultPlan, random: Random) -> None:
    """Loads of a model fail for a while, on one pod or on all."""
    name = random.choice(list(trouble.world.models))
    broken = trouble.world.models[name].broken_on
    if "*" in broken:
        return
    where = "*" if random.random() < 0.5 else random.choice(list(trouble.world.pods))
    shadow = trouble.begin(f"{name} does not load on {where}", *LOADS, model=name)
    broken.add(where)
    await asyncio.sleep(plan.lasts)
    broken.discard(where)
    trouble.end(shadow, SHADOW + trouble.settings["load_failure_expiry"] / 1000)


_FAULTS: dict[str, Fault] = {
    "kill": _kill,
    "lose-machine": _lose_machine,
    "end": _end,
    "partition": _partition,
    "isolate": _isolate,
    "slow-network": _slow_network,
    "store-away": _store_away,
    "store-cut": _store_cut,
    "store-lost": _store_lost,
    "store-rolled-back": _store_rolled_back,
    "late-mirror": _late_mirror,
    "runtime-restart": _runtime_restart,
    "runtime-hang": _runtime_hang,
    "runtime-leak": _runtime_leak,
    "runtime-forgets": _runtime_forgets,
    "clock-jump": _clock_jump,
    "model-breaks": _model_breaks,
}
