"""One mesh as large as they get: 200 pods and 100,000 models as services, called, and losing pods meanwhile."""

from __future__ import annotations

from random import Random

from mesh.simulation import ModelTraits, RuntimeTraits, World
from tests.simulation.plan import CallPlan, FaultPlan, Plan, PodPlan
from tests.simulation.schedule import Outcome, Schedule

PODS, MODELS, CALLS, LASTS = 200, 100_000, 1_500, 20.0
GIB, MIB = 1 << 30, 1 << 20


def play(seed: int = 1) -> Outcome:
    """Plays it."""
    random = Random(seed)
    models = {f"model-{number:06d}__isvc-{random.getrandbits(40):010x}": _model(random) for number in range(MODELS)}
    runtime = RuntimeTraits(capacity=16 * GIB, slots=4)
    pods = [PodPlan(f"pod-{number}", runtime, 0.0, 0.0, random.choice("abc")) for number in range(PODS)]
    names = list(models)
    calls = [
        CallPlan(random.uniform(0, LASTS), names[min(int(random.paretovariate(0.5)) * 7, MODELS - 1)], False, random.random(), 60.0, False)
        for _ in range(CALLS)
    ]
    troubles = [FaultPlan(kind, random.uniform(0, LASTS / 2), 5.0, number) for number, kind in enumerate(["kill", "end", "kill"])]
    plan = Plan(seed, {"load_failure_expiry": 20_000}, pods, models, [], calls, troubles, lasts=LASTS)
    world = World(seed, settings=plan.settings)
    try:
        world.run(lambda world: _Large(world, plan, quiet=70.0).play())
    except Exception as error:
        world.complain(f"broke: {type(error).__name__}: {error}")
    return Outcome(plan, world.complaints, list(world.events), world.digest, dict(world.counts))


def _model(random: Random) -> ModelTraits:
    return ModelTraits(size=random.randrange(50, 200) * MIB, load_time=random.uniform(0.5, 4))


class _Large(Schedule):
    """What is looped over all models elsewhere is not here."""

    async def begin(self) -> None:
        """All models are there before the first pod."""
        self.world.seed_models(self.plan.models, service=lambda model: model.partition("__")[0])
        await self.begin_pods()
