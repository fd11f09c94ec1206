"""Keeps the mirror up to date: a snapshot at one revision, then every change after it, however often the connection breaks."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

from aetcd import rpc
from grpc import aio

from mesh.core.errors import MeshError, StoreUnavailable
from mesh.store.etcd.connection import OPERATION, Connection
from mesh.store.etcd.layout import Change, Layout, Raw, end_of
from mesh.store.etcd.mirror import Mirror

log = logging.getLogger(__name__)

PAGE = 500
"""Records of one read of a snapshot."""
PAGE_PATIENCE = 30.0
"""Seconds that one page may take."""
FEW = 50
"""Changes that are read on the event loop; more are read beside it."""
SLICE = 0.002
"""Seconds after which others get their turn while many changes are taken in."""
YOUNG = 1.0
"""Seconds that a watch is left alone after it was opened."""
_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_COMPACTED = "required revision has been compacted"


class Stale(Exception):
    """Changes were missed for good, or etcd is not the one that was followed: a new snapshot is needed."""


class Watcher:
    """Follows all tables of a mesh by one watch, so that changes of one transaction stay together."""

    def __init__(self, connection: Connection, layout: Layout, mirror: Mirror) -> None:
        self._connection, self._layout, self._mirror = connection, layout, mirror
        self._end = end_of(layout.base)
        self._cluster = 0
        self._task: asyncio.Task[None] | None = None
        self._stream: Any = None
        self._opened = 0.0
        self._renewing = False
        self._reset = False

    async def start(self) -> None:
        """Returns with the mirror complete.

        Raises:
            StoreUnavailable: etcd does not answer.
        """
        while True:
            try:
                await self._refresh()
                break
            except Stale:
                log.info("the registry was compacted while it was read; it is read again")
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def renew(self) -> None:
        """Opens another watch, on the endpoint that is in use now: the one there is does not bring what it should."""
        # Many changes may miss the same watch; each new one gets its time to bring them.
        if self._stream and asyncio.get_running_loop().time() > self._opened + YOUNG:
            self._renewing = True
            self._stream.cancel()

    async def close(self) -> None:
        """Stops following."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        failures, stale = 0, False
        while True:
            before = self._mirror.revision
            try:
                if stale:
                    await self._refresh()
                    stale = False
                await self._watch()
            except Stale as why:
                log.warning("the registry is read again: %s", why)
                stale = True
            except (aio.AioRpcError, MeshError, TimeoutError) as error:
                log.warning("following %s was interrupted: %s", self._connection.where, _text(error))
            except Exception:
                log.exception("following %s failed; the registry is read again", self._connection.where)
                stale = True
            failures = 1 if self._mirror.revision != before else failures + 1
            await asyncio.sleep(random.uniform(0.5, 1) * min(_LONGEST_PAUSE, _PAUSE * 2 ** min(failures, 10)))

    async def _watch(self) -> None:
        """Takes changes until the watch breaks."""
        request = rpc.WatchCreateRequest(
            key=self._layout.base, range_end=self._end, start_revision=self._mirror.revision + 1, progress_notify=True, fragment=True
        )
        address, self._stream = await self._connection.watch(request)
        self._opened = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(OPERATION):
                await self._heed(await self._stream.read())
            async for events, reached in self._answers(self._stream):
                await self._take(await self._changes([_raw(event) for event in events]))
                self._mirror.reach(reached)
        except (aio.AioRpcError, TimeoutError):
            self._connection.turn(address)
            raise
        except asyncio.CancelledError:
            # The stream's end by `renew` looks the same as that of this task.
            task = asyncio.current_task()
            if not self._renewing or (task and task.cancelling()):
                raise
        finally:
            self._renewing = False
            self._stream.cancel()
            self._stream = None

    async def _answers(self, stream: Any) -> AsyncIterator[tuple[list[Any], int]]:
        """Whole answers: their events and the revision up to which nothing is missing after them."""
        events: list[Any] = []
        while (answer := await stream.read()) is not aio.EOF:
            await self._heed(answer)
            events.extend(answer.events)
            if answer.fragment:
                continue
            # The header's revision may run ahead of events that are still to come; without events it is a note of progress.
            reached = events[-1].kv.mod_revision if events else answer.header.revision
            if reached > self._mirror.revision:
                yield events, reached
            events = []

    async def _heed(self, answer: Any) -> None:
        """Looks at what an answer says of the watch itself."""
        if answer is aio.EOF:
            raise StoreUnavailable("etcd ended the watch without a reason")
        if answer.created:
            await self._same_store(answer.header)
        if not answer.canceled:
            return
        if answer.compact_revision:
            raise Stale(f"changes after revision {self._mirror.revision} were compacted away, up to {answer.compact_revision}")
        if "auth" in answer.cancel_reason or "permission denied" in answer.cancel_reason:
            self._connection.forget_token()
        await self._same_store(answer.header)
        raise StoreUnavailable(f"etcd ended the watch: {answer.cancel_reason or 'no reason given'}")

    async def _same_store(self, header: Any) -> None:
        """A member may lag behind what was seen; a store whose latest revision is older is another one."""
        if header.cluster_id == self._cluster and header.revision >= self._mirror.revision:
            return
        answer, _ = await self._connection.call("Range", rpc.RangeRequest(key=self._layout.base, keys_only=True))
        if answer.header.cluster_id != self._cluster or answer.header.revision < self._mirror.revision:
            revision, latest = self._mirror.revision, answer.header.revision
            self._mirror.restart()
            self._reset = True
            raise Stale(f"etcd is another one than before, or was put back: it was at revision {revision} and is at {latest}")

    async def _refresh(self) -> None:
        """Reads everything at one revision and takes in what differs from the mirror."""
        revision, found = await self._snapshot()
        raws = await asyncio.to_thread(_differences, found, self._mirror.versions(), revision)
        changes = await self._changes(raws)
        if self._reset:
            changes = self._mirror.lose(changes)
            self._reset = False
        await self._take(changes)
        self._mirror.reach(revision)

    async def _snapshot(self) -> tuple[int, list[Raw]]:
        found: list[Raw] = []
        start, revision = self._layout.base, 0
        while True:
            request = rpc.RangeRequest(key=start, range_end=self._end, limit=PAGE, revision=revision)
            try:
                page, _ = await self._connection.call("Range", request, within=PAGE_PATIENCE if revision else OPERATION)
            except MeshError as error:
                if _COMPACTED in error.message:
                    raise Stale("it was compacted while it was read") from None
                raise
            revision = revision or page.header.revision
            self._cluster = page.header.cluster_id
            found.extend(Raw(kv.key, kv.mod_revision, kv.value, kv.create_revision, kv.lease) for kv in page.kvs)
            if not page.more:
                return revision, found
            start = page.kvs[-1].key + b"\0"

    async def _changes(self, raws: list[Raw]) -> list[Change]:
        return self._read(raws) if len(raws) <= FEW else await asyncio.to_thread(self._read, raws)

    async def _take(self, changes: list[Change]) -> None:
        loop = asyncio.get_running_loop()
        turn_ends = loop.time() + SLICE
        for _ in self._mirror.take(changes):
            if loop.time() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = loop.time() + SLICE

    def _read(self, raws: Iterable[Raw]) -> list[Change]:
        return [change for change in map(self._layout.change, raws) if change]


async def first_after(connection: Connection, key: bytes, revision: int) -> Raw | None:
    """The first version of a key after a revision, when there is one; None if it was compacted away.

    Raises:
        AioRpcError, TimeoutError: etcd does not answer.
    """
    async with asyncio.timeout(OPERATION):
        _, stream = await connection.watch(rpc.WatchCreateRequest(key=key, start_revision=revision + 1))
        try:
            async for answer in stream:
                if answer.canceled:
                    return None
                if answer.events:
                    return _raw(answer.events[0])
        finally:
            stream.cancel()
    return None


def _differences(found: list[Raw], known: dict[bytes, int], revision: int) -> list[Raw]:
    """What leads from what is known to what was found at a revision: puts in their order, then deletions, whose order is not known."""
    news = sorted((raw for raw in found if known.pop(raw.key, None) != raw.revision), key=lambda raw: raw.revision)
    return news + [Raw(key, revision, None) for key in known]


def _raw(event: Any) -> Raw:
    deleted = event.type == rpc.Event.DELETE
    kv = event.kv
    return Raw(kv.key, kv.mod_revision, None if deleted else kv.value, kv.create_revision, kv.lease)


def _text(error: aio.AioRpcError | MeshError | TimeoutError) -> str:
    if isinstance(error, TimeoutError):
        return f"no watch was opened within {OPERATION:g} s"
    return str(error) if isinstance(error, MeshError) else f"{error.details() or error.code().name}"
