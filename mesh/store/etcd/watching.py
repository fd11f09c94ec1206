"""Keeps the mirror up to date: a snapshot at one revision, then every change after it, however often the connection breaks."""

from __future__ import annotations

import asyncio
import gc
import heapq
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from itertools import groupby, islice
from operator import attrgetter
from typing import Any, NamedTuple

from aetcd import rpc
from grpc import aio

from mesh.core.errors import MeshError, StoreUnavailable
from mesh.store.etcd import reading
from mesh.store.etcd.comparing import Comparison
from mesh.store.etcd.connection import OPERATION, Connection
from mesh.store.etcd.layout import Layout, Raw, end_of
from mesh.store.etcd.mirror import Mirror
from mesh.store.etcd.reading import pages
from mesh.store.etcd.resets import Resets
from mesh.store.etcd.seldom import Seldom

log = logging.getLogger(__name__)

PORTION = 50
"""Changes that are read and taken in at a time, then others get their turn; more only if one transaction made them. A thread would not do:
it holds the interpreter for longer than that before it gives it up."""
YOUNG = 1.0
"""Seconds that a watch is left alone after it was opened."""
_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_COMPACTED = "required revision has been compacted"


class Stale(Exception):
    """Changes were missed for good, or etcd is not the one that was followed: a new snapshot is needed."""


class Marker(NamedTuple):
    """The text that tells one etcd from another.

    Attributes:
        token: the text.
        made_at: the revision that wrote it.
        former: the text that stood there before, if this one was written because an older state had been put back.
    """

    token: str
    made_at: int
    former: str

    @classmethod
    def read(cls, kv: Any) -> Marker:
        """As etcd has it."""
        token, _, former = kv.value.decode(errors="replace").partition(" ")
        return cls(token, kv.mod_revision, former)


class Watcher:
    """Follows all tables of a mesh by one watch, so that changes of one transaction stay together."""

    def __init__(self, connection: Connection, layout: Layout, mirror: Mirror, resets: Resets, whole: Callable[[], None]) -> None:
        """Args:
        connection, layout, mirror: what is followed, and what shows it.
        resets: decides what of it is news.
        whole: told each time that the mirror has all that etcd has.
        """
        self._connection, self._layout, self._mirror, self._resets, self._whole = connection, layout, mirror, resets, whole
        self._end = end_of(layout.base)
        self.cluster = 0
        """Id of the cluster that is followed."""
        self._task: asyncio.Task[None] | None = None
        self._stream: Any = None
        self._opened = 0.0
        self._renewing = False
        self._seldom = Seldom()

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
        self.follow(stale=False)

    def follow(self, *, stale: bool) -> None:
        """Keeps the mirror up to date from now on; a stale one is first compared with what there is."""
        self._task = asyncio.get_running_loop().create_task(self._follow(stale=stale))

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

    async def _follow(self, *, stale: bool) -> None:
        failures = 0
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
                log.log(self._seldom.level(), "following %s was interrupted: %s", self._connection.where, _text(error))
                await self._connection.verify()
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
            self._seldom.over()
            async for events, reached in self._answers(self._stream):
                await self._take(map(_raw, events))
                self._mirror.reach(reached)
                self._whole()
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
        """A member may lag behind what was seen; a store whose latest revision is older, or that has another marker, is another one."""
        key = self._layout.marker
        answer, _ = await self._connection.call("Range", rpc.RangeRequest(key=key))
        same = answer.header.cluster_id == self.cluster and [_token(kv.value) for kv in answer.kvs] == [self._mirror.marker]
        if same and max(header.revision, answer.header.revision) >= self._mirror.revision:
            return
        revision, latest = self._mirror.revision, answer.header.revision
        self._other_store()
        raise Stale(f"etcd is another one than before, or was put back: it was at revision {revision} and is at {latest}")

    async def is_still(self, marker: str, revision: int) -> bool:
        """Whether etcd is the one with this marker, and has at least this revision.

        Raises:
            StoreUnavailable: it does not answer.
        """
        answer, _ = await self._connection.call("Range", rpc.RangeRequest(key=self._layout.marker))
        return [_token(kv.value) for kv in answer.kvs] == [marker] and answer.header.revision >= revision

    async def _mark(self) -> Marker:
        """What tells this store from one that takes its place under the same cluster id; made by the first pod that comes.

        A store that was put back has the marker that it had; it gets a new one, so that pods that come later know it for another one.
        """
        key, token = self._layout.marker, secrets.token_hex(16)
        answer, _ = await self._connection.call("Range", rpc.RangeRequest(key=key))
        found = Marker.read(answer.kvs[0]) if answer.kvs else None
        current = self._mirror.marker
        if current and not (found and found.token == current and answer.header.revision >= self._mirror.revision):
            self._other_store()
        again = found is not None and found.token != current and found.token in self._mirror.epochs
        if found is not None and found.token != self._resets.former and not again:
            return found
        value = f"{token} {found.token}" if found else token
        request = rpc.TxnRequest(
            compare=[rpc.Compare(key=key, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, mod_revision=found.made_at if found else 0)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value.encode()))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))],
        )
        answer, _ = await self._connection.call("Txn", request)
        if answer.succeeded:
            return Marker(token, answer.header.revision, found.token if found else "")
        return Marker.read(answer.responses[0].response_range.kvs[0])

    async def _refresh(self) -> None:
        """Reads everything at one revision and takes in what differs from the mirror."""
        marker = await self._mark()
        self._resets.found(*marker)
        comparison = Comparison(self._layout, self._mirror, first=self._task is None)
        revision = await self._snapshot(comparison)
        # Each portion is in the order of revisions; so is what is merged of them, without one long step.
        await self._take(heapq.merge(*comparison.news, key=_by_revision))
        for gone in _portions(comparison.gone):
            # Their order is not known.
            self._take_portion(Raw(key, revision, None) for key in gone)
            await asyncio.sleep(0)
        self._resets.over()
        self._mirror.reach(revision)
        self._whole()

    def _other_store(self) -> None:
        """Revisions that are known here say nothing about what there is now."""
        self._resets.begin()
        self._mirror.restart()

    async def _snapshot(self, comparison: Comparison) -> int:
        """Compares all that there is with what is known; the revision at which it was so."""
        revision = 0
        try:
            async with aclosing(pages(self._connection, self._layout.base, self._end)) as found:
                async for page in found:
                    revision, self.cluster = page.revision, page.cluster
                    if self._task is None and len(page.kvs) == reading.PAGE:
                        # What was read stays. The collector would go through all of it again and again, for longer each time.
                        gc.freeze()
                    for raws in comparison.compare(page):
                        self._take_portion(raws)
                        # A portion at a time, then others get their turn.
                        await asyncio.sleep(0)
        except MeshError as error:
            if _COMPACTED in error.message:
                raise Stale("it was compacted while it was read") from None
            raise
        return revision

    async def _take(self, raws: Iterable[Raw]) -> None:
        """Reads changes in the order of their revisions and takes them in, a portion at a time."""
        portion: list[Raw] = []
        for _, transaction in groupby(raws, _by_revision):
            portion.extend(transaction)
            if len(portion) >= PORTION:
                self._take_portion(portion)
                portion = []
                await asyncio.sleep(0)
        self._take_portion(portion)

    def _take_portion(self, raws: Iterable[Raw]) -> None:
        raws = list(raws)
        for raw in raws:
            if raw.key == self._layout.marker and raw.value:
                # Another pod found that this etcd had been put back, before this one began to follow it.
                self._mirror.follows(_token(raw.value))
        self._mirror.take(self._resets.news(change for change in map(self._layout.change, raws) if change))


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


_by_revision = attrgetter("revision")


def _token(value: bytes) -> str:
    return value.decode(errors="replace").partition(" ")[0]


def _portions(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(list(keys))
    while portion := list(islice(rest, PORTION)):
        yield portion


def _found(kv: Any) -> Raw:
    return Raw(kv.key, kv.mod_revision, kv.value, kv.create_revision, kv.lease)


def _raw(event: Any) -> Raw:
    return Raw(event.kv.key, event.kv.mod_revision, None) if event.type == rpc.Event.DELETE else _found(event.kv)


def _text(error: aio.AioRpcError | MeshError | TimeoutError) -> str:
    if isinstance(error, TimeoutError):
        return f"no watch was opened within {OPERATION:g} s"
    return str(error) if isinstance(error, MeshError) else f"{error.details() or error.code().name}"
