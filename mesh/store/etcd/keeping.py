"""The pod's snapshot of the registry: read at a start that needs it, written again as the registry changes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import orjson

from mesh.core.registry.origins import Epochs, Origin
from mesh.core.units import Millis
from mesh.store.etcd.layout import ALIASES, INSTANCES, MODELS, PARAMETERS, TABLES, Layout, Raw, Table
from mesh.store.etcd.mirror import Mirror
from mesh.store.etcd.snapshot import GONE, Entry, Header, SnapshotFile

T = TypeVar("T")
log = logging.getLogger(__name__)

EVERY = 30.0
"""Seconds between two snapshots at least, unless it is said (`MESH_SNAPSHOT_EVERY`)."""
SHARE = 20
"""Between two snapshots lies so many times what one takes: 5 % of a processor at most, however many models there are."""
LAST = 3.0
"""Seconds that a snapshot may take for one more to be written when the pod stops."""
PORTION = 50
"""Records that are encoded, or read, at a time; then others get their turn."""
_KEPT = (PARAMETERS, INSTANCES, ALIASES, MODELS)


class Keeper:
    """Writes what the mirror shows, and fills a mirror with what was written.

    Args:
        file: where.
        layout: keys of the mesh.
        mirror: what is kept.
        cluster: tells the id of the cluster that the mirror follows.
        every: seconds between two snapshots at least.
    """

    def __init__(self, file: SnapshotFile, layout: Layout, mirror: Mirror, cluster: Callable[[], int], every: float = EVERY) -> None:
        self._file, self._layout, self._mirror, self._cluster, self._every = file, layout, mirror, cluster, every
        self._task: asyncio.Task[None] | None = None
        self._kept: object = None
        self._took = 0.0
        self._fault = ""

    async def header(self) -> Header | None:
        """What the snapshot is of; None if there is none that can be used."""
        return await self._file.header()

    async def load(self, header: Header, *, records: bool) -> int:
        """Has the mirror show what the snapshot has; how many records that is.

        Args:
            header: of the snapshot.
            records: False for the deletions alone, where the records are going to be read from etcd.
        """
        count = 0
        self._mirror.epochs = Epochs(header.markers)
        async for batch in self._file.entries():
            for portion in _portions(batch):
                for entry in portion:
                    if entry.table.startswith(GONE):
                        self._mirror.deletions.note(self._key(entry), Origin(orjson.loads(entry.value), entry.revision))
                    elif records and entry.table in TABLES:
                        self._take(entry)
                        count += 1
                await asyncio.sleep(0)
        self._mirror.follows(header.marker)
        if records:
            self._mirror.reach(header.revision)
        return count

    def _take(self, entry: Entry) -> None:
        # Most records need not be read to be kept.
        if not self._mirror.tables[entry.table].load(entry.id, entry.value, entry.revision):
            change = self._layout.change(Raw(self._key(entry), entry.revision, _value(entry)))
            self._mirror.fill([change] if change else [])

    def begin(self, *, compare: bool) -> None:
        """Writes from now on.

        Args:
            compare: first notes as deleted what the snapshot has and the mirror, which was read from the same etcd, has not.
        """
        self._task = asyncio.get_running_loop().create_task(self._keep(compare=compare), name="keeping a snapshot of the registry")

    async def close(self) -> None:
        """Ends it with a last snapshot, unless that takes long."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._took < LAST:
            await self._write()

    async def _keep(self, *, compare: bool) -> None:
        while True:
            try:
                if compare:
                    await self._note_deletions()
                    compare = False
                await self._write()
            except Exception:
                log.exception("the snapshot of the registry is not written, which is a bug")
            await asyncio.sleep(random.uniform(1, 1.2) * max(self._every, SHARE * self._took))

    async def _note_deletions(self) -> None:
        """What went while the pod was not there."""
        async for batch in self._file.entries():
            for entry in batch:
                if entry.table in (MODELS.name, ALIASES.name) and entry.id not in self._mirror.tables[entry.table]:
                    self._mirror.deletions.note(self._key(entry), Origin(self._mirror.marker, self._mirror.revision))

    def _told(self, fault: str) -> None:
        """Tells what keeps the snapshot from being written, or that nothing does any more; each once."""
        if fault and fault != self._fault:
            log.warning(
                "the snapshot %s (MESH_SNAPSHOT_PATH) is not written: %s; without it this pod cannot start while etcd is away. Its folder "
                "has to exist and to be writable; it is tried again every %g s",
                self._file.path,
                fault,
                self._every,
            )
        elif self._fault and not fault:
            log.info("the snapshot %s (MESH_SNAPSHOT_PATH) is written again", self._file.path)
        self._fault = fault

    async def _write(self) -> None:
        """Writes a snapshot if there is news, and it is whole and of one etcd."""
        marker = self._mirror.marker
        state = (marker, self._mirror.revision, self._mirror.deletions.changes)
        if not marker or self._mirror.owed or state == self._kept:
            return
        begun = time.monotonic()
        now = Millis(time.time_ns() // 1_000_000)
        base, markers = self._layout.base.decode(), self._mirror.epochs.markers
        header = Header(base, self._cluster(), marker, self._mirror.revision, now, markers)
        writer = self._file.writer(header)
        try:
            async for entries in self._entries():
                await writer.add(entries)
            if self._mirror.owed or self._mirror.marker != marker:
                # Another etcd took its place meanwhile: half of this is of the one, half of the other.
                return
            await writer.finish()
            self._kept = state
            self._told("")
        except OSError as error:
            self._told(error.strerror or str(error))
        finally:
            await writer.give_up()
            self._took = time.monotonic() - begun

    async def _entries(self) -> AsyncIterator[list[Entry]]:
        for gone in _portions(self._mirror.deletions.all()):
            told = [(change, origin) for key, origin in gone if (change := self._layout.change(Raw(key, 0, None)))]
            yield [Entry(GONE + change.table.name, change.id, origin.revision, orjson.dumps(origin.marker)) for change, origin in told]
            await asyncio.sleep(0)
        for table in _KEPT:
            for portion in _portions(self._mirror.tables[table.name].texts()):
                yield [entry for name, revision, text in portion if (entry := self._entry(table, name, revision, text))]
                await asyncio.sleep(0)

    def _entry(self, table: Table, name: str, revision: int, text: bytes | None) -> Entry | None:
        if text is None:
            record = self._mirror.tables[table.name].get(name)
            if record is None or (table is INSTANCES and record.shutting_down):
                return None
            text = orjson.dumps(record if table is PARAMETERS else table.write(record))
        return Entry(table.name, name, revision, text)

    def _key(self, entry: Entry) -> bytes:
        return self._layout.key(TABLES[entry.table.removeprefix(GONE)], entry.id)


def _value(entry: Entry) -> bytes:
    # Parameters are plain text in etcd.
    return orjson.loads(entry.value).encode() if entry.table == PARAMETERS.name else entry.value


def _portions(entries: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(entries)
    while portion := list(islice(rest, PORTION)):
        yield portion
