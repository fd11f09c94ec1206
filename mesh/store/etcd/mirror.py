"""The registry as it is known here: every record of the mesh with the revision that wrote it, and who is told of changes."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

from mesh.core.registry.origins import Epochs, Origin
from mesh.store.etcd.deletions import Deletions
from mesh.store.etcd.layout import ALIASES, MODELS, TABLES, Change, Layout, Table, end_of
from mesh.store.etcd.tables import tables
from mesh.store.tables import RecordTable, Revisions

log = logging.getLogger(__name__)

Listener = Callable[[str, Any], None]


class Version(NamedTuple):
    """A record as it is known here.

    Attributes:
        record: None if there is none.
        revision: that wrote it; 0 if there is none.
        known_at: a revision at which this was so.
        fault: why what etcd has cannot be read.
    """

    record: Any
    revision: int
    known_at: int
    fault: str = ""


class Owed(NamedTuple):
    """A record that is shown as this pod knows it, while etcd still has an older one, or lacks it, or has one that was deleted.

    Attributes:
        table, id: whose.
        origin: when it was known, or seen to be deleted.
    """

    table: Table
    id: str
    origin: Origin


class Versions:
    """Revisions as they were at one time."""

    def __init__(self, revisions: Mapping[str, Revisions]) -> None:
        self._revisions = revisions

    def of(self, table: Table, name: str) -> int:
        """The revision that wrote a record; 0 if there was none."""
        return self._revisions[table.name].of(name)


class Mirror:
    """Read at once by everybody; written by what follows etcd, and by writers that cannot wait for that."""

    def __init__(self) -> None:
        self.revision = 0
        """Every change up to this revision is in."""
        self.tables: dict[str, RecordTable] = tables()
        self.listeners: dict[str, list[Listener]] = {name: [] for name in TABLES}
        self.marker = ""
        """Tells the etcd that the revisions are of from others; empty until it was met."""
        self.epochs = Epochs()
        """The etcds that were followed so far, by their markers."""
        self.deletions = Deletions()
        self.owed: dict[bytes, Owed] = {}
        """What a reset of etcd lost and is still to be written again."""
        self._ahead: dict[bytes, int] = {}
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def version(self, table: Table, name: str, key: bytes) -> Version:
        """What is known of a record."""
        known = self.tables[table.name].known(name)
        return Version(known.record, known.revision, max(self.revision, known.revision, self._ahead.get(key, 0)), known.fault)

    def versions(self) -> Versions:
        """The revision of everything there is."""
        return Versions({name: table.all_revisions() for name, table in self.tables.items()})

    def known(self, layout: Layout, begin: bytes, end: bytes) -> Iterator[tuple[bytes, int]]:
        """Keys from `begin` on and before `end` of which a version is known, with its revision."""
        for name, table in self.tables.items():
            prefix = layout.key(TABLES[name], "")
            if begin >= end_of(prefix) or end <= prefix:
                continue
            first, last = begin.removeprefix(prefix) if begin > prefix else b"", end.removeprefix(prefix) if end < end_of(prefix) else None
            for ident, revision in table.revisions(_text(first), None if last is None else _text(last)):
                yield prefix + ident.encode(), revision

    @property
    def is_blank(self) -> bool:
        """Whether nothing is known."""
        return not (self.owed or self._ahead or len(self.deletions) or any(map(len, self.tables.values())))

    def may_load(self, key: bytes) -> bool:
        """Whether nothing but the record itself concerns what is to be shown under a key."""
        return key not in self.owed and key not in self._ahead and self.deletions.of(key) is None

    def take(self, changes: Iterable[Change]) -> None:
        """Takes changes in order of their revisions, all of one revision at once, and has each told."""
        for revision, group in groupby(changes, attrgetter("revision")):
            self._take([change for change in group if self._ahead.get(change.key, 0) < revision])

    def fold(self, changes: Iterable[Change]) -> None:
        """Takes the changes of one own write before they come with the others; they are not told again then."""
        news = [change for change in changes if max(self._revision(change), self._ahead.get(change.key, 0)) < change.revision]
        self._ahead.update({change.key: change.revision for change in news})
        self._take(news)

    def reach(self, revision: int) -> None:
        """Notes that every change up to `revision` is in."""
        self.revision = revision
        self._ahead = {key: ahead for key, ahead in self._ahead.items() if ahead > revision}
        waiting, self._waiting = self._waiting, []
        for wanted, future in waiting:
            if wanted > revision:
                self._waiting.append((wanted, future))
            elif not future.done():
                future.set_result(None)

    def follows(self, marker: str) -> None:
        """The revisions from now on are of the etcd with this marker."""
        if self.marker != marker:
            self.marker = marker
            self.epochs.enter(marker)

    def restart(self) -> None:
        """The store is another one, or an older one was put back: revisions say nothing any more."""
        self.revision = 0
        self._ahead.clear()
        for table in self.tables.values():
            table.forget_revisions()

    def owe(self, change: Change, origin: Origin) -> None:
        """Goes on showing what is known here, knowing that etcd has the change instead (or nothing, if that is a deletion)."""
        self.tables[change.table.name].revise(change.id, change.revision if change.record is not None else 0)
        self.owed[change.key] = Owed(change.table, change.id, origin)

    def fill(self, changes: Iterable[Change]) -> None:
        """Takes records from a snapshot, before anybody listens."""
        for change in changes:
            self._keep(change)

    async def reached(self, revision: int, within: float) -> bool:
        """Waits until every change up to `revision` is in, so many seconds at most; whether it is."""
        if self.revision >= revision:
            return True
        future = asyncio.get_running_loop().create_future()
        entry = (revision, future)
        self._waiting.append(entry)
        try:
            await asyncio.wait_for(future, within)
        except TimeoutError:
            return False
        finally:
            self._waiting = [other for other in self._waiting if other is not entry]
        return True

    def _take(self, changes: list[Change]) -> None:
        for change in changes:
            self._keep(change)
        for change in changes:
            if not change.fault:
                self._tell(change)

    def _revision(self, change: Change) -> int:
        return self.tables[change.table.name].known(change.id).revision

    def _keep(self, change: Change) -> None:
        self.owed.pop(change.key, None)
        table = self.tables[change.table.name]
        if change.fault:
            # A record that was readable stays as it was: to show it as deleted would unload its model everywhere.
            log.error("%s in etcd is passed over: %s", change.key.decode(errors="replace"), change.fault)
            table.put_aside(change.id, change.revision, change.fault)
        elif change.record is None:
            table.remove(change.id)
            if change.table in (MODELS, ALIASES):
                self.deletions.note(change.key, Origin(self.marker, change.revision))
        else:
            self.deletions.forget(change.key)
            table.put(change.id, change.record, change.revision, change.text)

    def _tell(self, change: Change) -> None:
        for listener in self.listeners[change.table.name]:
            self._call(listener, change.id, change.record)

    def _call(self, listener: Callable[..., None], *news: Any) -> None:
        try:
            listener(*news)
        except Exception:
            log.exception("a listener to the registry failed; the others are told")


def _text(part: bytes) -> str:
    """Part of a key as a bound for names: the same names are before it. That of a key that is no text ends with a character that is."""
    try:
        return part.decode()
    except UnicodeDecodeError as error:
        rest = part[error.start :]
        point = bisect_left(range(0x110000), rest, key=lambda point: chr(point).encode("utf-8", "surrogatepass"))
        return part[: error.start].decode() + chr(min(point, 0x10FFFF))
