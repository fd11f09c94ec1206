"""Pods as places for a copy. Sizes are counted in models of one size, ages in seconds before now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from mesh.core.ids import PodId
from mesh.core.placement.choice import Choice, Place, Wish, choose
from mesh.core.placement.constraints import Constraints
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis, Units

NOW = Millis(1_700_000_000_000)
MODEL = Units(6_400)
ROOM = 100
"""Models that a pod has room for."""

Draw = Callable[[int], int]


def a_place(
    pod: str,
    *,
    models: int = 0,
    free: float | None = None,
    room: int = ROOM,
    age: float | None = 3_600,
    pending: int = 0,
    aside: bool = False,
    version: int = 0,
    zone: str = "",
    labels: tuple[str, ...] = (),
    rpm: int = 0,
    threads: int = 1,
    loads: int = 0,
    shutting_down: bool = False,
    endpoint: str = "10.0.0.1:8080",
) -> Place:
    """A pod with so many models; `free` says for how many more it has room, if they are not of one size."""
    record = InstanceRecord(
        version=version,
        zone=zone,
        labels=labels,
        lru_time=NEVER if age is None else ago(age),
        count=models,
        capacity=Units(room * MODEL),
        used=Units(int((models if free is None else room - free) * MODEL)),
        load_threads=threads,
        loads_in_progress=loads,
        rpm=rpm,
        shutting_down=shutting_down,
        endpoint=endpoint,
    )
    return Place(PodId(pod), record, pending, aside)


def a_full_place(pod: str, *, age: float | None = 3_600, **figures: object) -> Place:
    """A pod whose next load evicts."""
    return a_place(pod, models=ROOM, age=age, **figures)  # type: ignore[arg-type]


def ago(seconds: float) -> Millis:
    return Millis(NOW - int(seconds * 1_000))


def first(count: int) -> int:
    return 0


def last(count: int) -> int:
    return count - 1


def nowhere(**rejected: str) -> Choice:
    """No place, for these reasons."""
    return Choice(None, (), {PodId(pod): why for pod, why in rejected.items()})


def reason(choice: Choice, pod: str) -> str:
    """Why a pod was not drawn from."""
    return choice.rejected[PodId(pod)]


def decide(
    *places: Place,
    model_type: str = "sklearn",
    used: float = 0,
    holders: Iterable[str] = (),
    zones: Mapping[str, int] | None = None,
    size: Units = MODEL,
    me: str = "",
    balanced: bool = False,
    constraints: str = "",
    outdated: Collection[str] = (),
    draw: Draw = first,
    churn_age: int = 30,
) -> Choice:
    """The choice, with reasons. The model was used `used` seconds ago; a churn age is in seconds."""
    wish = Wish(model_type, ago(used), frozenset(map(PodId, holders)), zones or {}, size, PodId(me), balanced)
    replaced = frozenset(map(PodId, outdated))
    return choose(places, wish, Constraints.parse(constraints), replaced, NOW, draw, churn_age=Millis(churn_age * 1_000), trace=True)
