"""What a replay tells: how often a model was there, how long the first answer took, what was loaded and evicted, over time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Moment:
    """One of the equal parts of a trace's time.

    Attributes:
        at: seconds at which it ends.
        calls: that began in it; `hits` of them found their model, `errors` of them got no answer.
        loads, evictions: that began in it.
        copies: of models that serve at its end, all pods together; `resident` different models.
        used: bytes that all pods' models take at its end.
    """

    at: float
    calls: int = 0
    hits: int = 0
    errors: int = 0
    loads: int = 0
    evictions: int = 0
    copies: int = 0
    resident: int = 0
    used: int = 0


@dataclass(slots=True)
class Report:
    """All figures of a replay; times in seconds.

    Attributes:
        setup: what was replayed on, as plain JSON.
        first: of calls whose model was nowhere, the time to their answer.
        others: of calls that found their model, the same.
        failures: calls without an answer, by error.
        notes: what was assumed of models.
        complaints: what a correct mesh never does; any is a bug of the mesh or the simulator.
    """

    setup: dict[str, Any]
    moments: list[Moment]
    first: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def total(self, what: str) -> int:
        """Of `calls`, `hits`, `errors`, `loads` or `evictions`."""
        return sum(int(getattr(moment, what)) for moment in self.moments)

    @property
    def hit_rate(self) -> float:
        """Share of calls that found their model serving somewhere; 0 without calls."""
        return self.total("hits") / max(1, self.total("calls"))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: totals, times in ms, the course over time."""
        last = self.moments[-1]
        return {
            "setup": self.setup,
            **{what: self.total(what) for what in ("calls", "hits", "errors", "loads", "evictions")},
            "hitRate": round(self.hit_rate, 6),
            "timeToFirstInferenceMs": spread(self.first),
            "hitMs": spread(self.others),
            "copies": {"mean": round(sum(moment.copies for moment in self.moments) / len(self.moments), 2), "end": last.copies},
            "residentModels": {"most": max(moment.resident for moment in self.moments), "end": last.resident},
            "usedBytes": {"most": max(moment.used for moment in self.moments), "end": last.used},
            "failures": dict(sorted(self.failures.items())),
            "notes": self.notes,
            "complaints": self.complaints,
            "overTime": [asdict(moment) for moment in self.moments],
        }


def spread(seconds: Sequence[float]) -> dict[str, float] | None:
    """How times are distributed, in ms; None without any."""
    if not seconds:
        return None
    ascending = sorted(seconds)

    def part(share: float) -> float:
        return round(1000 * ascending[min(len(ascending) - 1, int(share * len(ascending)))], 3)

    return {
        "median": part(0.5),
        "p95": part(0.95),
        "p99": part(0.99),
        "most": part(1.0),
        "mean": round(1000 * sum(ascending) / len(ascending), 3),
    }
