"""What was decided here and by what: a bounded book that `explain` reads, and by which a decision can be made again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from mesh.core.ids import ModelId
from mesh.core.units import Millis

KEPT = 2_048
"""Decisions that a pod remembers."""


class Kind(Enum):
    """What was decided about."""

    PLACEMENT = "placement"
    ROUTING = "routing"
    EVICTION = "eviction"
    SCALE_UP = "scale-up"
    SCALE_DOWN = "scale-down"
    RETRY = "retry"
    REFUSAL = "refusal"


class Candidate(NamedTuple):
    """One that could have been chosen, a pod or a model.

    Attributes:
        name: of the pod or the model.
        chosen: whether it was.
        score: the figures that it was judged by, name -> value, in the order of their weight.
        why: in words, why it lost; empty for the chosen one.
    """

    name: str
    chosen: bool
    score: dict[str, object]
    why: str = ""


class Evidence(Protocol):
    """What a decision was made from, frozen: values, never the live objects."""

    def again(self) -> str:
        """Makes the decision once more from what was recorded; the same outcome as `Decision.outcome`."""
        ...

    def candidates(self) -> Sequence[Candidate]:
        """All that could have been chosen, the chosen one first."""
        ...

    def would_change(self) -> Sequence[str]:
        """In words, what would have made the outcome another one."""
        ...

    def inputs(self) -> dict[str, object]:
        """The recorded inputs as plain JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision.

    Attributes:
        outcome: the chosen pod's or model's id, or a number; what `Evidence.again` answers.
        reason: in words for users.
        request: id of the request that it was made for; empty if for none.
        evidence: what it was made from; None for one that has a reason and no alternative.
    """

    kind: Kind
    model: ModelId
    at: Millis
    outcome: str
    reason: str
    request: str = ""
    evidence: Evidence | None = None


class Decisions:
    """The latest decisions of one pod, oldest first; those beyond the bound are forgotten."""

    def __init__(self, kept: int = KEPT) -> None:
        self._book: deque[Decision] = deque(maxlen=kept)

    def __iter__(self) -> Iterator[Decision]:
        return iter(self._book)

    def note(self, decision: Decision) -> None:
        """Writes a decision down."""
        self._book.append(decision)
