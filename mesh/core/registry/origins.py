"""When a record was known: what decides between an old backup, a pod that was away, and what users have done since.

Revisions of one store can be compared; those of two stores only if it is known which of them came first. A record that a pod writes again
after a reset carries its origin with it (`restored`, our addition) through all that pods write of it. What a user writes has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from mesh.core.registry.records import AliasRecord, ModelRecord

Record = TypeVar("Record", ModelRecord, AliasRecord)

FIELD = "restored"
"""Of a record that was written again after a reset: the marker of the store that it comes from, and its revision there."""
MOST = 16
"""Stores that are remembered, in their order."""


class Origin(NamedTuple):
    """A revision of the store that has this marker."""

    marker: str
    revision: int


class Epochs:
    """The stores that took each other's place, oldest first, each by its marker."""

    def __init__(self, markers: Iterable[str] = ()) -> None:
        self._markers = list(markers)[-MOST:]

    def __contains__(self, marker: object) -> bool:
        return marker in self._markers

    @property
    def markers(self) -> list[str]:
        """All that are remembered."""
        return list(self._markers)

    def enter(self, marker: str) -> None:
        """From now on it is this one."""
        self._markers = [*(known for known in self._markers if known != marker), marker][-MOST:]

    def newer(self, mine: Origin, other: Origin) -> bool:
        """Whether what is known here is known to be newer; what cannot be compared is not."""
        if mine.marker == other.marker:
            return mine.revision > other.revision
        if self._markers[-1:] == [mine.marker]:
            # Whatever the other store was, this one took its place in the end.
            return True
        if mine.marker not in self or other.marker not in self:
            return False
        return self._markers.index(mine.marker) > self._markers.index(other.marker)


def origin_of(record: ModelRecord | AliasRecord) -> Origin | None:
    """Where a record comes from that was written again after a reset; None for one that a user wrote."""
    found: Any = record.unknown.get(FIELD)
    match found:
        case [str(marker), int(revision)]:
            return Origin(marker, revision)
        case _:
            return None


def restored(record: Record, origin: Origin) -> Record:
    """The record as it is written again."""
    return record.with_(unknown={**record.unknown, FIELD: list(origin)})


def anew(record: Record) -> Record:
    """The record as a user writes it: nothing that was known before counts against it."""
    return record if FIELD not in record.unknown else record.with_(unknown=_without(record.unknown))


def _without(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != FIELD}
