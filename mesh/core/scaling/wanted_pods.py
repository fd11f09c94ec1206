"""How many pods a runtime wants: more while its pods are short of something, fewer only after a long calm.

An autoscaler follows the number. What it is worked out from are the pods' own figures, as their records tell them, so every pod answers
alike; what is remembered between two decisions is small and an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from mesh.core.placement.constraints import Labels
from mesh.core.policy import HOUR, SECOND
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis, Units

AGE = Millis(HOUR // 2)
"""A full cache is to keep a model this long without a call. Half of what `RECENT` asks for, so that growing and shrinking lie apart."""

RECENT = HOUR
"""A model used within this time is in recent use: all such fit into what stays when a pod goes (a drain waits for the same ones)."""

RPM = 8_000
"""Calls a minute that a pod is to have at most: four times the rate at which a model gets another copy, beyond which ModelMesh gives a pod
no further ones (reference 6.3)."""

CALLS = 800
"""Calls, in hundredths, that are to run on a pod at a time: by Little's law the share of time that its model server works, times 100. Eight
keep four cores busy while as many wait; beyond that calls wait for each other."""

SETTLE = Millis(120 * SECOND)
"""After pods came or went: a model server needs about a minute to start, its figures another one to show in the averages."""

CALM = Millis(HOUR // 2)
"""Fewer pods have to suffice for so long, anew for each pod: loading models again costs more than an idle half hour."""

PRESS = 4
"""Being short has to last for this part of `SETTLE` (half a minute), which a burst of loads after a deployment does not."""

FULL, ROOMY = 90, 80
"""Percent of memory: a cache that uses more than the first evicts; what stays when a pod goes is to be used up to the second at most."""

EASE = 70
"""Percent of an aim that the pods that stay may reach. Two pods that become one must not be as busy as one that becomes two."""

SPARE = 150
"""Percent of the aimed age that the cache has to keep with a pod less."""

ROUNDS = 2
"""Loads, times what the pods load at once, that may wait: one round runs and one is queued."""

STEP = 4
"""A step adds a quarter of the pods, one at least: a wrong figure must not double a fleet."""


@dataclass(frozen=True, slots=True)
class Aims:
    """What an operator may choose; each is above zero."""

    age: Millis = AGE
    rpm: int = RPM
    calls: int = CALLS
    settle: Millis = SETTLE
    calm: Millis = CALM


class Use(NamedTuple):
    """What a pod measures of itself for this: calls that run at a time, in hundredths, and what models out of recent use take."""

    calls: int = 0
    idle: Units = Units(0)


@dataclass(frozen=True, slots=True)
class Figures:
    """One pod.

    Attributes:
        capacity, used: of its cache.
        idle: of what is used, models out of recent use.
        age: how long ago its oldest model was used; None without models.
        rpm: calls a minute.
        calls: running at a time, in hundredths.
        loads: queued, waiting and running.
        slots: loads at a time.
    """

    capacity: Units
    used: Units
    idle: Units
    age: Millis | None
    rpm: int
    calls: int
    loads: int
    slots: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What one decision leaves to the next.

    Attributes:
        wanted: pods.
        pods: that there were.
        since: when that number last changed, or a pod last left.
        short: since when more are needed; None if they are not.
        calm: since when one fewer would do; None if it would not.
    """

    wanted: int
    pods: int
    since: Millis
    short: Millis | None = None
    calm: Millis | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a decision is made from.

    Attributes:
        pods: those that stay; at least one.
        changing: pods leave, or a rollout replaces some.
        before: None at the first decision.
    """

    pods: tuple[Figures, ...]
    changing: bool
    before: Memory | None
    now: Millis
    aims: Aims = Aims()


@dataclass(frozen=True, slots=True)
class Need:
    """What one kind of shortage asks for.

    Attributes:
        what: in words, with the figure and what is aimed at.
        pods: that would suffice; 0 if any number does.
    """

    what: str
    pods: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """The answer: a number of pods, and why, in words. `needs` has all shortages that were looked at, the greatest first."""

    pods: int
    reason: str
    needs: tuple[Need, ...]
    memory: Memory


def decide(inputs: Inputs) -> Wanted:
    """How many pods are wanted now; between 1 and the greater of what was wanted before and `most`."""
    there, now, aims = len(inputs.pods), inputs.now, inputs.aims
    before = inputs.before or Memory(there, there, now)
    needs = tuple(sorted(_needs(inputs), key=lambda need: -need.pods))
    if inputs.changing:
        kept = Memory(before.wanted, there, now)
        return Wanted(kept.wanted, "pods are being replaced, or leave: the number stays meanwhile", needs, kept)
    if there != before.pods:
        before = Memory(before.wanted, there, now)
    need = needs[0].pods
    short = need > before.wanted
    fewer = not short and need < before.wanted and _suffices(inputs, before.wanted - 1)
    since = _since(before.short, now) if short else None
    calm = _since(before.calm, now) if fewer else None
    after = replace(before, short=since, calm=calm)
    if since is not None and _may_grow(before, there, since, inputs):
        more = max(before.wanted, min(need, there if before.wanted < there else most(there)))
        return Wanted(more, needs[0].what, needs, replace(after, wanted=more, short=None))
    if calm is not None and _lasts(calm, now, aims.calm):
        return Wanted(before.wanted - 1, f"{before.wanted - 1} would have done for {aims.calm // SECOND} s", needs, _less(after, now))
    return Wanted(before.wanted, _why(after, needs, inputs), needs, after)


def most(pods: int) -> int:
    """How many may be wanted at most while there are so many."""
    return pods + max(1, pods // STEP)


def figures(record: InstanceRecord, now: Millis) -> Figures:
    """One pod's, from its record."""
    age = None if record.lru_time >= NEVER or record.lru_time <= 0 else Millis(max(0, now - record.lru_time))
    idle = Units(min(record.idle, record.used))
    return Figures(record.capacity, record.used, idle, age, record.rpm, record.calls, record.loads_in_progress, max(1, record.load_threads))


def runtime_of(labels: Labels) -> str:
    """The runtime that pods with these labels serve: the name behind `rt:`; without one, all labels."""
    named = [label.removeprefix("rt:") for label in labels if label.startswith("rt:")]
    return named[0] if named else ",".join(labels)


def told(wanted: Wanted, inputs: Inputs) -> dict[str, object]:
    """The decision and what it was made from, as plain JSON; times in milliseconds."""
    return {
        "pods": len(inputs.pods),
        "wanted": wanted.pods,
        "reason": wanted.reason,
        "needs": [asdict(need) for need in wanted.needs],
        "inputs": asdict(inputs),
    }


def _needs(inputs: Inputs) -> Iterable[Need]:
    pods, aims = inputs.pods, inputs.aims
    there = len(pods)
    age = _age(pods)
    if age is None or not _full(pods, sum(pod.capacity for pod in pods)):
        yield Need("the cache has room", 0)
    else:
        words = f"the full cache keeps a model {age // SECOND} s without a call, and is to keep it {aims.age // SECOND} s"
        yield Need(words, _parts(there * aims.age, max(1, age)))
    rpm, calls = sum(pod.rpm for pod in pods), sum(pod.calls for pod in pods)
    yield Need(f"{rpm // there} calls a minute a pod, with {aims.rpm} aimed at", _parts(rpm, aims.rpm))
    yield Need(f"{calls / there / 100:.1f} calls run at a time on a pod, with {aims.calls / 100:g} aimed at", _parts(calls, aims.calls))
    loads, slots = sum(pod.loads for pod in pods), sum(pod.slots for pod in pods)
    yield Need(f"{loads} loads are queued or run, and {slots} can run at a time", there + 1 if loads > ROUNDS * slots else 0)


def _suffices(inputs: Inputs, stay: int) -> bool:
    """Whether so many pods would do, with something to spare."""
    pods, aims = inputs.pods, inputs.aims
    there = len(pods)
    capacity = _capacity_of(stay, [pod.capacity for pod in pods])
    in_use = sum(pod.used - pod.idle for pod in pods)
    age = _age(pods)
    return (
        stay >= 1
        and in_use * 100 <= capacity * ROOMY
        and (age is None or not _full(pods, capacity) or age * stay * 100 >= aims.age * there * SPARE)
        and sum(pod.rpm for pod in pods) * 100 <= aims.rpm * stay * EASE
        and sum(pod.calls for pod in pods) * 100 <= aims.calls * stay * EASE
        and sum(pod.loads for pod in pods) * there <= sum(pod.slots for pod in pods) * stay
    )


def _capacity_of(stay: int, capacities: Sequence[int]) -> int:
    """What so many pods have at least; those that there are not yet are like the smallest one."""
    ascending = sorted(capacities)
    return sum(ascending[: max(0, stay)]) + ascending[0] * max(0, stay - len(ascending))


def _full(pods: Sequence[Figures], capacity: int) -> bool:
    return sum(pod.used for pod in pods) * 100 > capacity * FULL


def _age(pods: Sequence[Figures]) -> Millis | None:
    """The mean over the pods with models; the placement of models keeps these near each other."""
    ages = [pod.age for pod in pods if pod.age is not None]
    return Millis(sum(ages) // len(ages)) if ages else None


def _parts(whole: int, part: int) -> int:
    """How many parts cover the whole."""
    return -(-whole // part)


def _since(before: Millis | None, now: Millis) -> Millis:
    return now if before is None else before


def _may_grow(before: Memory, there: int, short: Millis, inputs: Inputs) -> bool:
    """At once up to the pods that there are; beyond them when things have settled and the shortage lasts."""
    now, settle = inputs.now, inputs.aims.settle
    return before.wanted < there or (_lasts(before.since, now, settle) and _lasts(short, now, settle // PRESS))


def _lasts(since: Millis, now: Millis, long: int) -> bool:
    return now - since >= long


def _less(after: Memory, now: Millis) -> Memory:
    """One pod fewer; the next one has to be earned anew."""
    return replace(after, wanted=after.wanted - 1, calm=now)


def _why(after: Memory, needs: Sequence[Need], inputs: Inputs) -> str:
    """Why the number stays."""
    if after.short is not None:
        return f"{needs[0].what}; waiting whether that lasts"
    if after.wanted > len(inputs.pods):
        return f"a pod more is to come: {needs[0].what}" if needs[0].pods >= after.wanted else "a pod more was wanted, and calm has to last"
    if after.wanted < len(inputs.pods):
        return f"{after.wanted} would do, and would have for {inputs.aims.calm // SECOND} s"
    if after.calm is not None:
        return f"one fewer may do; calm has to last {inputs.aims.calm // SECOND} s"
    return "enough, and not too many"
