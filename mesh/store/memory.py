"""The registry of a mesh in one process: as asynchronous and as contested as a remote one, so that nothing learns to rely on less."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mesh.core.errors import MeshError
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.edits import Edit
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.store.election import Candidacy, Election
from mesh.store.registry import AliasListener, InstanceListener, LeadershipListener, ModelListener, ParameterListener, Trouble

log = logging.getLogger(__name__)

_MODELS, _ALIASES, _INSTANCES, _PARAMETERS, _CANDIDATES = _TABLES = ("models", "aliases", "instances", "parameters", "candidates")

_Key = tuple[str, str]
"""Table and name."""


class _Cell(NamedTuple):
    """A record, the revision that wrote it (0 if there is none), and the session it ends with."""

    record: Any = None
    revision: int = 0
    session: MemoryRegistry | None = None


_NOTHING = _Cell()


class MemoryStore:
    """What several registries of one process share: `MemoryStore().registry()` for each pod. Gone with the process."""

    def __init__(self) -> None:
        self.next_revision = 1
        self._cells: dict[_Key, _Cell] = {}
        self._registries: list[MemoryRegistry] = []

    def registry(self) -> MemoryRegistry:
        """Another pod's registry, its mirrors complete; closing it ends what it published."""
        return MemoryRegistry(self)

    def join(self, registry: MemoryRegistry) -> None:
        """Has a registry shown what there is, and told what is written from now on."""
        self._registries.append(registry)
        registry.take(list(self._cells.items()))

    def get(self, key: _Key) -> _Cell:
        """What there is now, whatever the mirrors show."""
        return self._cells.get(key, _NOTHING)

    def set_parameter(self, name: str, value: str | None) -> None:
        """What an operator does: sets a parameter of the mesh, or removes it with None."""
        self.write({(_PARAMETERS, name): value})

    def write(self, news: Mapping[_Key, Any], session: MemoryRegistry | None = None) -> None:
        """Writes records together; None deletes. All registries will show them, each in its own time and all in this order.

        Args:
            news: the records.
            session: which they end with.
        """
        revision, self.next_revision = self.next_revision, self.next_revision + 1
        changes = []
        for key, record in news.items():
            before = self.get(key)
            if record is None and before is _NOTHING:
                continue
            cell = _NOTHING if record is None else _Cell(record, revision, session)
            if record is None:
                del self._cells[key]
            else:
                self._cells[key] = cell
            changes.append((key, cell))
        for registry in self._registries:
            registry.hear(changes)

    def end(self, session: MemoryRegistry) -> None:
        """Removes what ends with a session."""
        self._registries.remove(session)
        if ended := [key for key, cell in self._cells.items() if cell.session is session]:
            self.write(dict.fromkeys(ended))


class MemoryRegistry:
    """One pod's registry of a `MemoryStore`; without one, of a store that no other pod sees."""

    read_only = False
    trouble: Trouble | None = None

    def __init__(self, store: MemoryStore | None = None) -> None:
        self._store = store or MemoryStore()
        self._tables: dict[str, dict[Any, Any]] = {table: {} for table in _TABLES}
        self._listeners: dict[str, list[Callable[[Any, Any], None]]] = {table: [] for table in _TABLES}
        self._versions: dict[_Key, int] = {}
        self._news: deque[list[tuple[_Key, _Cell]]] = deque()
        self._election = Election(self._tables[_CANDIDATES], lambda _: True)
        self._listeners[_CANDIDATES].append(lambda _name, _since: self._election.look())
        self._closed = False
        self._store.join(self)

    @property
    def models(self) -> Mapping[ModelId, ModelRecord]:
        """Mirror of all models."""
        return self._tables[_MODELS]

    @property
    def aliases(self) -> Mapping[AliasId, AliasRecord]:
        """Mirror of all aliases."""
        return self._tables[_ALIASES]

    @property
    def instances(self) -> Mapping[PodId, InstanceRecord]:
        """Mirror of the records of all pods whose registry is open."""
        return self._tables[_INSTANCES]

    @property
    def parameters(self) -> Mapping[str, str]:
        """Mirror of what `MemoryStore.set_parameter` set."""
        return self._tables[_PARAMETERS]

    @property
    def leader(self) -> PodId | None:
        """The candidate that has stood longest."""
        return self._election.leader

    @property
    def leads(self) -> bool:
        """Whether that is this pod."""
        return self._election.leads

    def listen(self, model: ModelListener, alias: AliasListener) -> None:
        """Has changes told."""
        self._listeners[_MODELS].append(model)
        self._listeners[_ALIASES].append(alias)

    def listen_to_instances(self, instance: InstanceListener) -> None:
        """Has changes of pods told."""
        self._listeners[_INSTANCES].append(instance)

    def listen_to_parameters(self, parameter: ParameterListener) -> None:
        """Has changes of parameters told."""
        self._listeners[_PARAMETERS].append(parameter)

    def listen_to_leadership(self, listener: LeadershipListener) -> None:
        """Has told when this pod begins or ceases to lead."""
        self._election.listen(listener)

    async def change(self, edit: Edit) -> MeshError | None:
        """Applies an edit atomically, again on conflict."""
        fresh = False
        while True:
            attempt = _Attempt(self, self._store if fresh else None)
            refusal = edit.apply(attempt)
            # Others get their turn between reading and writing, as they would with a remote store.
            await asyncio.sleep(0)
            if any(self._store.get(key).revision != revision for key, revision in attempt.read.items()):
                fresh = True
                continue
            if refusal is None:
                self._store.write(attempt.written)
            self.catch_up()
            return refusal

    async def publish(self, pod: PodId, record: InstanceRecord) -> None:
        """Writes the record of this pod; it lives until `close`."""
        await self._put((_INSTANCES, pod), lambda: record)

    async def stand_for_leader(self, pod: PodId) -> None:
        """Makes this pod a candidate until `close`."""
        key = (_CANDIDATES, self._election.stand(pod))
        # Standing again does not lose the place.
        await self._put(key, lambda: self._store.get(key).record or Candidacy(self._store.next_revision))

    async def close(self) -> None:
        """Ends what this pod published."""
        if not self._closed:
            self._closed = True
            self._store.end(self)
            self._election.withdraw()

    async def _put(self, key: _Key, record: Callable[[], Any]) -> None:
        await asyncio.sleep(0)
        if not self._closed:
            self._store.write({key: record()}, self)

    def version(self, key: _Key) -> _Cell:
        """A record as the mirror shows it."""
        table, name = key
        return _Cell(self._tables[table].get(name), self._versions.get(key, 0))

    def hear(self, changes: list[tuple[_Key, _Cell]]) -> None:
        """Takes what was written together, a turn of the event loop later."""
        self._news.append(changes)
        asyncio.get_running_loop().call_soon(self.catch_up)

    def catch_up(self) -> None:
        """Shows and tells all that was written so far."""
        while self._news and not self._closed:
            self.take(self._news.popleft())

    def take(self, changes: list[tuple[_Key, _Cell]]) -> None:
        """Shows what was written together, then tells it."""
        for (table, name), cell in changes:
            if cell is _NOTHING:
                self._tables[table].pop(name, None)
                self._versions.pop((table, name), None)
            else:
                self._tables[table][name] = cell.record
                self._versions[table, name] = cell.revision
        for (table, name), cell in changes:
            for listener in self._listeners[table]:
                try:
                    listener(name, cell.record)
                except Exception:
                    log.exception("a listener to the registry failed; the others are told")


class _Attempt:
    """One run of an edit: remembers what it read, so that a commit can tell whether that still holds."""

    def __init__(self, registry: MemoryRegistry, store: MemoryStore | None) -> None:
        """Reads the mirror, or the store once that has shown the mirror to be late."""
        self._look = store.get if store else registry.version
        self._seen: dict[_Key, Any] = {}
        self.read: dict[_Key, int] = {}
        self.written: dict[_Key, Any] = {}

    def model(self, model: ModelId) -> ModelRecord | None:
        """The model's record as this attempt sees it."""
        found: ModelRecord | None = self._get((_MODELS, model))
        return found

    def alias(self, alias: AliasId) -> AliasRecord | None:
        """The alias's record as this attempt sees it."""
        found: AliasRecord | None = self._get((_ALIASES, alias))
        return found

    def instance(self, pod: PodId) -> InstanceRecord | None:
        """A pod's own record as this attempt sees it."""
        found: InstanceRecord | None = self._get((_INSTANCES, pod))
        return found

    def put_model(self, model: ModelId, record: ModelRecord | None) -> None:
        """Writes on commit."""
        self._put((_MODELS, model), record)

    def put_alias(self, alias: AliasId, record: AliasRecord | None) -> None:
        """Writes on commit."""
        self._put((_ALIASES, alias), record)

    def _get(self, key: _Key) -> Any:
        self._note(key)
        return self.written[key] if key in self.written else self._seen[key]

    def _put(self, key: _Key, record: Any) -> None:
        self._note(key)
        self.written[key] = record

    def _note(self, key: _Key) -> None:
        if key not in self.read:
            self._seen[key], self.read[key], _ = self._look(key)
