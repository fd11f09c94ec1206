"""What a seed stands for: how large its mesh is, what its models and model servers are like, who calls what, and what goes wrong when."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

from mesh.core.registry.records import NO_BOUNDS, Bounds
from mesh.simulation import ModelTraits, RuntimeTraits

MIB = 1 << 20


@dataclass(frozen=True)
class PodPlan:
    """One pod."""

    name: str
    runtime: RuntimeTraits
    skew: float
    drift: float
    zone: str


@dataclass(frozen=True)
class CallPlan:
    """One call of a client.

    Attributes:
        at: seconds after the begin of traffic.
        name: of the model, or of the alias.
        pod: which of the pods that are up then, as a fraction of their number.
        deadline: seconds; None is none.
    """

    at: float
    name: str
    alias: bool
    pod: float
    deadline: float | None
    balanced: bool


@dataclass(frozen=True)
class FaultPlan:
    """One thing that goes wrong: from `at`, in seconds after the begin of traffic, for `lasts` seconds."""

    kind: str
    at: float
    lasts: float
    draw: int


@dataclass(frozen=True)
class AliasPlan:
    """One alias: where it points, what is to be kept of it, and where it is to point later."""

    name: str
    first: str
    second: str
    switch_at: float | None
    bounds: Bounds


@dataclass
class Plan:
    """All of it."""

    seed: int
    settings: dict[str, Any]
    pods: list[PodPlan]
    models: dict[str, ModelTraits]
    aliases: list[AliasPlan]
    calls: list[CallPlan]
    faults: list[FaultPlan]
    removals: list[tuple[float, str]] = field(default_factory=list)
    lasts: float = 0.0

    def __str__(self) -> str:
        faults = ", ".join(f"{fault.kind} at {fault.at:.0f} s for {fault.lasts:.0f} s" for fault in self.faults)
        return (
            f"seed {self.seed}: {len(self.pods)} pods, {len(self.models)} models, {len(self.aliases)} aliases, "
            f"{len(self.calls)} calls in {self.lasts:.0f} s; {faults or 'no faults'}"
        )


FAULTS = {
    "kill": 3,
    "lose-machine": 2,
    "end": 2,
    "partition": 3,
    "isolate": 2,
    "slow-network": 1,
    "store-away": 2,
    "store-cut": 2,
    "store-lost": 1,
    "store-rolled-back": 1,
    "late-mirror": 2,
    "runtime-restart": 3,
    "runtime-hang": 2,
    "runtime-leak": 2,
    "runtime-forgets": 1,
    "clock-jump": 1,
    "model-breaks": 2,
}
"""Kinds of faults and how often each is drawn."""


def draw(seed: int) -> Plan:
    """The plan of a seed: 5 to 20 pods, up to 500 models; most are small, so that many can be played."""
    random = Random(seed)
    count = 5 + min(int(random.expovariate(1 / 3)), 15)
    names = [f"m{number}" for number in range(round(math.exp(random.uniform(math.log(4), math.log(500)))))]
    lasts = random.uniform(30, 90)
    models = {name: _model(random, lies=random.random() < 0.2) for name in names}
    pods = _pods(random, count, sum(model.size for model in models.values()))
    for name in names:
        if random.random() < 0.03:
            models[name].broken_on.update(["*"] if random.random() < 0.5 else [random.choice(pods).name])
    plan = Plan(seed, _settings(random), pods, models, [], [], [], lasts=lasts)
    plan.aliases = _aliases(random, plan)
    plan.calls = _calls(random, plan)
    plan.faults = _faults(random, lasts)
    aliased = {model for alias in plan.aliases for model in (alias.first, alias.second)}
    plan.removals = [(random.uniform(0, lasts), name) for name in names if name not in aliased and random.random() < 0.02]
    return plan


def _settings(random: Random) -> dict[str, Any]:
    return {
        "load_failure_expiry": random.choice([20_000, 40_000]),
        "drain_limit": random.choice([5_000, 20_000]),
        "shutdown_timeout": random.choice([10_000, 30_000]),
    }


def _model(random: Random, *, lies: bool) -> ModelTraits:
    size = round(random.lognormvariate(math.log(80), 0.5) * MIB)
    return ModelTraits(
        size=size,
        load_time=random.lognormvariate(0, 0.7),
        latency=random.choice([0.002, 0.01, 0.05, 0.5]),
        predicted=round(size * random.uniform(0.5, 1.5)) if lies else None,
        reported=0 if random.random() < 0.3 else None,
        concurrency=random.choice([0, 2]),
    )


def _pods(random: Random, count: int, total: int) -> list[PodPlan]:
    """Together they have room for a third to twice of all models, and each for some."""
    share = total * random.choice([0.3, 0.7, 1.2, 2.0]) / count
    default = random.choice([50, 100]) * MIB
    capacity = max(round(share), 8 * default, 1 << 30)
    watched, predicts, limits = random.random() < 0.7, random.random() < 0.8, random.random() < 0.25
    skewed = random.random() < 0.4
    return [
        PodPlan(
            f"pod-{number}",
            RuntimeTraits(
                capacity=round(capacity * random.choice([1, 1, 1, 1.5])),
                default_size=default,
                slots=random.choice([1, 2, 2, 4]),
                load_timeout=random.choice([20.0, 40.0]),
                watched=watched,
                predicts=predicts,
                limits=limits,
                slowness=random.choice([1.0, 1.0, 1.0, 2.0]),
            ),
            skew=random.uniform(-20_000, 20_000) if skewed else 0.0,
            drift=random.uniform(-1, 1) if skewed else 0.0,
            zone=random.choice(["a", "b", "c"]),
        )
        for number in range(count)
    ]


def _aliases(random: Random, plan: Plan) -> list[AliasPlan]:
    names = list(plan.models)
    aliases = []
    for number in range(random.choice([0, 0, 1, 2, 5])):
        first, second = random.choice(names), random.choice(names)
        least = random.choice([0, 0, 1, 2])
        bounds = Bounds(least, random.choice([0, max(2, least)]), random.random() < 0.3, random.random() < 0.3)
        switch_at = random.uniform(0, plan.lasts) if random.random() < 0.6 else None
        aliases.append(AliasPlan(f"alias-{number}", first, second, switch_at, bounds if random.random() < 0.5 else NO_BOUNDS))
    return aliases


def _calls(random: Random, plan: Plan) -> list[CallPlan]:
    """Some models are popular, some cold ones are wanted by many at once."""
    names, lasts = list(plan.models), plan.lasts
    random.shuffle(names)
    calls = []
    for _ in range(random.choice([60, 120, 200, 400])):
        alias = bool(plan.aliases) and random.random() < 0.2
        name = random.choice(plan.aliases).name if alias else names[min(int(random.paretovariate(0.6)) - 1, len(names) - 1)]
        at = random.uniform(0, lasts)
        burst = random.choice([5, 30]) if random.random() < 0.02 else 1
        for _ in range(burst):
            deadline = random.choice([None, 120.0, 120.0, 120.0, 5.0, 0.5])
            calls.append(CallPlan(at + random.uniform(0, 0.05), name, alias, random.random(), deadline, random.random() < 0.1))
    return sorted(calls, key=lambda call: call.at)


def _faults(random: Random, lasts: float) -> list[FaultPlan]:
    kinds = random.choices(list(FAULTS), weights=list(FAULTS.values()), k=random.choice([0, 1, 2, 3, 4, 6]))
    return [FaultPlan(kind, random.uniform(0, lasts), random.lognormvariate(2, 1.2), random.randrange(1 << 30)) for kind in kinds]
