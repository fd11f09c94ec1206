"""What a pod knows of the registry, in a file: it starts from that while etcd is away, and tells by it what became of etcd meanwhile.

Compressed lines (gzip): a header, one line per entry, an end with the number of entries and a checksum of all before. Written beside its
place and moved there, so that a reader finds the old file or the new one, whole.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
import os
import zlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from mesh.core.units import Millis

log = logging.getLogger(__name__)

MAGIC = b"mesh-registry-snapshot"
VERSION = 1
_LEVEL = 1
"""Of compression: records repeat themselves so much that a higher one saves little and costs much."""
_BATCH = 500
"""Entries that are read from the file at a time."""
_PIECE = 1 << 18
"""Bytes that are checked, and written, at a time."""


class Header(NamedTuple):
    """Which registry a snapshot is of.

    Attributes:
        base: first part of all keys of the mesh.
        cluster: id of etcd's cluster.
        marker: what tells that etcd from one that took its place.
        revision: everything up to it is in; some entries may be newer.
        written: when.
        markers: of the etcds that took each other's place, oldest first; this one's is the last.
    """

    base: str
    cluster: int
    marker: str
    revision: int
    written: Millis
    markers: list[str]


class Entry(NamedTuple):
    """One record, or that there was one.

    Attributes:
        table: name of the table; of a deletion, with `GONE` before it.
        id: the record's.
        revision: that wrote or deleted it.
        value: the record's JSON; of a deletion, the marker of the etcd that it was in.
    """

    table: str
    id: str
    revision: int
    value: bytes


GONE = "-"
"""Before the table's name in an entry of a deletion."""


class Damaged(Exception):
    """The file is no whole snapshot of this mesh; says why."""


class SnapshotFile:
    """Where one pod keeps its snapshot.

    Args:
        path: of the file; its folder is made.
        base: first part of all keys of the mesh; a snapshot of another mesh is refused.
    """

    def __init__(self, path: Path, base: str) -> None:
        self.path, self._base = path, base

    async def header(self) -> Header | None:
        """The header of a whole snapshot of this mesh; None if there is no file, or another kind of file, of which a warning tells."""
        try:
            return await asyncio.to_thread(self._check)
        except FileNotFoundError:
            return None
        except (Damaged, OSError, EOFError, zlib.error) as error:
            log.warning(
                "the snapshot %s (MESH_SNAPSHOT_PATH) is not used: %s; the next one replaces it",
                self.path,
                error.strerror or error if isinstance(error, OSError) else error,
            )
            return None

    async def entries(self) -> AsyncIterator[list[Entry]]:
        """All entries, some at a time; to be asked for when `header` found it whole."""
        file = await asyncio.to_thread(gzip.open, self.path, "rb")
        try:
            await asyncio.to_thread(file.readline)
            while lines := await asyncio.to_thread(lambda: list(islice(file, _BATCH))):
                yield [_entry(line) for line in lines if not line.startswith(b"end\t")]
        finally:
            file.close()

    def writer(self, header: Header) -> SnapshotWriter:
        """Begins a new file; it takes this one's place when it is finished."""
        return SnapshotWriter(self.path, header)

    def _check(self) -> Header:
        """Reads the whole file.

        Raises:
            Damaged, OSError, EOFError, zlib.error: it is not what it should be.
        """
        with gzip.open(self.path, "rb") as file:
            digest = hashlib.sha256()
            header = _header(file.readline(_PIECE), digest, self._base)
            entries, last = 0, b""
            while piece := file.readlines(_PIECE):
                entries += len(piece)
                for line in (last, *piece[:-1]):
                    digest.update(line)
                last = piece[-1]
        if last != _end(entries - 1, digest):
            raise Damaged("its end is missing, or its checksum is wrong")
        return header


class SnapshotWriter:
    """A snapshot that is being written, on threads; given up unless it is finished."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        self._digest = hashlib.sha256()
        self._entries = 0
        self._raw: IO[bytes] | None = None
        self._file: gzip.GzipFile | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._put(b"%s\t%d\t%s\n" % (MAGIC, VERSION, orjson.dumps(header._asdict())))

    async def add(self, entries: Iterable[Entry]) -> None:
        """Takes further entries."""
        for entry in entries:
            self._entries += 1
            self._put(b"%s\t%d\t%s\t%s\n" % (entry.table.encode(), entry.revision, orjson.dumps(entry.id), entry.value))
        if self._size >= _PIECE:
            await self._flush()

    async def finish(self) -> None:
        """Puts the file in its place.

        Raises:
            OSError: it cannot be written; the one before is as it was.
        """
        await self._flush()
        self._put(_end(self._entries, self._digest))
        await self._flush()
        await _to_its_end(self._place)

    async def give_up(self) -> None:
        """Leaves the file before as it is; without effect when finished."""
        await _to_its_end(self._abandon)

    def _put(self, line: bytes) -> None:
        self._waiting.append(line)
        self._size += len(line)

    async def _flush(self) -> None:
        data, self._waiting, self._size = b"".join(self._waiting), [], 0
        await _to_its_end(partial(self._write, data))

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # It has the models' paths and keys: nobody else's business.
            self._raw = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
            self._file = gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=self._raw)
        self._digest.update(data)
        self._file.write(data)

    def _place(self) -> None:
        assert self._file is not None
        assert self._raw is not None
        self._file.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        self._part.replace(self._path)
        self._file = None

    def _abandon(self) -> None:
        if self._file is not None and self._raw is not None:
            with suppress(OSError):
                self._file.close()
            with suppress(OSError):
                self._raw.close()
            self._file = None
            self._part.unlink(missing_ok=True)


async def _to_its_end(work: Callable[[], None]) -> None:
    """Works on a thread. Who is cancelled meanwhile waits for its end: what comes next opens, moves or removes the same file."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(working)
    finally:
        await asyncio.wait([working])


def _header(line: bytes, digest: Any, base: str) -> Header:
    digest.update(line)
    magic, _, rest = line.partition(b"\t")
    version, _, fields = rest.partition(b"\t")
    if magic != MAGIC:
        raise Damaged("it is another kind of file")
    if version != b"%d" % VERSION:
        raise Damaged(f"it has version {version.decode(errors='replace')!r}, and this router reads version {VERSION}")
    try:
        header = Header(**orjson.loads(fields))
    except (ValueError, TypeError) as error:
        raise Damaged(f"its header cannot be read: {error}") from None
    if header.base != base:
        raise Damaged(f"it is of another mesh: its keys begin with {header.base}, those of this one with {base}")
    return header


def _entry(line: bytes) -> Entry:
    table, revision, name, value = line.rstrip(b"\n").split(b"\t", 3)
    return Entry(table.decode(), orjson.loads(name), int(revision), value)


def _end(entries: int, digest: Any) -> bytes:
    return b"end\t%d\t%s\n" % (entries, digest.hexdigest().encode())
