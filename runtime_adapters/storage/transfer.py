"""Many objects, or many parts of a large one, to disk at the same time."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runtime_adapters.errors import Damaged, Full
from runtime_adapters.turns import to_end

log = logging.getLogger(__name__)

PARALLEL = 8
"""Parts in flight for one model. Enough to fill a link to an object store, and with `CHUNK` at most 64 MiB of memory."""
PART = 32 << 20
"""Bytes of a part: objects larger than this are fetched in several at once."""
CHUNK = 4 << 20
"""Bytes read before they are written."""
ATTEMPTS = 3
"""Times that a part is tried when its connection breaks."""
REPORT_EVERY = 1.0
"""Seconds between two lines of progress."""


class Item(NamedTuple):
    """One object to fetch."""

    name: str
    """As the storage calls it."""
    size: int
    tag: str | None
    """Identity of its content, if the storage gives one: what parts of one object have in common."""
    target: Path


class Part(NamedTuple):
    """Bytes `start` to `end`, exclusive, of an object."""

    item: Item
    start: int
    end: int

    @property
    def whole(self) -> bool:
        """Whether it is all of the object."""
        return self.start == 0 and self.end == self.item.size


Fetch = Callable[[Part], AsyncIterator[bytes]]
"""Yields the bytes of a part; raises `AdapterError`."""


class Progress:
    """Counts bytes and logs them, at most once in `REPORT_EVERY` seconds and not at all for what is quick. `total` 0: not known."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._next = time.monotonic() + REPORT_EVERY

    def add(self, count: int) -> None:
        """Note `count` bytes; negative if they have to come again."""
        self._done += count
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + REPORT_EVERY
            log.info("downloading", extra={"source": self._what, "bytes": self._done, "of": self._total or None})


async def download(what: str, items: Sequence[Item], fetch: Fetch) -> None:
    """Fetch every item into its target, whose directories are made.

    Args:
        what: the source, for the log.
        items: objects with distinct targets.
        fetch: how to get the bytes of a part.

    Raises:
        AdapterError: `Full` before anything is fetched if the disk has no room, `Damaged` if bytes are missing, or what `fetch` raised.
        OSError: the disk refuses.
    """
    total = sum(item.size for item in items)
    await to_end(asyncio.to_thread(_make_room, items, total))
    progress = Progress(what, total)
    parts = iter([part for item in items for part in split(item)])
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(_work(parts, fetch, progress))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    log.info("downloaded", extra={"source": what, "objects": len(items), "bytes": total})


def split(item: Item) -> list[Part]:
    """Parts of at most `PART` bytes; one for an empty object."""
    return [Part(item, start, min(start + PART, item.size)) for start in range(0, max(item.size, 1), PART)]


async def _work(parts: Iterator[Part], fetch: Fetch, progress: Progress) -> None:
    for part in parts:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await _one(part, fetch, progress)
                break
            except Damaged as error:
                if attempt == ATTEMPTS:
                    raise
                log.warning("%s; trying again", error)


async def _one(part: Part, fetch: Fetch, progress: Progress) -> None:
    if part.start == part.end:
        return
    descriptor = os.open(part.item.target, os.O_WRONLY)
    at = part.start
    try:
        async for chunk in fetch(part):
            count = await to_end(asyncio.to_thread(_write, descriptor, memoryview(chunk), at))
            at += count
            progress.add(count)
        if at != part.end:
            raise Damaged(f"{part.item.name!r} ended after {at - part.start} of {part.end - part.start} bytes")
    except BaseException:
        progress.add(part.start - at)
        raise
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: memoryview, at: int) -> int:
    written = 0
    while written < data.nbytes:
        written += os.pwrite(descriptor, data[written:], at + written)
    return written


def _make_room(items: Sequence[Item], total: int) -> None:
    """Make the directories, and the files at their full length, so that parts can be written in any order."""
    with suppress(IndexError):
        folder = items[0].target.parent
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if total > free:
            raise Full(f"no space left: the model has {total} bytes, and the disk of {folder} has {free} free")
    for item in items:
        item.target.parent.mkdir(parents=True, exist_ok=True)
        with item.target.open("xb") as file:
            file.truncate(item.size)
