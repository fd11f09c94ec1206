"""The process of the model server, as the kernel shows it to the adapter: what memory it holds, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterable, Mapping, Set
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from runtime_adapters import procfs
from runtime_adapters.procfs import Stat

log = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds between asking the server to end and ending it."""
LOOK = 0.1
"""Seconds between two looks whether it has ended."""


class NotVisibleError(Exception):
    """The server's process cannot be seen from here; the message says why and what to do."""


class StillThereError(Exception):
    """The server was told to end, and killed, and some of it runs all the same; the message says what."""


class Held(NamedTuple):
    """What a model server holds.

    Attributes:
        bytes: resident memory of its processes, without pages of files and without what a GPU has.
        process: names the server among those before and after it.
    """

    bytes: int
    process: str


class ServerProcess:
    """The processes of whatever listens on a port of this machine, or of this pod if containers share their process namespace.

    Args:
        port: of the model server.
        proc: where the kernel shows processes.
    """

    def __init__(self, port: int, proc: Path = Path("/proc")) -> None:
        self._port, self._proc = port, proc
        self._heads: dict[int, int] = {}  # process id -> when it started, of those found last

    def held(self) -> Held:
        """Blocking, some milliseconds; the first look goes through the open files of all processes.

        Raises:
            NotVisibleError: it cannot be told.
        """
        stats = self._stats()
        heads = self._find(stats)
        return Held(self._together(_members(heads, stats)), ",".join(f"{pid}@{heads[pid]}" for pid in sorted(heads)))

    def part(self, pids: Iterable[int]) -> int:
        """Bytes that some of the server's processes hold, with all that they started; blocking, as `held`.

        Raises:
            NotVisibleError: it cannot be told, or one of them is none of the server's, as where its ids are those of another namespace,
                or has ended.
        """
        stats = self._stats()
        of_it = set(pids)
        running = {pid for pid in _members(self._find(stats), stats) if not stats[pid].ended}
        if strangers := of_it - running:
            raise NotVisibleError(f"processes {', '.join(map(str, sorted(strangers)))} are none of the server's on port {self._port}")
        return self._together(procfs.family(of_it, {pid: stat.parent for pid, stat in stats.items()}))

    async def end(self, grace: float = GRACE) -> None:
        """Ends the server: SIGTERM, and after `grace` seconds SIGKILL. Returns when none of its processes is left.

        Raises:
            NotVisibleError: it is not visible, or may not be signalled; nothing was done.
            StillThereError: some of it is left after `grace` more seconds.
        """
        stats = await asyncio.to_thread(self._stats)
        heads = await asyncio.to_thread(self._find, stats)
        members = _members(heads, stats)
        if os.getpid() in members:
            raise NotVisibleError(f"what listens on port {self._port} is this adapter itself, or has started it")
        family = {pid: stats[pid].started for pid in members}
        try:
            _signal(heads, signal.SIGTERM)
        except PermissionError:
            raise NotVisibleError(_OTHER_USER.format(port=self._port)) from None
        log.info("the model server was asked to end", extra={"processes": sorted(heads)})
        await self._gone(heads, grace)
        if left := self._left(family):
            log.warning("processes of the model server are left and are killed", extra={"processes": left, "grace_s": grace})
            with suppress(PermissionError):
                _signal(left, signal.SIGKILL)
        if left := await self._gone(family, grace):
            raise StillThereError(f"processes {', '.join(map(str, left))} of the model server were killed and do not end")

    def _together(self, members: Iterable[int]) -> int:
        try:
            return procfs.together(filter(None, map(self._memory, members)))
        except ValueError as error:
            raise NotVisibleError(f"memory is not told by this kernel: {error}") from None

    async def _gone(self, processes: Mapping[int, int], within: float) -> list[int]:
        """Waits until none runs, so many seconds at most; those that do all the same."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while self._left(processes):  # noqa: ASYNC110 - the kernel tells the end of a process to its parent only
                    await asyncio.sleep(LOOK)
        return self._left(processes)

    def _left(self, processes: Mapping[int, int]) -> list[int]:
        return sorted(pid for pid, started in processes.items() if self._runs(pid, started))

    def _runs(self, pid: int, started: int) -> bool:
        found = self._stat(pid)
        return found is not None and found.started == started and not found.ended

    def _find(self, stats: Mapping[int, Stat]) -> dict[int, int]:
        """The processes that listen, none of which inherited that from another one; with when they started."""
        if not self._heads or any(pid not in stats or stats[pid].started != at or stats[pid].ended for pid, at in self._heads.items()):
            self._heads = self._look(stats)
        return self._heads

    def _look(self, stats: Mapping[int, Stat]) -> dict[int, int]:
        inodes: set[int | None] = set()
        for table in ("tcp", "tcp6"):
            with suppress(FileNotFoundError):
                inodes |= procfs.listeners((self._proc / "net" / table).read_text(), self._port)
        if not (self._proc / "net").is_dir():
            raise NotVisibleError(f"this system has no {self._proc}/net: memory of processes is told on Linux only")
        if not inodes:
            raise NotVisibleError(f"nothing listens on port {self._port}")
        hidden: list[int] = []
        owners = [pid for pid in stats if self._holds(pid, inodes, hidden)]
        if not owners:
            raise NotVisibleError((_OTHER_USER if hidden else _OTHER_NAMESPACE).format(port=self._port))
        heads = procfs.heads(owners, {pid: stat.parent for pid, stat in stats.items()})
        return {pid: stats[pid].started for pid in heads}

    def _holds(self, pid: int, inodes: Set[int | None], hidden: list[int]) -> bool:
        """Whether a process has one of the sockets open; `hidden` gets it if that is not to be seen."""
        try:
            names = os.listdir(self._proc / str(pid) / "fd")
        except PermissionError:
            hidden.append(pid)
            return False
        except OSError:
            return False
        for name in names:
            with suppress(OSError):
                if procfs.socket_inode(os.readlink(self._proc / str(pid) / "fd" / name)) in inodes:
                    return True
        return False

    def _stats(self) -> dict[int, Stat]:
        """All processes that are to be seen."""
        try:
            numbers = [int(name) for name in os.listdir(self._proc) if name.isdecimal()]
        except OSError:
            raise NotVisibleError(f"this system has no {self._proc}: memory of processes is told on Linux only") from None
        found = ((pid, self._stat(pid)) for pid in numbers)
        return {pid: stat for pid, stat in found if stat is not None}

    def _stat(self, pid: int) -> Stat | None:
        """None for a process that is gone."""
        try:
            return procfs.stat((self._proc / str(pid) / "stat").read_text(errors="replace"))
        except (OSError, ValueError):
            return None

    def _memory(self, pid: int) -> procfs.Memory | None:
        try:
            return procfs.memory((self._proc / str(pid) / "status").read_text(errors="replace"))
        except OSError:
            return None


def _members(heads: Mapping[int, int], stats: Mapping[int, Stat]) -> set[int]:
    """The server with all that it started, and with what was left behind by what it started."""
    founders = heads.keys() | procfs.left_behind(heads.keys(), stats, os.getpid())
    return procfs.family(founders, {pid: stat.parent for pid, stat in stats.items()})


_OTHER_USER = "the process that listens on port {port} belongs to another user: run adapter and model server as the same one"
_OTHER_NAMESPACE = (
    "the process that listens on port {port} is in another process namespace: set shareProcessNamespace: true in the pod's spec, "
    "and run adapter and model server as the same user"
)


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
