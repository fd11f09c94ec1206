"""Decisions as pods told them, with what follows from their recorded inputs worked out here: candidates, changes, whether they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mesh.cli import output
from mesh.core.errors import Malformed
from mesh.core.explaining.decisions import Candidate, Evidence
from mesh.core.explaining.replay import evidence_from_json

_HEADS = {"rpm": "REQ/MIN", "cache_age_s": "CACHE AGE", "weight_bytes": "SIZE", "unused_ms": "UNUSED FOR", "failed_at_ms": "FAILED AT"}
_APART = frozenset({"zone", "version"})
"""Figures that say nothing where all are alike. Labels are long: where they matter, the reason names them."""

_SHOWN = 12
"""Candidates in a table; JSON has all that were kept."""


@dataclass(frozen=True)
class Retold:
    """One decision.

    Attributes:
        pod: that made it.
        told: the pod's words.
        evidence: made from the inputs that came along; None without any.
        trouble: why they cannot be read.
    """

    pod: str
    told: Mapping[str, Any]
    evidence: Evidence | None = None
    trouble: str = ""

    @classmethod
    def of(cls, pod: str, told: Mapping[str, Any]) -> Retold:
        """From a pod's words."""
        inputs = told.get("inputs")
        if inputs is None:
            return cls(pod, told)
        try:
            return cls(pod, told, evidence_from_json(inputs))
        except Malformed as error:
            return cls(pod, told, None, error.message)

    @property
    def kind(self) -> str:
        """As of `mesh.core.explaining.decisions.Kind`."""
        return str(self.told["kind"])

    @property
    def at(self) -> int:
        """Epoch milliseconds."""
        return int(self.told["at_ms"])

    @property
    def holds(self) -> bool | None:
        """Whether the same comes out when it is decided again; None if its inputs are not known."""
        return None if self.evidence is None else self.evidence.again() == self.told["outcome"]

    def candidates(self) -> Sequence[Candidate]:
        """What could have been chosen."""
        if self.evidence is not None:
            return self.evidence.candidates()
        return [Candidate(**one) for one in self.told.get("candidates", ())]

    def document(self, *, verified: bool = False) -> dict[str, Any]:
        """As JSON, with what was worked out."""
        found: dict[str, Any] = {"pod": self.pod, **self.told}
        if self.evidence is not None:
            found["candidates"] = [one._asdict() for one in self.candidates()]
            found["would_change"] = list(self.evidence.would_change())
        if verified:
            found["holds"] = self.holds
        return found

    def line(self) -> str:
        """In a line."""
        request = f" [request {self.told['request']}]" if self.told.get("request") else ""
        about = f" of {self.told['model']}" if self.kind == "eviction" else ""
        return f"{clock(self.at)}  {self.pod}  {self.kind}{about}: {self.told['reason']}{request}"

    def details(self) -> Iterator[str]:
        """Candidates as a table, then what would have changed it; indented."""
        if self.trouble:
            yield f"  (its inputs cannot be read: {self.trouble})"
        shown = list(self.candidates())
        if shown:
            yield from (f"  {line}".rstrip() for line in _table(shown[:_SHOWN]))
        if len(shown) > _SHOWN:
            yield f"  and {len(shown) - _SHOWN} more (-o json has them)"
        changes = self.evidence.would_change() if self.evidence is not None else ()
        if changes:
            yield "  What would have changed it:"
            yield from (f"  - {change}" for change in changes)


def retold(views: Mapping[str, Any]) -> list[Retold]:
    """The decisions in what pods said, by time; a service's are those of its models."""
    found = []
    for pod, view in views.items():
        for part in (view, view.get("active"), view.get("target")):
            found += [Retold.of(pod, told) for told in (part or {}).get("decisions", ())]
    return sorted(found, key=lambda one: one.at)


def clock(millis: int) -> str:
    """A time of day to the millisecond; with its date if that is not today."""
    at = datetime.fromtimestamp(millis / 1000)
    day = "" if at.date() == datetime.now().date() else f"{at:%Y-%m-%d} "
    return f"{day}{at:%H:%M:%S}.{millis % 1000:03}"


def _table(candidates: Sequence[Candidate]) -> list[str]:
    keys = [key for key in dict.fromkeys(key for one in candidates for key in one.score) if _says_something(key, candidates)]
    header = ["  CANDIDATE", *(_HEADS.get(key, key.upper()) for key in keys), "WHY NOT"]
    rows = [
        [f"* {one.name}" if one.chosen else f"  {one.name}", *(_figure(key, one.score.get(key, "")) for key in keys), one.why]
        for one in candidates
    ]
    return output.columns(rows, header)


def _says_something(key: str, candidates: Sequence[Candidate]) -> bool:
    """Whether a figure is worth a column: places are told apart by it, or it is what people look for first."""
    if key == "labels":
        return False
    values = [str(one.score.get(key, "")) for one in candidates if one.score]
    return len(set(values)) > 1 or (key not in _APART and values[0] not in ("", "0", "None", "False"))


def _figure(key: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return _amount(key, value)
    return str(value)


def _amount(key: str, value: int) -> str:
    if key.endswith("_at_ms"):
        return clock(value)
    if key.endswith("_ms"):
        return output.span(value // 1000) if value >= 10_000 else f"{value / 1000:.1f} s"
    if key.endswith("_s"):
        return output.span(value)
    return output.size(value) if key.endswith("_bytes") else str(value)
