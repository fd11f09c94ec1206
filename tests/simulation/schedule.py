"""Plays the plan of a seed: a mesh starts, is called, suffers, heals, and is looked at all the while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

from mesh.core.errors import MeshError
from mesh.core.registry.references import GRACE
from mesh.simulation import Called, World
from mesh.simulation.store import TTL
from tests.simulation import faults, invariants
from tests.simulation.faults import Trouble
from tests.simulation.plan import AliasPlan, CallPlan, FaultPlan, Plan, draw

AUDIT = 1.7
"""Seconds between two looks into all pods."""
ENOUGH = 5
"""Complaints after which a schedule is not played further."""
QUIET = 110.0
"""Seconds in which everything is over that schedules begin: leases, failures, drains, tries of unloads."""
LONGEST = 3_000.0
"""Seconds of simulated time that no schedule takes."""
SETTLE = 600
"""Seconds at most until nothing moves any more after the last calls."""
FINAL = 60
"""Models that are called in the end."""


@dataclass
class Outcome:
    """What came of a seed."""

    plan: Plan
    complaints: list[str]
    events: list[tuple[float, str]]
    digest: int
    counts: dict[str, int]

    @property
    def story(self) -> str:
        """All that somebody needs to see what went wrong."""
        events = "\n".join(f"  {at:10.3f}  {text}" for at, text in self.events)
        wrong = "\n".join(f"  {complaint}" for complaint in self.complaints)
        return f"{self.plan}\nthe latest events:\n{events}\nwrong:\n{wrong}"


def play(seed: int) -> Outcome:
    """Plays one seed."""
    plan = draw(seed)
    world = World(seed, settings=plan.settings)
    try:
        world.run(lambda world: Schedule(world, plan).play())
    except Exception as error:
        world.complain(f"broke: {type(error).__name__}: {error}")
    return Outcome(plan, world.complaints, list(world.events), world.digest, dict(world.counts))


class Schedule:
    """One plan in one world."""

    def __init__(self, world: World, plan: Plan, quiet: float = QUIET) -> None:
        self.world, self.plan = world, plan
        self.trouble = Trouble(world, {pod.name: pod for pod in plan.pods}, plan.settings)
        self._removed: set[str] = set()
        self._quiet = quiet

    async def play(self) -> None:
        """Plays it to its end, or until enough is wrong."""
        auditing = asyncio.ensure_future(self._audit())
        playing = asyncio.ensure_future(self._play())
        await asyncio.wait({auditing, playing}, timeout=LONGEST, return_when=asyncio.FIRST_COMPLETED)
        auditing.cancel()
        if playing.done():
            playing.result()
        elif not self.world.complaints:
            doing = [str(task.get_coro()) for task in asyncio.all_tasks()]
            self.world.complain(f"not over after {LONGEST} s: {'; '.join(text for text in doing if 'tests/simulation' in text)}")

    async def _play(self) -> None:
        await self.begin()
        begun = self.world.now
        parts = [self._call_at(begun, call) for call in self.plan.calls]
        parts += [self._fault_at(begun, fault) for fault in self.plan.faults]
        parts += [self._switch_at(begun, alias) for alias in self.plan.aliases if alias.switch_at is not None]
        parts += [self._remove_at(begun, at, model) for at, model in self.plan.removals]
        await asyncio.gather(*parts)
        self.world.note("all is over that was to happen")
        await asyncio.sleep(self._quiet)
        self._explain()
        await self._call_in_the_end()
        await self._settle()
        for wrong in invariants.quiet(self.world):
            self.world.complain(wrong)

    async def begin(self) -> None:
        """Starts the pods and registers all that the plan names."""
        await self.begin_pods()
        world, up = self.world, self.world.up()
        await asyncio.gather(*(world.register(name, at=world.random.choice(up)) for name in self.plan.models))
        for alias in self.plan.aliases:
            await world.set_alias(alias.name, alias.first, at=world.random.choice(up), bounds=alias.bounds)

    async def begin_pods(self) -> None:
        """Starts one pod, then all others at once."""
        first, *others = self.plan.pods
        await faults.start(self.world, first.name, first)
        await asyncio.gather(*(faults.start(self.world, pod.name, pod) for pod in others))

    async def _audit(self) -> None:
        """Looks into all pods again and again; ends when enough is wrong."""
        world = self.world
        while len(world.complaints) < ENOUGH:
            await asyncio.sleep(AUDIT)
            for pod in world.up():
                for wrong in invariants.audit(pod):
                    world.complain(wrong)

    async def _settle(self) -> None:
        """Waits until no copy comes or goes, and no record is on its way; a mesh that never rests is looked at as it is."""
        if any(invariants.miscounted(self.world)):
            # A service that was set anew before the mesh had written again what a reset of the store lost.
            await asyncio.sleep(2 * GRACE / 1000)
        still = 0
        for _ in range(SETTLE):
            await asyncio.sleep(1)
            still = still + 1 if all(map(invariants.rests, self.world.up())) else 0
            if still > 5:
                return

    # What happens

    async def _call_at(self, begun: float, call: CallPlan) -> None:
        world = self.world
        await asyncio.sleep(max(0.0, begun + call.at - world.now))
        up = world.up()
        entry = up[int(call.pod * len(up))]
        await world.call(call.name, at=entry, deadline=call.deadline, alias=call.alias, balanced=call.balanced)

    async def _fault_at(self, begun: float, fault: FaultPlan) -> None:
        await asyncio.sleep(begun + fault.at - self.world.now)
        await faults.play(self.trouble, fault)

    async def _switch_at(self, begun: float, alias: AliasPlan) -> None:
        world = self.world
        assert alias.switch_at is not None
        await asyncio.sleep(begun + alias.switch_at - world.now)
        try:
            await world.set_alias(alias.name, alias.second, at=world.random.choice(world.up()), bounds=alias.bounds)
        except MeshError as error:
            world.note(f"{alias.name} is not switched: {error}")

    async def _remove_at(self, begun: float, at: float, model: str) -> None:
        world = self.world
        await asyncio.sleep(begun + at - world.now)
        self._removed.add(model)
        self.trouble.begin(f"{model} is removed", "Unknown", "NotHere", model=model)
        try:
            await world.unregister(model, at=world.random.choice(world.up()))
        except MeshError as error:
            world.note(f"{model} is not removed: {error}")

    # What is asked in the end

    def _explain(self) -> None:
        """Each call ended once, with an answer of its model or with an error that something explains."""
        world = self.world
        for number in world.running:
            world.complain(f"call {number} never ended")
        for call in world.calls:
            for wrong in self._wrong_with(call):
                world.complain(f"call {call.number} of {call.name} at {call.entry}, begun at {call.begun:.3f} s: {wrong}")

    def _wrong_with(self, call: Called) -> Iterator[str]:
        alias = next((alias for alias in self.plan.aliases if alias.name == call.name), None)
        may_be = {alias.first, alias.second} if alias else {call.name}
        if call.model and call.model not in may_be:
            yield f"answered by {call.model}"
        times = len(call.executed)
        if times > 1 + len(call.broken) and self.trouble.honest:
            yield f"carried out {times} times, by {', '.join(call.executed)}, though nothing broke but {call.broken}"
        if call.error is not None and call.ended is not None and not self._explained(call, may_be):
            yield f"{type(call.error).__name__} after {call.ended - call.begun:.3f} s, which nothing explains: {call.error}"

    def _explained(self, call: Called, models: set[str]) -> bool:
        error = type(call.error).__name__
        assert call.ended is not None
        if error in ("LoadFailed", "LoadTimedOut") and any(self.world.models[model].broken_on for model in models):
            return True
        if error == "DeadlineExceeded" and call.deadline is not None and self._short(call, models):
            return True
        if error == "QueueFull" and self._limited:
            return True
        return any(self.trouble.explains(error, call.entry, model, call.begun, call.ended) for model in models)

    @property
    def _limited(self) -> bool:
        """Whether copies take a few calls at a time; the others wait, and in a burst some are turned away."""
        return any(pod.runtime.limits for pod in self.plan.pods)

    def _short(self, call: Called, models: set[str]) -> bool:
        """Whether a call had too little time: for a load, or for what the model server itself takes when many call at once."""
        assert call.deadline is not None
        if call.deadline > 10:
            return False
        return call.cold or self._limited or any(4 * self.world.models[model].latency >= call.deadline for model in models)

    async def _call_in_the_end(self) -> None:
        """Every model that is registered and not broken answers."""
        world = self.world
        healthy = [model for model in world.store.records["models"] if not world.models[model].broken_on and model not in self._removed]
        lost = sorted(self.plan.models.keys() - world.store.records["models"].keys() - self._removed)
        if lost and not any("store is" in shadow.what for shadow in self.trouble.shadows):
            world.complain(f"{', '.join(lost[:5])} are registered no more, and nobody removed them")
        world.random.shuffle(healthy)
        up = world.up()
        final = await asyncio.gather(*(world.call(model, at=world.random.choice(up), deadline=QUIET) for model in healthy[:FINAL]))
        for call in final:
            if call.error is not None:
                world.complain(f"in the end {call.name} does not answer at {call.entry}: {type(call.error).__name__}: {call.error}")


assert QUIET > 2 * TTL
