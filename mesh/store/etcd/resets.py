"""What an etcd that took another one's place means for what is known here: who is newer, record by record.

An etcd that is empty lacks what this pod knows; one that was put back to an older state has older records, and some that were deleted.
What was written since, by users, counts whatever was before. Everything that comes from etcd passes here on its way to the mirror.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple

from mesh.core.registry.origins import Origin, origin_of
from mesh.store.etcd.layout import ALIASES, INSTANCES, MODELS, Change
from mesh.store.etcd.mirror import Mirror, Versions

GRACE = 10.0
"""Seconds for which a pod is shown that went while etcd was away or was replaced: it is as likely to come back as this one."""


class _Before(NamedTuple):
    """What was known of the etcd before: its marker, and the revision of each record."""

    marker: str
    versions: Versions


class Resets:
    """Lets changes pass that are news, keeps back what is older than what is known here.

    Args:
        mirror: what is known.
        doubtful: whether etcd is, or was a moment ago, away for long enough for leases to end.
        mine: whether a key is one of this pod's own.
    """

    def __init__(self, mirror: Mirror, doubtful: Callable[[], bool], mine: Callable[[bytes], bool]) -> None:
        self._mirror, self._doubtful, self._mine = mirror, doubtful, mine
        self._before: _Before | None = None
        self._made_at, self._made_from = 0, ""
        self._held: dict[bytes, Change] = {}

    @property
    def former(self) -> str | None:
        """The marker of the etcd whose place another one took; None if none was found."""
        return self._before and self._before.marker

    def begin(self) -> None:
        """The etcd is another one than before; what is known of the former one stands until the new one was read."""
        if self._before is None:
            self._before = _Before(self._mirror.marker, self._mirror.versions())

    def found(self, marker: str, made_at: int, made_from: str) -> None:
        """The new etcd.

        Args:
            marker: its own.
            made_at: the revision at which it got that.
            made_from: the marker that stood there before; all up to `made_at` is of that one's time. Empty if none did.
        """
        self._made_at, self._made_from = made_at, made_from
        self._mirror.follows(marker)

    def over(self) -> None:
        """The new etcd was read in full."""
        self._before = None

    def close(self) -> None:
        """Lets nothing pass any more."""
        self._held.clear()

    def news(self, changes: Iterable[Change]) -> list[Change]:
        """What of these the mirror is to take."""
        return [change for change in changes if self._is_news(change)]

    def _is_news(self, change: Change) -> bool:
        if change.table is INSTANCES:
            return self._is_news_of_pod(change)
        if change.table not in (MODELS, ALIASES) or change.fault:
            return True
        if change.record is None:
            return self._is_deletion(change)
        if self._is_past(change):
            return True
        origin = self._known(change)
        theirs = self._origin(change)
        if origin is None or theirs is None or not self._mirror.epochs.newer(origin, theirs):
            return True
        self._mirror.owe(change, origin)
        return False

    def _is_past(self, change: Change) -> bool:
        """Whether the mirror is further than this change, which it passes over then: a write of this pod came first."""
        if self._before is not None or change.key in self._mirror.owed:
            return False
        return self._mirror.version(change.table, change.id, change.key).known_at >= change.revision

    def _is_deletion(self, change: Change) -> bool:
        """Whether somebody deleted it, or it is only missing."""
        if self._before is not None:
            self._mirror.owe(change, self._known(change) or Origin(self._before.marker, 0))
            return False
        owed = self._mirror.owed.get(change.key)
        # What etcd never had cannot be deleted there.
        return owed is None or self._mirror.version(change.table, change.id, change.key).revision > 0

    def _known(self, change: Change) -> Origin | None:
        """When the record was last known here, or seen to be deleted."""
        if (owed := self._mirror.owed.get(change.key)) is not None:
            return owed.origin
        if self._before is not None and (revision := self._before.versions.of(change.table, change.id)):
            return Origin(self._before.marker, revision)
        return self._mirror.deletions.of(change.key)

    def _origin(self, change: Change) -> Origin | None:
        """When what etcd has was written; None for what was written anew since."""
        if self._before is not None and self._made_from and change.revision <= self._made_at:
            return Origin(self._made_from, change.revision)
        return origin_of(change.record)

    # Pods

    def _is_news_of_pod(self, change: Change) -> bool:
        if change.record is not None or self._mine(change.key) or not (self._before is not None or self._doubtful()):
            self._held.pop(change.key, None)
            return True
        if change.key not in self._held:
            asyncio.get_running_loop().call_later(GRACE, self._let_go, change)
        self._held[change.key] = change
        return False

    def _let_go(self, change: Change) -> None:
        """It did not come back."""
        if self._held.pop(change.key, None) is not None:
            self._mirror.take([change])
