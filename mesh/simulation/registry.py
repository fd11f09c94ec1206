"""One pod's registry of a simulated store: mirrors lag, writes take time and collide, the way there may be cut, leases run out."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mesh.core.errors import MeshError, StoreUnavailable
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.edits import Edit
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.units import Millis
from mesh.simulation.loop import Process, later
from mesh.simulation.mirror import Mirror
from mesh.simulation.store import ALIASES, CANDIDATES, INSTANCES, MODELS, NOTHING, PARAMETERS, TABLES, TTL, Cell, Key, SimulatedStore
from mesh.store.election import Candidacy, Election
from mesh.store.registry import AliasListener, InstanceListener, LeadershipListener, ModelListener, ParameterListener, Trouble

log = logging.getLogger(__name__)

OPERATION, KNOWN = 3.5, 0.5
"""Seconds that a read or write may take: of a store that answered before, and of one that is known to be away."""
MOST_TRIES = 100
"""Conflicts of one change after which it is given up."""
RESEED = 0.2
"""Seconds at most until what a reset lost is written again (`mesh.store.etcd.reseeding`)."""


class _News(NamedTuple):
    """What one registry is to be shown.

    Attributes:
        at: when, in seconds of the loop.
        revision: that all of it was written with.
        changes: the cells as they are from then on.
        lost: whether models and aliases that go were lost by a reset, not deleted.
    """

    at: float
    revision: int
    changes: tuple[tuple[Key, Cell], ...]
    lost: bool


class SimulatedRegistry:
    """One pod's registry.

    Attributes:
        cut_off: the store cannot be reached from here.
        lag: seconds that its mirrors are late, beside those of the store.
    """

    read_only = False

    def __init__(self, store: SimulatedStore, process: Process) -> None:
        self._store, self._process = store, process
        self._mirrors = {table: Mirror(store.records[table], store.order[table]) for table in TABLES}
        self._listeners: dict[str, list[Callable[[Any, Any], None]]] = {table: [] for table in TABLES}
        self._news: deque[_News] = deque()
        self._next: asyncio.TimerHandle | None = None
        self._election = Election(self._mirrors[CANDIDATES], lambda _: self._certain())
        self._listeners[CANDIDATES].append(lambda _name, _since: self._election.look())
        self._own: dict[Key, Any] = {}
        self._alive = True
        """The lease."""
        self._sure = True
        """Whether the lease cannot have run out for all that the pod knows."""
        self._expiry: asyncio.TimerHandle | None = None
        self._reached = asyncio.Event()
        self._closed = False
        self.trouble: Trouble | None = None
        """Since when the store is known not to answer."""
        self.cut_off, self.lag = False, 0.0
        store.registries.append(self)
        self.reach()

    # Mirrors

    @property
    def models(self) -> Mapping[ModelId, ModelRecord]:
        """Mirror of all models."""
        return self._mirrors[MODELS]

    @property
    def aliases(self) -> Mapping[AliasId, AliasRecord]:
        """Mirror of all aliases."""
        return self._mirrors[ALIASES]

    @property
    def instances(self) -> Mapping[PodId, InstanceRecord]:
        """Mirror of the records of pods whose lease lives."""
        return self._mirrors[INSTANCES]

    @property
    def parameters(self) -> Mapping[str, str]:
        """Mirror of what operators set."""
        return self._mirrors[PARAMETERS]

    @property
    def leader(self) -> PodId | None:
        """The candidate that has stood longest."""
        return self._election.leader

    @property
    def leads(self) -> bool:
        """Whether that is this pod, and its lease is certain to live."""
        return self._election.leads

    def listen(self, model: ModelListener, alias: AliasListener) -> None:
        """Has changes told."""
        self._listeners[MODELS].append(model)
        self._listeners[ALIASES].append(alias)

    def listen_to_instances(self, instance: InstanceListener) -> None:
        """Has changes of pods told."""
        self._listeners[INSTANCES].append(instance)

    def listen_to_parameters(self, parameter: ParameterListener) -> None:
        """Has changes of parameters told."""
        self._listeners[PARAMETERS].append(parameter)

    def listen_to_leadership(self, listener: LeadershipListener) -> None:
        """Has told when this pod begins or ceases to lead."""
        self._election.listen(listener)

    # Writing

    async def change(self, edit: Edit) -> MeshError | None:
        """Applies an edit atomically, again on conflict. Errors as of `mesh.store.registry.Registry`."""
        fresh = False
        for _ in range(MOST_TRIES):
            attempt = _Attempt(self, self._store if fresh else None)
            refusal = edit.apply(attempt)
            await self._travel()
            if any(self._store.get(key).revision != revision for key, revision in attempt.read.items()):
                fresh = True
                await self._travel()
                continue
            revision = self._store.write(attempt.written) if refusal is None and attempt.written else self._store.revision
            await self._travel()
            self._catch_up(revision)
            return refusal
        raise StoreUnavailable(f"{MOST_TRIES} times others changed the same records first")

    async def publish(self, pod: PodId, record: InstanceRecord) -> None:
        """Writes the record of this pod; it lives with its lease."""
        await self._put((INSTANCES, pod), record)

    async def stand_for_leader(self, pod: PodId) -> None:
        """Makes this pod a candidate."""
        await self._put((CANDIDATES, self._election.stand(pod)), None)

    async def close(self) -> None:
        """Ends the session: what it published goes at once if the store can be reached, else with the lease."""
        if self._closed:
            return
        if self._reachable():
            self._store.end(self)
        else:
            later(TTL, self._store.expire, self)
        self._leave()
        self._election.withdraw()

    def kill(self) -> None:
        """The pod was killed: what it published goes with the lease."""
        if not self._closed:
            later(self._store.random.uniform(0.8, 1) * TTL, self._store.expire, self)
            self._leave()

    def _leave(self) -> None:
        self._closed = True
        self._store.registries.remove(self)
        for timer in (self._expiry, self._next):
            if timer is not None:
                timer.cancel()

    async def _travel(self) -> None:
        """One message to the store or back.

        Raises:
            StoreUnavailable: it cannot be reached for too long.
        """
        await asyncio.sleep(self._store.random.uniform(*self._store.delay))
        if not self._reachable():
            try:
                await asyncio.wait_for(self._reached.wait(), OPERATION if self.trouble is None else KNOWN)
            except TimeoutError:
                since = Millis(int(asyncio.get_running_loop().time() * 1000))
                self.trouble = self.trouble or Trouble(since, "Problem connecting to etcd: the simulated store does not answer; try again")
                raise StoreUnavailable(self.trouble.message) from None

    async def _put(self, key: Key, record: Any) -> None:
        self._own[key] = record
        await self._travel()
        if self._alive and not self._closed:
            self._write_own(key)

    def _write_own(self, key: Key) -> None:
        known, record = self._store.get(key), self._own[key]
        if key[0] == CANDIDATES:
            if known.session is self:
                return
            record = Candidacy(self._store.revision + 1)
        self._store.write({key: record}, self)

    # Reaching the store

    def reach(self) -> None:
        """To be told when the store, or the way to it, comes or goes."""
        if self._reachable():
            self._reached.set()
            self.trouble = None
            self._sure = True
            self._look()
            if self._expiry is not None:
                self._expiry.cancel()
                self._expiry = None
            if not self._alive:
                later(self._store.random.uniform(0, 2), self._return)
            self._deliver_later()
            return
        self._reached.clear()
        if self._expiry is None and self._alive:
            self._expiry = later(self._store.random.uniform(0.8, 1) * TTL, self._expire)

    def session_lost(self) -> None:
        """The store does not know the lease any more; the pod notices with its next sign of life."""
        self._alive = False
        later(self._store.random.uniform(0, TTL / 5), self._return)

    def _expire(self) -> None:
        """A store that is away itself lets no lease run out, but starts them anew."""
        self._expiry, self._sure = None, False
        self._look()
        if self._store.away:
            self._expiry = later(TTL, self._expire)
            return
        self._alive = False
        self._store.end(self)

    def _return(self) -> None:
        if self._closed or self._alive or not self._reachable():
            return
        self._alive = True
        for key in self._own:
            self._write_own(key)
        self._look()

    def _reachable(self) -> bool:
        return not (self._store.away or self.cut_off)

    def _certain(self) -> bool:
        return self._alive and self._sure and not self._closed

    def _look(self) -> None:
        """Has a change of who leads told, in the pod's own process."""
        if not self._closed:
            asyncio.get_running_loop().call_soon(self._election.look, context=self._process.context)

    # Following the store

    def version(self, key: Key) -> Cell:
        """A record as the mirror shows it."""
        late = self._mirrors[key[0]].late.get(key[1])
        return self._store.get(key) if late is None else late[0]

    def hear(self, changes: tuple[tuple[Key, Cell], ...], before: Mapping[str, Mapping[str, Cell]], *, lost: bool) -> None:
        """Takes what was written together, to be shown in a while."""
        for (table, name), _ in changes:
            late = self._mirrors[table].late
            shown, count = late[name] if name in late else (before[table].get(name, NOTHING), 0)
            late[name] = shown, count + 1
        lag = self._store.random.uniform(*self._store.lag) + self.lag
        self._news.append(_News(asyncio.get_running_loop().time() + lag, self._store.revision, changes, lost))
        self._deliver_later()

    def _deliver_later(self) -> None:
        if self._next is None and self._news and self._reachable() and not self._closed:
            wait = max(0.0, self._news[0].at - asyncio.get_running_loop().time())
            context = self._process.context
            self._next = asyncio.get_running_loop().call_later(wait, self._deliver, context=context)

    def _deliver(self) -> None:
        self._next = None
        now = asyncio.get_running_loop().time()
        while self._news and self._news[0].at <= now and self._reachable() and not self._closed:
            self._take(self._news.popleft())
        self._deliver_later()

    def _catch_up(self, revision: int) -> None:
        """Shows everything up to a revision at once."""
        while self._news and not self._closed and self._news[0].revision <= revision:
            self._take(self._news.popleft())

    def _take(self, news: _News) -> None:
        """Shows what was written together, then tells it."""
        before = {key: self.version(key).record for key, _ in news.changes} if news.lost else {}
        for (table, name), cell in news.changes:
            late = self._mirrors[table].late
            count = late[name][1] - 1
            if count:
                late[name] = cell, count
            else:
                del late[name]
        if news.lost:
            self._tell_reset(news, before)
            return
        for (table, name), cell in news.changes:
            for listener in self._listeners[table]:
                _call(listener, name, cell.record)

    def _tell_reset(self, news: _News, before: Mapping[Key, Any]) -> None:
        """As after a reset of etcd: models and aliases that went are written again, all else is told as changed."""
        lost: dict[Key, Any] = {}
        for key, cell in news.changes:
            table, name = key
            if before[key] is not None and cell is NOTHING and table in (MODELS, ALIASES):
                lost[key] = before[key]
            elif before[key] != cell.record:
                for listener in self._listeners[table]:
                    _call(listener, name, cell.record)
        if lost:
            self._process.begin(self._write_again(lost))

    async def _write_again(self, lost: Mapping[Key, Any]) -> None:
        """Unless somebody wrote them meanwhile; all pods begin at once, and the first that gets through does it."""
        while not self._closed:
            await asyncio.sleep(self._store.random.uniform(0, RESEED))
            try:
                await self._travel()
            except StoreUnavailable:
                continue
            if missing := {key: record for key, record in lost.items() if self._store.get(key) is NOTHING}:
                self._store.write(missing)
            return


class _Attempt:
    """One run of an edit: remembers what it read, so that a commit can tell whether that still holds."""

    def __init__(self, registry: SimulatedRegistry, store: SimulatedStore | None) -> None:
        self._look = store.get if store else registry.version
        self._seen: dict[Key, Any] = {}
        self.read: dict[Key, int] = {}
        self.written: dict[Key, Any] = {}

    def model(self, model: ModelId) -> ModelRecord | None:
        found: ModelRecord | None = self._get((MODELS, model))
        return found

    def alias(self, alias: AliasId) -> AliasRecord | None:
        found: AliasRecord | None = self._get((ALIASES, alias))
        return found

    def instance(self, pod: PodId) -> InstanceRecord | None:
        found: InstanceRecord | None = self._get((INSTANCES, pod))
        return found

    def put_model(self, model: ModelId, record: ModelRecord | None) -> None:
        self._note((MODELS, model))
        self.written[MODELS, model] = record

    def put_alias(self, alias: AliasId, record: AliasRecord | None) -> None:
        self._note((ALIASES, alias))
        self.written[ALIASES, alias] = record

    def _get(self, key: Key) -> Any:
        self._note(key)
        return self.written[key] if key in self.written else self._seen[key]

    def _note(self, key: Key) -> None:
        if key not in self.read:
            self._seen[key], self.read[key], _ = self._look(key)


def _call(listener: Callable[..., None], *news: Any) -> None:
    try:
        listener(*news)
    except Exception:
        log.exception("a listener to the registry failed; the others are told")
