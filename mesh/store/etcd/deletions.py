"""Models and aliases that this pod saw deleted, so that nothing brings them back: no old backup, and no pod that missed it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from mesh.core.registry.origins import Origin

MOST = 100_000
"""Deletions that are remembered; the oldest go first."""


class Deletions:
    """Deletions by key, in the order in which they were seen."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._seen: OrderedDict[bytes, Origin] = OrderedDict()
        self.changes = 0
        """Counts up with every change."""

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, key: bytes, origin: Origin) -> None:
        """A record was seen to be deleted then."""
        self.changes += 1
        self._seen[key] = origin
        self._seen.move_to_end(key)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)

    def forget(self, key: bytes) -> None:
        """There is such a record again, and by right."""
        if self._seen.pop(key, None) is not None:
            self.changes += 1

    def of(self, key: bytes) -> Origin | None:
        """When it was deleted, as far as is remembered."""
        return self._seen.get(key)

    def all(self) -> Iterator[tuple[bytes, Origin]]:
        """All of them, oldest first."""
        return iter(list(self._seen.items()))
