"""Memory that the model server holds and no model accounts for: what is the server's way, what is a leak, and when that is too much.

One figure says little: servers import libraries with the first model of a kind, allocators keep pages that were freed, and sizes of
models are estimates. All of that comes to rest. A leak does not: with every so many unloads it is as much more. So the trend is looked
at over rounds of loads and unloads, by the least that was held beyond the models in each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from mesh.core.errors import Malformed
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import from_json, to_json

NAME = "recycling"
"""What the JSON calls the function."""

ROUNDS = 10
"""Unloads from one step of the trend to the next."""
STEPS = 10
"""Steps that the trend goes back: what was taken once, as libraries are, is no part of it after so many."""
LEAST = 4
"""Steps without which there is no trend."""
GROWTH = 1 << 20
"""Bytes that each half of the trend has to grow: less is noise."""

RECYCLE = "recycle"
KEEP = ""
"""Outcomes."""


class Trend(Enum):
    """How the memory beyond models goes."""

    EARLY = "too early to tell"
    STEADY = "steady"
    GROWING = "growing"


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement, with what is true at that moment; sizes in bytes.

    Attributes:
        process: names the model server's process; another one begins anew.
        held: its resident memory.
        models: what the models that load, serve or leave are said to take.
        unloads: that this pod has ordered, ever.
    """

    process: str
    held: int
    models: int
    unloads: int


class Floor(NamedTuple):
    """One step of the trend: the unloads before it, and the least that was held beyond models in it, in bytes; maybe below 0."""

    unloads: int
    beyond: int


def trend_of(floors: Sequence[Floor]) -> Trend:
    """Of the steps, oldest first.

    Growing means that it grew in both halves, and in the later one not much more slowly: what comes to rest grows less and less.
    """
    if len(floors) <= LEAST:
        return Trend.EARLY
    first, middle, last = floors[0], floors[(len(floors) - 1) // 2], floors[-1]
    before, after = middle.beyond - first.beyond, last.beyond - middle.beyond
    as_fast = 2 * after * (middle.unloads - first.unloads) >= before * (last.unloads - middle.unloads)
    grows = before >= GROWTH and after >= GROWTH and as_fast
    return Trend.GROWING if grows else Trend.STEADY


@dataclass(frozen=True, slots=True)
class Recycling:
    """What is decided by whether the model server is to be ended and begun anew; evidence of that decision. Sizes in bytes.

    Attributes:
        unused: held, and accounted for neither by models nor by what an empty server holds.
        limit: of it; 0 for none.
        floors: as of `trend_of`.
    """

    unused: int
    limit: int
    floors: tuple[Floor, ...]

    def again(self) -> str:
        """RECYCLE or KEEP. What does not grow would be there again soon after, so it is kept however much it is."""
        due = 0 < self.limit <= self.unused and trend_of(self.floors) is Trend.GROWING
        return RECYCLE if due else KEEP

    def reason(self) -> str:
        """For users."""
        return (
            f"the model server holds {_mib(self.unused)} that nothing uses, {_mib(self.each())} more with each unload; "
            f"MESH_RECYCLE_RUNTIME allows {_mib(self.limit)}"
        )

    def each(self) -> int:
        """Bytes more with each unload, on average over the trend."""
        if len(self.floors) < 2:
            return 0
        first, last = self.floors[0], self.floors[-1]
        return (last.beyond - first.beyond) // (last.unloads - first.unloads)

    def candidates(self) -> Sequence[Candidate]:
        """There is one server only."""
        return []

    def would_change(self) -> Sequence[str]:
        """What would have left it running."""
        return [
            f"MESH_RECYCLE_RUNTIME above {self.unused} bytes, or unset",
            "models, or a model server, that give their memory back when unloaded",
        ]

    def inputs(self) -> dict[str, object]:
        """As JSON; sizes in bytes."""
        return to_json(NAME, self)

    @classmethod
    def from_json(cls, data: Any) -> Recycling:
        """Reads `inputs()`.

        Raises:
            Malformed: something is missing or of another type.
        """
        raw = from_json(cls, data)
        try:
            floors = tuple(Floor(int(unloads), int(beyond)) for unloads, beyond in raw.floors)
        except (TypeError, ValueError) as error:
            raise Malformed(f"floors of a recycling are not what was recorded: {error}") from None
        return cls(raw.unused, raw.limit, floors)


class Leaks:
    """Follows the memory of one pod's model server.

    Args:
        limit: bytes held and not used beyond which the server is to be recycled; 0: never.

    Attributes:
        sample: the latest; None before there is one.
        empty: what the server holds without models, as far as is known: the first sample less its models, or less if it was seen empty.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.sample: Sample | None = None
        self.empty = 0
        self._floors: deque[Floor] = deque(maxlen=STEPS + 1)
        self._floor = Floor(0, 0)

    def seen(self, sample: Sample) -> None:
        """Takes a measurement; later ones of the same process have no fewer unloads."""
        beyond = sample.held - sample.models
        if self.sample is None or self.sample.process != sample.process:
            self._floors.clear()
            self.empty, self._floor = max(0, beyond), Floor(sample.unloads, beyond)
        elif sample.unloads - self._floor.unloads >= ROUNDS:
            self._floors.append(self._floor)
            self._floor = Floor(sample.unloads, beyond)
        else:
            self._floor = Floor(self._floor.unloads, min(self._floor.beyond, beyond))
        self.sample = sample
        if not sample.models:
            self.empty = min(self.empty, sample.held)

    @property
    def unused(self) -> int:
        """Bytes held, and accounted for neither by models nor by what an empty server holds."""
        return 0 if self.sample is None else max(0, self.sample.held - self.sample.models - self.empty)

    @property
    def trend(self) -> Trend:
        """How what is held beyond models goes."""
        return trend_of(self._floors)

    def grounds(self) -> Recycling:
        """What is decided by at this moment."""
        return Recycling(self.unused, self.limit, tuple(self._floors))

    def told(self) -> str:
        """The trend in words."""
        if self.trend is Trend.EARLY:
            return f"it takes {ROUNDS * (LEAST + 1)} unloads or more to tell whether that grows"
        over = self._floors[-1].unloads - self._floors[0].unloads
        if self.trend is Trend.STEADY:
            return (
                f"over {over} unloads it did not go on growing: libraries, freed pages that are kept, or models larger than they are told"
            )
        return f"over {over} unloads it grew by {_mib(self.grounds().each())} with each: the model server, or a model's code, leaks memory"


def limit_of(setting: str, capacity: int) -> int:
    """Bytes that `MESH_RECYCLE_RUNTIME` means: a number of bytes, or a part of the capacity for models, `20%`; 0 if it is not set."""
    if setting.endswith("%"):
        return max(1, capacity * int(setting[:-1]) // 100)
    return int(setting) if setting else 0


def _mib(size: int) -> str:
    """Bytes for people."""
    return f"{size / (1 << 20):.1f} MiB"
