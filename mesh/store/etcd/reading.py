"""The whole registry read at one revision, page for page, however many records there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from aetcd import rpc

from mesh.store.etcd.connection import Connection

PAGE = 2000
"""Records of one read: some hundred KiB, which are parsed within a millisecond or two."""
AHEAD = 2
"""Pages that wait to be looked at while the next one is on its way: an etcd that stops for a moment keeps nobody waiting."""
PATIENCE = 30.0
"""Seconds that one read may take."""
FEW = 10_000
"""Keys that are counted so quickly that nothing has to be guessed."""
_WIDTH = 64
"""Bytes of a key that are looked at to guess how dense keys are."""
_GROWTH = 8
_LEAP = 256


class Page(NamedTuple):
    """All keys from `begin` on and before `end`."""

    revision: int
    cluster: int
    begin: bytes
    end: bytes
    kvs: list[Any]


class Stride:
    """Guesses the key before which a page ends.

    etcd counts, for each read, all keys up to the end of what was asked for, also beyond the limit: to read two million keys to the end
    in pages is a billion steps. So each page ends where about a page's keys should be over, as dense as those before it were.
    """

    def __init__(self, base: bytes, end: bytes) -> None:
        self._base, self._end = base, end
        self._span = 0
        self._left = FEW + 1

    def guess(self, start: bytes) -> bytes:
        """The end of the page that begins with a key; behind it."""
        if not self._span or self._left <= FEW:
            return self._end
        number = self._number(start) + self._span
        if number.bit_length() > 8 * _WIDTH:
            return self._end
        guess = self._base + number.to_bytes(_WIDTH, "big").rstrip(b"\0")
        return guess if start < guess < self._end else self._end

    def learn(self, start: bytes, last: bytes | None, count: int, *, more: bool, whole: int | None) -> None:
        """Notes what a page brought.

        Args:
            start, last: its first bound and last key.
            count: how many keys there were.
            more: whether there were more than a page may have.
            whole: how many there are up to the very end, if that was counted.
        """
        self._left = (self._left if whole is None else whole) - count
        if more and last is not None:
            self._span = self._number(last) - self._number(start)
        elif not count:
            self._span *= _LEAP
        else:
            self._span = self._span * max(1, min(_GROWTH * count, PAGE)) // count

    def _number(self, key: bytes) -> int:
        return int.from_bytes(key[len(self._base) :][:_WIDTH].ljust(_WIDTH, b"\0"), "big")


async def pages(connection: Connection, base: bytes, end: bytes) -> AsyncGenerator[Page, None]:
    """All keys that begin with `base`, in order; the next ones are on their way while one is looked at.

    Raises:
        StoreUnavailable: etcd does not answer, or the revision was compacted away.
    """
    found: asyncio.Queue[Page | Exception] = asyncio.Queue(AHEAD)

    async def read() -> None:
        try:
            async for page in _pages(connection, base, end):
                await found.put(page)
        except Exception as error:
            await found.put(error)

    reading, following = asyncio.get_running_loop().create_task(read()), base
    try:
        while following < end:
            page = await found.get()
            if isinstance(page, Exception):
                raise page
            following = page.end
            yield page
    finally:
        reading.cancel()


async def _pages(connection: Connection, base: bytes, end: bytes) -> AsyncGenerator[Page, None]:
    """One after the other."""
    stride, start, until, revision = Stride(base, end), base, end, 0
    while start < end:
        request = rpc.RangeRequest(key=start, range_end=until, limit=PAGE, revision=revision)
        answer = (await connection.call("Range", request, within=PATIENCE)).message
        revision, begin = revision or answer.header.revision, start
        last = answer.kvs[-1].key if answer.kvs else None
        stride.learn(begin, last, len(answer.kvs), more=answer.more, whole=answer.count if until == end else None)
        start = last + b"\0" if answer.more and last is not None else until
        until = stride.guess(start)
        yield Page(revision, answer.header.cluster_id, begin, start, answer.kvs)
