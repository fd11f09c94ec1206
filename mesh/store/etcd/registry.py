"""The registry of a mesh of many pods, in etcd."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import orjson

from mesh.core.errors import Failed, MeshError, StoreUnavailable
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.edits import Edit
from mesh.core.registry.instances import InstanceRecord, instance_to_json
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.store.election import Candidacy, Election
from mesh.store.etcd.connection import Connection
from mesh.store.etcd.keeping import EVERY, Keeper
from mesh.store.etcd.layout import ALIASES, CANDIDATES, INSTANCES, MODELS, PARAMETERS, Layout, Table
from mesh.store.etcd.mirror import Mirror, Version
from mesh.store.etcd.reseeding import Reseeder
from mesh.store.etcd.resets import GRACE, Resets
from mesh.store.etcd.session import Session
from mesh.store.etcd.snapshot import Header, SnapshotFile
from mesh.store.etcd.watching import Watcher
from mesh.store.etcd.writing import Attempt, Outcome, Writer
from mesh.store.read_only import OwnCopiesOnly
from mesh.store.registry import AliasListener, InstanceListener, LeadershipListener, ModelListener, ParameterListener, Trouble

log = logging.getLogger(__name__)

MOST_TRIES = 100
"""Conflicts of one change after which it is given up; each means that somebody else's change was written."""
WATCH_PATIENCE = 1.0
"""Seconds in which a written change is to come back by the watch, in order with all others; then another watch is opened."""
RENEWED_PATIENCE = 2.5
"""Seconds in which that one is to bring it; then it is shown without, and listeners are not told what others wrote before it."""
LOOK_EVERY = 1.0
"""Seconds between looks at whether a lease that may have run out lives after all."""
_LONGEST_PAUSE = 0.1


class EtcdRegistry:
    """Mirrors, changes and ephemeral records over one etcd. Made by `open_etcd`."""

    def __init__(
        self,
        connection: Connection,
        layout: Layout,
        session: Session,
        *,
        read_only_for: PodId | None = None,
        snapshot: Path | None = None,
        snapshot_every: float = EVERY,
    ) -> None:
        """Args:
        connection, layout, session: the etcd, the keys of the mesh, the keys that end with this pod.
        read_only_for: only what this pod writes of its own copies is taken; None takes every change.
        snapshot: file from which the registry starts while etcd is away; None is none.
        snapshot_every: seconds between two snapshots at least.
        """
        self._read_only_for = read_only_for
        self._connection, self._layout, self._session = connection, layout, session
        self._mirror = Mirror()
        self._resets = Resets(self._mirror, self._doubtful, session.has)
        self._reseeder = Reseeder(connection, layout, self._mirror)
        self._watcher = Watcher(connection, layout, self._mirror, self._resets, self._caught_up)
        self._keeper: Keeper | None = None
        if snapshot is not None:
            file = SnapshotFile(snapshot, layout.base.decode())
            self._keeper = Keeper(file, layout, self._mirror, lambda: self._watcher.cluster, snapshot_every)
        self._begun_from: Header | None = None
        self._looking: asyncio.Task[None] | None = None
        self._writer = Writer(connection, layout)
        self._election = Election(self._mirror.tables[CANDIDATES.name], self._stands)
        self._look: asyncio.TimerHandle | None = None
        for table in (INSTANCES, CANDIDATES):
            self._mirror.listeners[table.name].append(self._renewer(table))
        self._mirror.listeners[CANDIDATES.name].append(lambda _name, _created: self._election.look())

    async def start(self) -> None:
        """Reads the whole registry and follows it from there; from the snapshot if etcd does not answer.

        Raises:
            StoreUnavailable: etcd cannot be reached, and there is no snapshot; "Problem connecting to etcd" is part of the message.
        """
        loop = asyncio.get_running_loop()
        # Where nobody changes anything, the lease is what shows that etcd is away.
        self._session.on_failure = lambda: loop.call_soon_threadsafe(self._look_for_etcd)
        header = await self._keeper.header() if self._keeper else None
        recalled = True
        try:
            await self._connection.check(self._layout.base)
            recalled = await self._recall(header)
            await self._watcher.start()
        except StoreUnavailable as error:
            if header is None or self.trouble is None:
                raise
            await self._start_without(header, error)
        if self._keeper:
            self._keeper.begin(compare=not recalled)

    async def _recall(self, header: Header | None) -> bool:
        """Takes from the snapshot what etcd itself cannot tell: what was deleted, and if it is another etcd now, all of it.

        Returns:
            Whether the mirror has all that the snapshot has.
        """
        if header is None or self._keeper is None:
            return True
        same = await self._watcher.is_still(header.marker, header.revision)
        await self._keeper.load(header, records=not same)
        return not same

    async def _start_without(self, header: Header, why: StoreUnavailable) -> None:
        assert self._keeper
        if not self._mirror.revision:
            count = await self._keeper.load(header, records=True)
            log.warning(
                "starting from the snapshot of the registry, because etcd does not answer; models that are called are loaded here, and "
                "written to etcd when it answers",
                extra={"snapshot_ms": header.written, "records": count, "cause": why.message},
            )
        self._watcher.cluster, self._begun_from = header.cluster, header
        self._watcher.follow(stale=True)

    @property
    def read_only(self) -> bool:
        """Whether only changes of own copies are taken."""
        return self._read_only_for is not None

    @property
    def trouble(self) -> Trouble | None:
        """Since when and how etcd does not answer."""
        trouble = self._connection.outage.trouble
        if trouble is not None and self._begun_from is not None:
            return trouble._replace(snapshot=self._begun_from.written)
        return trouble

    @property
    def models(self) -> Mapping[ModelId, ModelRecord]:
        """Mirror of all models."""
        return self._mirror.tables[MODELS.name]

    @property
    def aliases(self) -> Mapping[AliasId, AliasRecord]:
        """Mirror of all aliases."""
        return self._mirror.tables[ALIASES.name]

    @property
    def instances(self) -> Mapping[PodId, InstanceRecord]:
        """Mirror of the records of all pods whose lease lives."""
        return self._mirror.tables[INSTANCES.name]

    @property
    def parameters(self) -> Mapping[str, str]:
        """Mirror of the keys under `config/`, which operators write (reference 7.6)."""
        return self._mirror.tables[PARAMETERS.name]

    @property
    def leader(self) -> PodId | None:
        """The candidate whose key is the oldest, be it a pod of ours or a router of ModelMesh."""
        return self._election.leader

    @property
    def leads(self) -> bool:
        """Whether that is this pod, and its lease is certain to live."""
        return self._election.leads

    def listen(self, model: ModelListener, alias: AliasListener) -> None:
        """Has changes of models and aliases told."""
        self._mirror.listeners[MODELS.name].append(lambda name, record: model(ModelId(name), record))
        self._mirror.listeners[ALIASES.name].append(lambda name, record: alias(AliasId(name), record))

    def listen_to_instances(self, instance: InstanceListener) -> None:
        """Has changes of pods told."""
        self._mirror.listeners[INSTANCES.name].append(lambda name, record: instance(PodId(name), record))

    def listen_to_parameters(self, parameter: ParameterListener) -> None:
        """Has changes of `config/` told."""
        self._mirror.listeners[PARAMETERS.name].append(parameter)

    def listen_to_leadership(self, listener: LeadershipListener) -> None:
        """Has told when this pod begins or ceases to lead."""
        self._election.listen(listener)

    async def change(self, edit: Edit) -> MeshError | None:
        """Applies an edit atomically, again on conflict; what it refuses with.

        Raises:
            StoreUnavailable: etcd does not answer, or others change the same records without end; nothing is known to be written.
        """
        fresh: dict[bytes, Version] = {}
        edit = edit if self._read_only_for is None else OwnCopiesOnly(edit, self._read_only_for)
        for conflicts in range(MOST_TRIES):
            attempt = Attempt(self._layout, self._mirror, fresh)
            try:
                refusal = edit.apply(attempt)
            except Failed as unreadable:
                return unreadable
            outcome = await self._writer.commit(attempt, write=refusal is None)
            if outcome.committed:
                await self._show(attempt, outcome)
                return refusal
            fresh |= outcome.fresh
            await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.001 * 2 ** min(conflicts, 10))))
        shown = ", ".join(key.decode(errors="replace") for key in attempt.read)
        raise StoreUnavailable(f"{MOST_TRIES} times others changed {shown} first; try again when fewer do")

    async def publish(self, pod: PodId, record: InstanceRecord) -> None:
        """Writes the record of this pod; it lives until `close`, or for the lease's time after a crash.

        Raises:
            StoreUnavailable: it is not written yet; it will be as soon as etcd answers.
        """
        await self._session.put(self._layout.key(INSTANCES, pod), orjson.dumps(instance_to_json(record)))

    async def stand_for_leader(self, pod: PodId) -> None:
        """Makes this pod a candidate until `close`, beside routers of ModelMesh; a lost lease loses its place.

        Raises:
            StoreUnavailable: it does not stand yet; it will as soon as etcd answers.
        """
        name = self._election.stand(pod)
        if self._look is None:
            self._look_again()
        await self._session.put(self._layout.key(CANDIDATES, name), name.encode())

    async def close(self) -> None:
        """Removes this pod's record and candidacy, and ends all connections."""
        if self._look:
            self._look.cancel()
        self._election.withdraw()
        await self._watcher.close()
        await self._reseeder.close()
        self._resets.close()
        if self._keeper:
            await self._keeper.close()
        await self._session.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._connection.close()

    async def _show(self, attempt: Attempt, outcome: Outcome) -> None:
        """Returns when the mirror shows what the edit read and wrote."""
        revision = max((version.revision for version in attempt.read.values()), default=0)
        revision = max([revision, *(change.revision for change in outcome.changes)])
        if await self._mirror.reached(revision, WATCH_PATIENCE):
            return
        self._watcher.renew()
        if not await self._mirror.reached(revision, RENEWED_PATIENCE):
            self._mirror.fold(outcome.changes)

    def _look_for_etcd(self) -> None:
        if self.trouble is None and (self._looking is None or self._looking.done()):
            self._looking = asyncio.get_running_loop().create_task(self._connection.verify(), name="asking whether etcd answers")

    def _caught_up(self) -> None:
        """The mirror has what etcd has."""
        self._begun_from = None
        if not self.read_only:
            self._reseeder.look()

    def _doubtful(self) -> bool:
        return self._connection.outage.lately(GRACE) or self._session.doubtful(GRACE)

    def _stands(self, candidacy: Candidacy) -> bool:
        return self._session.certain > 0 and self._session.lease == candidacy.lease

    def _look_again(self) -> None:
        """Notices a lease that may have run out while etcd is away, and one that turns out to live."""
        self._election.look()
        certain = self._session.certain
        self._look = asyncio.get_running_loop().call_later(certain if certain > 0 else LOOK_EVERY, self._look_again)

    def _renewer(self, table: Table) -> Callable[[str, object], None]:
        """Has this pod's key in a table written again when somebody removes it."""

        def changed(name: str, record: object) -> None:
            if record is None:
                self._session.renew(self._layout.key(table, name))

        return changed
