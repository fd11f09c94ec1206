"""What holds in every pod at every moment, and what holds in the whole mesh once it is quiet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from mesh.core.cache.cache import Cache
from mesh.core.cache.copies import GRANTED, HOLDING_A_SLOT, LEAVING, SERVING, Copy, State
from mesh.core.ids import ModelId
from mesh.core.pod import Pod
from mesh.core.policy import STORY_LINES
from mesh.core.units import bytes_of
from mesh.simulation import SimulatedPod, World

MOVED = re.compile(r"(\w+) -> (\w+): ")
BEGAN = re.compile(r"(\w+): ")
STATES = {state.value for state in State}


def audit(pod: SimulatedPod) -> Iterator[str]:
    """What is wrong inside a pod at a moment at which it decides nothing."""
    mind = pod.living.conductor.pod
    cache = mind.cache
    copies = [*cache.current.values(), *cache.leaving.values()]
    for name, kept, told in (
        ("granted", cache.space.granted, sum(copy.weight for copy in copies if copy.state in GRANTED)),
        ("leaving", cache.space.leaving, sum(copy.weight for copy in copies if copy.state in LEAVING)),
        ("slots used", cache.slots_used, sum(copy.state in HOLDING_A_SLOT for copy in copies)),
        ("claims", len(cache.claims), sum(copy.state is State.CLAIMING for copy in copies)),
        ("queued", len(cache.queue), sum(copy.state is State.QUEUED for copy in copies)),
    ):
        if kept != told:
            yield f"{pod.name} counts {kept} {name}, and its copies come to {told}"
    if cache.slots_used > cache.policy.slots:
        yield f"{pod.name} uses {cache.slots_used} loading slots of {cache.policy.slots}"
    for model, copy in cache.current.items():
        if copy.state in LEAVING or copy.state is State.GONE:
            yield f"{pod.name} has {copy!r} as its current copy of {model}"
    for copy in cache.leaving.values():
        if copy.waiting:
            yield f"{pod.name}: {copy.waiting} callers wait for {copy!r}, which leaves"
        if copy.state not in LEAVING:
            yield f"{pod.name} has {copy!r} among those that leave"
    for copy in copies:
        if copy.calls < 0 or copy.waiting < 0:
            yield f"{pod.name} counts less than nothing on {copy!r}"
    yield from _waiters(pod, mind)


def _waiters(pod: SimulatedPod, mind: Pod) -> Iterator[str]:
    """Whoever waits waits for a copy that comes, and knows of them."""
    waiting = {model: len(futures) for model, futures in pod.living.conductor._waiting.items()}
    for model, count in waiting.items():
        copy = mind.copy(model)
        if copy is None:
            yield f"{pod.name}: {count} callers wait for {model}, of which there is no copy"
        elif copy.waiting != count:
            yield f"{pod.name}: {count} callers wait for {copy!r}"
    for model, copy in mind.cache.current.items():
        if copy.waiting and model not in waiting:
            yield f"{pod.name}: nobody waits for {copy!r}"


def stories(pod: SimulatedPod) -> Iterator[str]:
    """Stories that do not end where the copies are."""
    cache = pod.living.conductor.pod.cache
    models = {*cache.current, *cache.leaving}
    for model in sorted(models):
        lines = [line.text for line in cache.stories.of(model)]
        if len(lines) >= STORY_LINES or not lines:
            continue
        told, wrong = _told(lines)
        yield from (f"{pod.name}: the story of {model} breaks at {line!r}" for line in wrong)
        true = Counter(copy.state.value for copy in _copies(cache, model))
        if not wrong and told != true:
            yield f"{pod.name}: by its story {model} is {dict(told)}, and in truth {dict(true)}"


def _copies(cache: Cache, model: ModelId) -> list[Copy]:
    return [copy for copy in (cache.current.get(model), cache.leaving.get(model)) if copy is not None]


def _told(lines: list[str]) -> tuple[Counter[str], list[str]]:
    """The states that the story's moves lead to, and lines that do not follow from those before."""
    states: Counter[str] = Counter()
    wrong = []
    for line in lines:
        moved, began = MOVED.match(line), BEGAN.match(line)
        if moved is not None and moved[1] in STATES and moved[2] in STATES:
            if not states[moved[1]]:
                wrong.append(line)
            states[moved[1]] -= 1
            states[moved[2]] += 1
        elif began is not None and began[1] in STATES:
            states[began[1]] += 1
        states[State.GONE.value] = 0
    return +states, wrong


def evidence(pod: SimulatedPod) -> Iterator[str]:
    """Decisions that come out otherwise from what was recorded of them."""
    for decision in pod.living.conductor.pod.cache.decisions:
        if decision.evidence is not None and (again := decision.evidence.again()) != decision.outcome:
            yield f"{pod.name} decided {decision.outcome} for {decision.model}, and from what it recorded comes {again}"


def rests(pod: SimulatedPod) -> bool:
    """Whether no copy comes or goes and everything is seen."""
    cache = pod.living.conductor.pod.cache
    moving = any(copy.state not in SERVING for copy in cache.current.values()) or cache.leaving
    return not moving and not any(mirror.late for mirror in pod.registry._mirrors.values())


def quiet(world: World) -> Iterator[str]:
    """What is wrong in a mesh to which nothing happened for a while, and of which nothing is asked."""
    for pod in world.up():
        yield from audit(pod)
        yield from stories(pod)
        yield from evidence(pod)
        yield from _at_rest(pod)
        yield from _registered(world, pod)
        yield from _held(pod)
    yield from _records(world)
    yield from _aliases(world)
    yield from _bounds(world)


def _at_rest(pod: SimulatedPod) -> Iterator[str]:
    """Nothing is counted that is over."""
    living, mind = pod.living, pod.living.conductor.pod
    for copy in [*mind.cache.current.values(), *mind.cache.leaving.values()]:
        if copy.calls:
            yield f"{pod.name} counts {copy.calls} calls on {copy!r}, and there are none"
        if copy.state not in SERVING:
            yield f"{pod.name} still has {copy!r}; its story: {[line.text for line in mind.story(copy.id.model)]}"
    if living.conductor._waiting:
        yield f"{pod.name}: callers still wait for {', '.join(living.conductor._waiting)}"
    if living.admission.calls or living.admission.held:
        yield f"{pod.name} counts {living.admission.calls} calls in progress and {living.admission.held} bytes held, and there are none"
    for other, busy in mind.pods._busy.items():
        if busy.own:
            yield f"{pod.name} counts {busy.own} calls on {other}, and there are none"
    if pod.runtime.running:
        yield f"calls still run in the runtime of {pod.name}: {dict(pod.runtime.running)}"
    for table, mirror in pod.registry._mirrors.items():
        if mirror.late:
            yield f"{pod.name} does not see {len(mirror.late)} of {table}"


def _registered(world: World, pod: SimulatedPod) -> Iterator[str]:
    """What serves here stands in the registry, as ready."""
    for model, copy in pod.living.conductor.pod.cache.current.items():
        record = world.store.records["models"].get(model)
        if record is None:
            yield f"{pod.name} has {copy!r}, and there is no such model"
        elif record.copies.get(pod.id) != copy.created:
            yield f"{pod.name} has {copy!r} since {copy.created}, and the registry says {record.copies.get(pod.id)}"
        elif pod.id not in record.ready:
            yield f"{pod.name} has {copy!r}, and the registry does not say that it is ready"


def _held(pod: SimulatedPod) -> Iterator[str]:
    """The runtime holds what the pod counts."""
    cache = pod.living.conductor.pod.cache
    counted = {model for table in (cache.current, cache.leaving) for model, copy in table.items() if copy.state in GRANTED | LEAVING}
    for model in sorted(pod.runtime.held.keys() - counted):
        yield f"the runtime of {pod.name} holds {model}, which the pod does not count"
    for model in sorted(counted - pod.runtime.held.keys() - pod.runtime.lost):
        yield f"{pod.name} counts {model}, which its runtime does not hold"


def _records(world: World) -> Iterator[str]:
    """No record names a copy that is not there."""
    up = {pod.id: pod for pod in world.up()}
    for model, record in world.store.records["models"].items():
        for pod in record.copies:
            if pod not in up:
                yield f"the record of {model} names a copy on {pod}, which is not there"
            elif up[pod].living.conductor.pod.copy(ModelId(model)) is None:
                yield f"the record of {model} names a copy on {pod}, which has none"


def _bounds(world: World) -> Iterator[str]:
    """Models have as many copies as users want, as far as there are pods with room for them."""
    up = world.up()
    bounds = up[0].living.conductor.pod.bounds
    for model in bounds.bounded:
        wanted, traits = bounds.of(model), world.models[model]
        record = world.store.records["models"].get(model)
        if record is None or traits.broken_on:
            continue
        roomy = [pod.name for pod in up if _room(pod) > 2 * max(traits.size, traits.predicted or 0) and pod.id not in record.copies]
        if len(record.copies) < wanted.least and roomy:
            yield f"{model} has {len(record.copies)} copies, {wanted.least} are wanted at least, and {', '.join(roomy)} have room"
        if wanted.most and len(record.copies) > wanted.most:
            yield f"{model} has {len(record.copies)} copies, and {wanted.most} are wanted at most"


def _room(pod: SimulatedPod) -> int:
    """Bytes that a pod has free."""
    return bytes_of(pod.living.conductor.pod.cache.space.free)


def _aliases(world: World) -> Iterator[str]:
    aliases, models = world.store.records["aliases"], world.store.records["models"]
    for alias, record in aliases.items():
        target = models.get(record.target)
        broken = record.target in world.models and world.models[record.target].broken_on
        if record.in_transition and not broken:
            yield f"{alias} still goes from {record.active} to {record.target}: {record.cause or 'no cause'}; {target}"
        if target is None:
            yield f"{alias} leads to {record.target}, and there is no such model"
    yield from miscounted(world)


def miscounted(world: World) -> Iterator[str]:
    """Models whose number of references is wrong; the leader corrects one that stays so (`mesh.core.registry.references`, GRACE)."""
    aliases, models = world.store.records["aliases"], world.store.records["models"]
    pointing = Counter(model for record in aliases.values() for model in {record.active, record.target})
    for model, record in models.items():
        if record.refs != pointing[model]:
            yield f"{record.refs} references of {model} are counted, and there are {pointing[model]}"
