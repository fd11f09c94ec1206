"""Replays a trace on a simulated mesh, or on the same pods without one."""

from __future__ import annotations

import asyncio
import random
import zlib
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from mesh.core.errors import MeshError
from mesh.core.instructions import Instruction, LoadModel, NoteEviction
from mesh.simulation.calls import Called
from mesh.simulation.pod import SimulatedPod
from mesh.simulation.report import Moment, Report
from mesh.simulation.runtime import ModelTraits, RuntimeTraits
from mesh.simulation.trace import Trace
from mesh.simulation.world import KIND, World

PARTS = 60
"""Moments of a report."""

DEFAULT_SIZE, DEFAULT_LOAD, DEFAULT_DURATION = 100 << 20, 1000.0, 10.0
"""Bytes, ms and ms of models of which a trace tells nothing."""

PATIENCE = 4
"""A load may take so many times as long as the slowest one of the trace, and half a minute at least."""

QUIET = {"pods_settle": 3_600_000}
"""How many pods are wanted is not looked at: a trace may last for weeks."""


class Policy(StrEnum):
    """What the pods are to each other."""

    mesh = "mesh"
    """One cache: calls come in anywhere, and go where their model is."""
    random = "random"
    """Strangers behind a load balancer: each call goes to any of them, and each keeps what it was asked for last."""
    hashed = "hashed"
    """Strangers behind a load balancer that sends all calls of a model to the same one, chosen by its name."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a trace is replayed on.

    Attributes:
        pods: of one kind.
        capacity: bytes for models of each.
        slots: loads at a time of each.
        seed: of all that is drawn.
        deadline: seconds that a call may take; None is the mesh's own limit of five load timeouts.
        settings: of the routers, by the names of `Settings`' fields.
    """

    pods: int
    capacity: int
    slots: int = 2
    policy: Policy = Policy.mesh
    seed: int = 0
    deadline: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def replay(trace: Trace, setup: Setup, progress: Callable[[int], object] = lambda _: None) -> Report:
    """Replays a trace from begin to end; the same arguments give the same report.

    Args:
        trace: with at least one access.
        progress: told how many more calls have begun.

    Raises:
        MeshError: the pods do not start, e.g. because they have too little memory.
    """
    notes = trace.assumed(DEFAULT_SIZE, DEFAULT_LOAD, DEFAULT_DURATION)
    notes += _too_large(trace, setup.capacity)
    length = max(1.0, trace.seconds)
    moments = [Moment(round(length * (part + 1) / PARTS, 3)) for part in range(PARTS)]
    described = {**asdict(setup), "seconds": trace.seconds, "models": len(trace.models)}
    report = Report(described, moments, notes=notes)
    for number, (pods, accesses) in enumerate(_worlds(trace, setup)):
        _Replay(trace, accesses, setup, pods, setup.seed + number, report, progress).run()
    return report


def _worlds(trace: Trace, setup: Setup) -> list[tuple[int, list[tuple[float, str]]]]:
    """How many pods know each other, and the accesses that reach them."""
    if setup.policy is Policy.mesh:
        return [(setup.pods, trace.accesses)]
    parts: list[list[tuple[float, str]]] = [[] for _ in range(setup.pods)]
    draw = random.Random(setup.seed)
    for access in trace.accesses:
        chosen = zlib.crc32(access[1].encode()) if setup.policy is Policy.hashed else draw.getrandbits(30)
        parts[chosen % setup.pods].append(access)
    return [(1, part) for part in parts]


def _too_large(trace: Trace, capacity: int) -> list[str]:
    large = [name for name, model in trace.models.items() if (model.size or 0) > capacity]
    return [f"models that are larger than a pod, and never load: {len(large)}, e.g. {large[0]}"] if large else []


class _Replay:
    """One world with some of the accesses; all worlds of a replay add to one report."""

    def __init__(
        self,
        trace: Trace,
        accesses: list[tuple[float, str]],
        setup: Setup,
        pods: int,
        seed: int,
        report: Report,
        progress: Callable[[int], object],
    ) -> None:
        self._trace, self._accesses, self._setup, self._pods = trace, accesses, setup, pods
        self._report, self._progress, self._ends = report, progress, [moment.at for moment in report.moments]
        self._world = World(seed, settings={**QUIET, **setup.settings}, keep=0)
        self._begun = 0.0
        self._running: set[asyncio.Task[None]] = set()

    def run(self) -> None:
        """Replays them."""
        world = self._world
        world.forget_calls = True
        world.watchers.append(self._ordered)
        kinds: dict[str, dict[str, ModelTraits]] = {}
        for name in {name for _, name in self._accesses}:
            kinds.setdefault(self._trace.models[name].type or KIND, {})[name] = self._traits(name)
        for kind in sorted(kinds):
            world.seed_models(dict(sorted(kinds[kind].items())), kind)
        world.run(self._story)
        self._report.complaints += world.complaints

    def _traits(self, name: str) -> ModelTraits:
        model = self._trace.models[name]
        assert model.size is not None
        assert model.load is not None
        assert model.duration is not None
        return ModelTraits(model.size, model.load / 1000, model.duration / 1000)

    async def _story(self, world: World) -> None:
        models = self._trace.models.values()
        usual = sorted(model.size or 1 for model in models)[len(models) // 2]
        slowest = max(model.load or 0.0 for model in models) / 1000
        runtime = RuntimeTraits(
            capacity=self._setup.capacity,
            # A runtime has room for several models of the usual size, or its router refuses it.
            default_size=max(8192, min(usual, self._setup.capacity // 10)),
            slots=self._setup.slots,
            load_timeout=max(30.0, PATIENCE * slowest),
        )
        pods = [await world.add_pod(runtime=runtime) for _ in range(self._pods)]
        self._begun = world.now
        looking = asyncio.ensure_future(self._look())
        for at, name in self._accesses:
            wait = self._begun + at - world.now
            if wait > 0:
                await asyncio.sleep(wait)
            self._begin(name, world.random.choice(pods))
        await looking
        while self._running:
            await asyncio.wait(set(self._running))

    def _begin(self, name: str, pod: SimulatedPod) -> None:
        task = asyncio.ensure_future(self._call(name, pod, self._moment()))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        self._progress(1)

    async def _call(self, name: str, pod: SimulatedPod, moment: Moment) -> None:
        called: Called = await self._world.call(name, at=pod, deadline=self._setup.deadline)
        moment.calls += 1
        assert called.ended is not None
        took = called.ended - called.begun
        if called.error is not None:
            moment.errors += 1
            said = called.error.label if isinstance(called.error, MeshError) else type(called.error).__name__
            self._report.failures[said] += 1
        elif called.cold:
            self._report.first.append(took)
        else:
            self._report.others.append(took)
        moment.hits += not called.cold

    async def _look(self) -> None:
        """Counts what serves at the end of each moment."""
        for moment in self._report.moments:
            await asyncio.sleep(max(0.0, self._begun + moment.at - self._world.now))
            serving = [pod.runtime.serving for pod in self._world.pods.values()]
            moment.copies += sum(map(len, serving))
            moment.resident += len(set().union(*serving))
            moment.used += sum(sum(pod.runtime.held.values()) for pod in self._world.pods.values())

    def _moment(self) -> Moment:
        """The one that it is."""
        number = bisect_left(self._ends, self._world.now - self._begun)
        return self._report.moments[min(number, PARTS - 1)]

    def _ordered(self, _pod: SimulatedPod, instruction: Instruction) -> None:
        if isinstance(instruction, LoadModel):
            self._moment().loads += 1
        elif isinstance(instruction, NoteEviction):
            self._moment().evictions += 1
