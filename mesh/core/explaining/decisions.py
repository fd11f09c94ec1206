"""What was decided here and by what: a bounded book that `explain` reads, and by which a decision can be made again."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mesh.core.ids import ModelId
from mesh.core.units import Millis

KEPT = 512
"""Decisions of each kind that a pod remembers: a burst of one kind does not drive out the few of another."""

ROOM = 32_768
"""Candidates that all remembered evidence holds in full, some 300 bytes each; of older decisions the best ones remain."""


class Kind(Enum):
    """What was decided about."""

    PLACEMENT = "placement"
    ROUTING = "routing"
    EVICTION = "eviction"
    SCALE_UP = "scale-up"
    SCALE_DOWN = "scale-down"
    RETRY = "retry"
    REFUSAL = "refusal"
    REPAIR = "repair"
    RECYCLE = "recycle"
    ROLLOUT = "rollout"


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
        """The recorded inputs as plain JSON; `decided_by` names the function in `mesh.core.explaining.replay` that reads them."""
        ...


@runtime_checkable
class Heavy(Protocol):
    """Evidence whose size grows with the mesh. The book makes the oldest ones light when all together hold too much."""

    @property
    def size(self) -> int:
        """Candidates that it holds in full."""
        ...

    def light(self) -> Evidence:
        """What remains of it in little space."""
        ...


class Decision(NamedTuple):
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


class _Entry:
    """A decision in the book; `size` is what its evidence counted when it was written down."""

    __slots__ = ("decision", "number", "size")

    def __init__(self, number: int, decision: Decision, size: int) -> None:
        self.number, self.decision, self.size = number, decision, size


_Index = dict[str, dict[int, _Entry]]


class Decisions:
    """The latest decisions of one pod, oldest first; those beyond the bounds are forgotten.

    Args:
        kept: of each kind.
        room: as of `ROOM`.
    """

    def __init__(self, kept: int = KEPT, room: int = ROOM) -> None:
        self._kept, self._room = kept, room
        self._books: dict[Kind, deque[_Entry]] = {kind: deque() for kind in Kind}
        self._by_model: _Index = {}
        self._by_request: _Index = {}
        self._heavy: dict[int, _Entry] = {}
        self._held = 0
        self._count = 0
        self.noted = dict.fromkeys(Kind, 0)
        """How many decisions of each kind were written down, ever."""

    def __iter__(self) -> Iterator[Decision]:
        return (entry.decision for entry in merge(*self._books.values(), key=_number))

    def __len__(self) -> int:
        return sum(map(len, self._books.values()))

    @property
    def held(self) -> int:
        """Candidates that evidence holds in full; at most the room, or one decision's."""
        return self._held

    def note(self, decision: Decision) -> None:
        """Writes a decision down."""
        book = self._books[decision.kind]
        if len(book) == self._kept:
            self._forget(book.popleft())
        self._count += 1
        self.noted[decision.kind] += 1
        entry = _Entry(self._count, decision, _size(decision.evidence))
        book.append(entry)
        self._by_model.setdefault(decision.model, {})[entry.number] = entry
        if decision.request:
            self._by_request.setdefault(decision.request, {})[entry.number] = entry
        if entry.size:
            self._heavy[entry.number] = entry
            self._held += entry.size
            while self._held > self._room and len(self._heavy) > 1:
                self._lighten(next(iter(self._heavy.values())))

    def find(self, *, model: str = "", request: str = "", kind: Kind | None = None, limit: int | None = None) -> list[Decision]:
        """Decisions, oldest first; of more than `limit` the latest. Empty text and None mean any."""
        entries: Iterable[_Entry]
        if request:
            entries = self._by_request.get(request, {}).values()
        elif model:
            entries = self._by_model.get(model, {}).values()
        elif kind is not None:
            entries = self._books[kind]
        else:
            entries = merge(*self._books.values(), key=_number)
        decisions = (entry.decision for entry in entries)
        found = [one for one in decisions if model in ("", one.model) and kind in (None, one.kind)]
        return found if limit is None else found[max(0, len(found) - limit) :]

    def requests(self, prefix: str, limit: int) -> list[str]:
        """Ids of requests that begin so, the latest first."""
        return list(islice((request for request in reversed(self._by_request) if request.startswith(prefix)), limit))

    def _forget(self, entry: _Entry) -> None:
        _drop(self._by_model, entry.decision.model, entry)
        if entry.decision.request:
            _drop(self._by_request, entry.decision.request, entry)
        if self._heavy.pop(entry.number, None) is not None:
            self._held -= entry.size

    def _lighten(self, entry: _Entry) -> None:
        evidence: object = entry.decision.evidence
        assert isinstance(evidence, Heavy)
        del self._heavy[entry.number]
        self._held -= entry.size
        entry.decision = entry.decision._replace(evidence=evidence.light())


def _size(evidence: object) -> int:
    # To ask whether it is `Heavy` takes as long as to choose among ten pods. Other evidence may have a size of its own: of a model, say.
    size: int = getattr(evidence, "size", 0) if hasattr(evidence, "light") else 0
    return size


def _number(entry: _Entry) -> int:
    return entry.number


def _drop(index: _Index, key: str, entry: _Entry) -> None:
    entries = index[key]
    del entries[entry.number]
    if not entries:
        del index[key]


def told(decision: Decision, *, candidates: bool = True, changes: bool = False, inputs: bool = False) -> dict[str, Any]:
    """A decision as plain JSON.

    Args:
        decision: any.
        candidates: with what could have been chosen.
        changes: with what would have changed it, which takes making it some tens of times.
        inputs: with what it was made from, which is long.
    """
    evidence = decision.evidence
    document: dict[str, Any] = {
        "kind": decision.kind.value,
        "model": decision.model,
        "at_ms": decision.at,
        "outcome": decision.outcome,
        "reason": decision.reason,
        "request": decision.request or None,
    }
    if evidence is not None:
        given = evidence.inputs() if inputs else {}
        # Inputs that are no longer kept tell nothing; what remains of them does.
        if candidates or given.get("forgotten"):
            document["candidates"] = [one._asdict() for one in evidence.candidates()]
        if changes:
            document["would_change"] = list(evidence.would_change())
        if inputs:
            document["inputs"] = given
    return document


def size_of(decision: Decision) -> int:
    """Candidates that its evidence holds; at least 1."""
    return max(1, _size(decision.evidence))
