"""What is to be done next so that the pods that there are become those that are wanted: one step at a time, nothing before its successor.

Pure: pods and wishes in, a step out. A step that cannot be taken yet, because a pod is still starting, is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mesh.local.kits import Kit, Wanted


@dataclass(frozen=True)
class Seen:
    """A pod as it is: `name`, what it is made of, whether it takes calls, and whether it did since it was started."""

    name: str
    kit: Kit
    ready: bool
    served: bool

    @property
    def runtime(self) -> str:
        """The name of its runtime."""
        return self.kit.plan.name


@dataclass(frozen=True)
class Widen:
    """The single pod of a mesh, whose registry is its own memory, gives way to one with this kit that shares its registry."""

    kit: Kit


@dataclass(frozen=True)
class Restart:
    """The single pod starts again with another kit."""

    pod: str
    kit: Kit


@dataclass(frozen=True)
class Add:
    """A pod more."""

    kit: Kit


@dataclass(frozen=True)
class Replace:
    """A pod with another kit is started and, when it takes calls, this one ends."""

    pod: str
    kit: Kit


@dataclass(frozen=True)
class Remove:
    """A pod hands over what it serves, and ends."""

    pod: str
    why: str


Step: TypeAlias = Widen | Restart | Add | Replace | Remove


def next_step(pods: Sequence[Seen], wanted: Mapping[str, Wanted], *, alone: bool) -> Step | None:
    """The next step, or None if nothing is to be done or can be done now.

    Args:
        pods: in the order of their numbers.
        wanted: by runtime; one that cannot be run here yet keeps the pods that it has.
        alone: there is a single pod for good, whose registry is its own memory.
    """
    if alone:
        return _of_one(pods, wanted)
    steps = [_of(name, [one for one in pods if one.runtime == name], one) for name, one in wanted.items()]
    for kind in (Add, Replace, Remove):
        for step in steps:
            if isinstance(step, kind):
                return step
    gone = next((one for one in pods if one.runtime not in wanted), None)
    # Some pod has to take calls while others begin.
    if gone and any(one.ready for one in pods if one.runtime in wanted):
        return Remove(gone.name, f"the runtime {gone.runtime} is not wanted any more")
    return None


def _of_one(pods: Sequence[Seen], wanted: Mapping[str, Wanted]) -> Step | None:
    (pod,) = pods
    able = {name: one.kit for name, one in wanted.items() if one.kit and one.share.least}
    mine = wanted.get(pod.runtime)
    if not able or (mine and mine.kit is None):
        return None
    if able.keys() == {pod.runtime} and wanted[pod.runtime].share.least == 1:
        return Restart(pod.name, able[pod.runtime]) if able[pod.runtime] != pod.kit else None
    return Widen(able.get(pod.runtime) or next(iter(able.values())))


def _of(runtime: str, pods: Sequence[Seen], wanted: Wanted) -> Step | None:
    if wanted.kit is None:
        return None
    outdated = [one for one in pods if one.kit != wanted.kit]
    current = [one for one in pods if one.kit == wanted.kit]
    if outdated and not wanted.share.least:
        return Remove(outdated[0].name, f"no pods of {runtime} are wanted")
    if outdated:
        return _of_outdated(outdated, current, wanted.kit, wanted.share.most)
    if len(pods) < wanted.share.least:
        return Add(wanted.kit)
    if len(pods) > wanted.share.most:
        # One that does not take calls first, else the latest.
        surplus = min(reversed(pods), key=lambda one: one.ready)
        return Remove(surplus.name, f"{wanted.share.most} pods of {runtime} are wanted")
    return None


def _of_outdated(outdated: Sequence[Seen], current: Sequence[Seen], kit: Kit, most: int) -> Step | None:
    why = f"the runtime {kit.plan.name} changed"
    if any(not one.ready for one in current):
        # A document with which no pod starts costs none of those that serve.
        useless = next((one for one in outdated if not one.served), None)
        return Remove(useless.name, f"{why} before it took calls") if useless else None
    # One that does not take calls first: its end costs nothing.
    first = min(outdated, key=lambda one: one.ready)
    return Remove(first.name, why) if len(outdated) + len(current) > most else Replace(first.name, kit)
