"""A shared store as remote and fallible as etcd: leases run out, all of it may be away, lost, or put back to an older state."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, NamedTuple, Protocol

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.simulation.loop import later
from mesh.store.tables import RecordTable

TTL = 25.0
"""Seconds that a pod's records outlive its last sign of life (`mesh.store.etcd.session`, TTL)."""

MODELS, ALIASES, INSTANCES, PARAMETERS, CANDIDATES = TABLES = ("models", "aliases", "instances", "parameters", "candidates")
Key = tuple[str, str]


class Follower(Protocol):
    """A registry as its store sees it."""

    def reach(self) -> None:
        """The store, or the way to it, came or went."""
        ...

    def session_lost(self) -> None:
        """The store does not know its lease any more."""
        ...

    def hear(self, changes: tuple[tuple[Key, Cell], ...], before: Mapping[str, Mapping[str, Cell]], *, lost: bool) -> None:
        """Something was written, or lost by a reset; `before` has the cells as they were."""
        ...


class Cell(NamedTuple):
    """A record, the revision that wrote it (0 if there is none), and the session it ends with."""

    record: Any = None
    revision: int = 0
    session: Follower | None = None


NOTHING = Cell()
Backup = dict[str, dict[str, Cell]]


class SimulatedStore:
    """What all registries share.

    Args:
        random: draws all delays.
        delay: seconds that a message to or from the store takes: least and most.
        lag: seconds after which a mirror shows a write: least and most.
    """

    def __init__(self, random: Random, delay: tuple[float, float] = (0.0005, 0.003), lag: tuple[float, float] = (0.001, 0.01)) -> None:
        self.random, self.delay, self.lag = random, delay, lag
        self.revision = 1
        self.tables: Backup = {table: {} for table in TABLES}
        self.records: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
        """The records alone, which mirrors look at."""
        self.order = {table: RecordTable() for table in TABLES}
        """The same in order, with those told apart that say more than most."""
        self.registries: list[Follower] = []
        self._away = 0

    @property
    def away(self) -> bool:
        """Whether nobody is answered."""
        return self._away > 0

    # As operators and tests see it

    def seed(self, models: Mapping[ModelId, ModelRecord], aliases: Mapping[AliasId, AliasRecord]) -> None:
        """Has models and aliases registered before any pod is there."""
        for table, records in ((MODELS, models), (ALIASES, aliases)):
            for name, record in records.items():
                self.tables[table][name] = Cell(record, self.revision)
                self._keep(table, name, record)

    def leave(self) -> None:
        """Answers nobody until `come_back`; of several that took it away the last one brings it back."""
        self._away += 1
        for registry in self.registries:
            registry.reach()

    def come_back(self) -> None:
        """Answers again."""
        self._away -= 1
        for registry in list(self.registries):
            registry.reach()

    def backup(self) -> Backup:
        """All that there is."""
        return {table: dict(cells) for table, cells in self.tables.items()}

    def restore(self, backup: Backup | None = None) -> None:
        """Replaces everything by an older state, or by nothing; leases are not part of it, so that pods publish themselves again."""
        self.revision += 1
        before, self.tables = self.tables, {table: {} for table in TABLES}
        for table in (MODELS, ALIASES, PARAMETERS):
            for name, cell in (backup or {}).get(table, {}).items():
                self.tables[table][name] = cell._replace(revision=self.revision)
        changed: list[tuple[Key, Cell]] = []
        for table in TABLES:
            old, new = before[table], self.tables[table]
            gone = [name for name in old if name not in new]
            changed += [((table, name), NOTHING) for name in gone] + [((table, name), cell) for name, cell in new.items()]
        self._show(changed, before, lost=True)
        for registry in list(self.registries):
            registry.session_lost()

    # As registries see it

    def get(self, key: Key) -> Cell:
        """What there is now, whatever mirrors show."""
        return self.tables[key[0]].get(key[1], NOTHING)

    def write(self, news: Mapping[Key, Any], session: Follower | None = None) -> int:
        """Writes records together; None deletes. The revision."""
        self.revision += 1
        changes: list[tuple[Key, Cell]] = []
        before: Backup = {table: {} for table in TABLES}
        for (table, name), record in news.items():
            known = self.tables[table].get(name)
            if record is None and known is None:
                continue
            if known is not None:
                before[table][name] = known
            cell = NOTHING if record is None else Cell(record, self.revision, session)
            if record is None:
                del self.tables[table][name]
            else:
                self.tables[table][name] = cell
            changes.append(((table, name), cell))
        self._show(changes, before)
        return self.revision

    def _show(self, changes: list[tuple[Key, Cell]], before: Backup, *, lost: bool = False) -> None:
        for (table, name), cell in changes:
            self._keep(table, name, cell.record)
        told = tuple(changes)
        for registry in self.registries:
            registry.hear(told, before, lost=lost)

    def _keep(self, table: str, name: str, record: Any) -> None:
        if record is None:
            self.records[table].pop(name, None)
            self.order[table].remove(name)
        else:
            self.records[table][name] = record
            self.order[table].put(name, record, self.revision)

    def expire(self, session: Follower) -> None:
        """Ends a session whose lease ran out; while the store itself is away none does."""
        if self.away:
            later(TTL, self.expire, session)
        else:
            self.end(session)

    def end(self, session: Follower) -> None:
        """Removes what ends with a session."""
        ended = [(table, name) for table in (INSTANCES, CANDIDATES) for name, cell in self.tables[table].items() if cell.session is session]
        if ended:
            self.write(dict.fromkeys(ended))
