"""What decisions cost in a large mesh: where a copy goes among a thousand pods, and what a thousand pods write that have nothing to do.

Pure: `mesh.core` on made-up records, no processes. Times are those of the thread's CPU beside those of the clock, because on a busy machine
the latter say more of the others. The former have in them what interrupts the thread and what the host of a virtual machine takes.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.services import TYPES, model_type
from mesh.core.cache.busyness import Busyness
from mesh.core.cache.publishing import PERIOD, due, least_space
from mesh.core.ids import ModelId, PodId
from mesh.core.placement.constraints import Constraints
from mesh.core.pod import Pod
from mesh.core.policy import Policy
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import ModelInfo, ModelRecord
from mesh.core.routing.hops import Kind
from mesh.core.routing.journey import Journey
from mesh.core.routing.steps import Forward, View, WaitFor
from mesh.core.units import Millis, Units
from mesh.pod.garbage import spare_what_stays

PODS = 1000
ROOM = 100
"""Models that a pod has room for."""
NOW = Millis(1_800_000_000_000)
POLICY = Policy(Units(ROOM * 128), Units(128), 2, Millis(90_000))


@dataclass(frozen=True)
class Times:
    """Seconds of each decision, sorted: by the clock, and of CPU."""

    clock: Sequence[float]
    cpu: Sequence[float]

    def shown(self, share: float) -> str:
        at = int(len(self.cpu) * share)
        return f"{self.clock[at] * 1e6:.0f} µs ({self.cpu[at] * 1e6:.0f} µs of CPU)"


def constraints() -> Constraints:
    """Each of the types needs a label of its own."""
    return Constraints.parse(json.dumps({model_type(number): {"required": [f"label-{number}"]} for number in range(TYPES)}))


def figures(rng: random.Random, number: int) -> InstanceRecord:
    """A pod as it tells of itself: two of the labels, more or less full."""
    count = rng.randrange(ROOM + 1)
    return InstanceRecord(
        start_time=Millis(NOW - 10_000_000),
        zone=f"zone-{number % 3}",
        labels=tuple(sorted({f"label-{number % TYPES}", f"label-{number * 7 % TYPES}"})),
        lru_time=Millis(NOW - rng.randrange(60_000, 10_000_000)),
        count=count,
        capacity=POLICY.capacity,
        used=Units(POLICY.capacity * count // ROOM),
        load_threads=2,
        rpm=rng.randrange(300),
        endpoint=f"10.0.{number // 250}.{number % 250}:8080",
    )


def placements(decisions: int = 5000, pods: int = PODS) -> Times:
    """Whole decisions of calls for cold models, from the call to the pod that is to load it, one pod's figures changing in between."""
    rng = random.Random(1)
    pod = Pod(PodId("pod-0000"), POLICY, labels=["label-0"])
    pod.constraints = constraints()
    own = figures(rng, 0)
    for number in range(1, pods):
        pod.pods.instance_changed(PodId(f"pod-{number:04}"), figures(rng, number))
    infos = [ModelInfo(model_type(number), "path", "{}") for number in range(TYPES)]
    models: dict[ModelId, ModelRecord] = {}
    view = View(pod, models, lambda: own, lambda _now: frozenset())
    clock: list[float] = []
    cpu: list[float] = []
    for number in range(decisions):
        model = ModelId(f"model-{number}")
        models[model] = ModelRecord(infos[number % TYPES], refs=1)
        other = rng.randrange(1, pods)
        pod.pods.instance_changed(PodId(f"pod-{other:04}"), figures(rng, other))
        now = Millis(NOW + number * 3)
        journey = Journey(model, view)
        began, used = time.perf_counter(), time.thread_time()
        step = journey.next(now, lambda count: rng.randrange(count))
        cpu.append(time.thread_time() - used)
        clock.append(time.perf_counter() - began)
        if not (isinstance(step, WaitFor) or (isinstance(step, Forward) and step.hop.kind is Kind.LOAD)):
            raise TypeError(f"{model} was not placed but {step}")
    return Times(sorted(clock), sorted(cpu))


def written(pods: int = PODS, minutes: int = 30, calls: float = 0.0) -> float:
    """Records a second that so many pods write of themselves.

    Args:
        pods: how many.
        minutes: of simulated time.
        calls: a minute on each pod, of a model of its own drawn at random.
    """
    rng, count = random.Random(2), 0
    for number in range(pods):
        uses = [NOW - rng.randrange(60_000, 10_000_000) for _ in range(ROOM // 2)]
        begun, busyness = 0, Busyness(0, NOW)
        base = figures(rng, number).with_(count=len(uses), used=Units(POLICY.capacity // 2), rpm=0)
        before, at = base.with_(lru_time=Millis(min(uses))), NOW
        now = Millis(NOW + rng.randrange(PERIOD))
        while now < NOW + minutes * 60_000:
            for _ in range(_drawn(rng, calls * PERIOD / 60_000)):
                uses[rng.randrange(len(uses))], begun = now, begun + 1
            record = base.with_(lru_time=Millis(min(uses)), rpm=busyness.rpm(begun, now))
            if due(before, at, record, now, least_space(POLICY)) is not None:
                before, at, count = record, now, count + 1
            now = Millis(now + PERIOD)
    return count / (minutes * 60)


def _drawn(rng: random.Random, mean: float) -> int:
    return int(mean) + (rng.random() < mean % 1)


def shown() -> list[list[str]]:
    """Rows of a table."""
    # As a router does when it has started.
    spare_what_stays()
    times = placements()
    return [
        [f"placement among {PODS} pods, {TYPES} constrained types, median", times.shown(0.5)],
        ["99th percentile", times.shown(0.99)],
        [f"records written by {PODS} idle pods", f"{written():.2f} a second"],
        ["with a call a minute on each", f"{written(calls=1):.2f} a second"],
    ]


if __name__ == "__main__":
    for name, value in shown():
        print(f"{name:70} {value}")
