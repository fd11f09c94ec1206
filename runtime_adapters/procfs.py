"""Linux's `/proc` as text: who listens on a port, which processes belong together, what memory each holds. It reads no file itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

LISTENING = "0A"
"""TCP_LISTEN in the column `st` of /proc/net/tcp (linux/include/net/tcp_states.h)."""
REACHED_AT_LOOPBACK = frozenset(
    [
        "00000000",  # 0.0.0.0
        "0100007F",  # 127.0.0.1, in the machine's byte order, as all others
        "0" * 32,  # ::
        "0" * 24 + "01000000",  # ::1
        "0000000000000000FFFF00000100007F",  # ::ffff:127.0.0.1
    ]
)
"""Local addresses of listeners that a client of 127.0.0.1 or localhost reaches."""


class Stat(NamedTuple):
    """One process.

    Attributes:
        state: one letter; Z is a zombie: it has ended, and its parent has not looked.
        group: of processes; what it starts is in the same one, unless that makes one of its own.
        started: clock ticks after the machine's start; with the id it names a process for good.
    """

    state: str
    parent: int
    group: int
    started: int

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs."""
        return self.state in "ZX"


class Memory(NamedTuple):
    """Resident memory of one process in bytes, without pages of files, which the kernel takes back when it wants them."""

    own: int
    shared: int


def listeners(table: str, port: int) -> set[int]:
    """Inodes of the sockets that listen on a port, of the text of /proc/net/tcp or /proc/net/tcp6."""
    found = set()
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 10 or columns[3] != LISTENING:
            continue
        address, _, number = columns[1].partition(":")
        if address in REACHED_AT_LOOPBACK and int(number, 16) == port:
            found.add(int(columns[9]))
    return found


def socket_inode(link: str) -> int | None:
    """Of the target of a link in /proc/PID/fd: `socket:[4711]`; None if it is no socket."""
    inside = link.removeprefix("socket:[").removesuffix("]")
    return int(inside) if link.startswith("socket:[") and inside.isdecimal() else None


def stat(text: str) -> Stat:
    """Of the text of /proc/PID/stat. The name in it may hold anything, parentheses and blanks too.

    Raises:
        ValueError: it is not such a text.
    """
    fields = text.rpartition(")")[2].split()
    if len(fields) < 20:
        raise ValueError(f"not a /proc/PID/stat: {text[:80]!r}")
    return Stat(fields[0], int(fields[1]), int(fields[2]), int(fields[19]))


def memory(status: str) -> Memory:
    """Of the text of /proc/PID/status; nothing for a process that ended or is the kernel's.

    Raises:
        ValueError: it is not such a text, or of a kernel older than 4.5, which does not tell anonymous memory.
    """
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    if "VmRSS" not in fields and "Pid" in fields:
        return Memory(0, 0)
    return Memory(*(_bytes(fields, name) for name in ("RssAnon", "RssShmem")))


def _bytes(fields: Mapping[str, str], name: str) -> int:
    number, _, unit = fields.get(name, "").strip().partition(" ")
    if not number.isdecimal() or unit != "kB":
        raise ValueError(f"/proc/PID/status does not tell {name}")
    return int(number) * 1024


def heads(owners: Iterable[int], parents: Mapping[int, int]) -> set[int]:
    """Of the processes that hold a listening socket those that did not inherit it: workers have their parent's."""
    all_owners = set(owners)
    return {pid for pid in all_owners if parents.get(pid) not in all_owners}


def family(members: Iterable[int], parents: Mapping[int, int]) -> set[int]:
    """Processes and all that they started, directly or not."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    waiting = [pid for pid in members if pid in parents]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, ())
    return found


def left_behind(heads: Set[int], processes: Mapping[int, Stat], observer: int) -> set[int]:
    """What processes of a server left running when they ended: it is in the server's group, and its parent now is whoever takes orphans.

    A group that the observer is in, or anything that started it, is that of a shell or a script, and tells nothing about the server.
    """
    shared = {processes[pid].group for pid in lineage([observer], processes)}
    groups = {processes[pid].group for pid in heads} - shared
    above = lineage(heads, processes)
    return {
        pid
        for pid, found in processes.items()
        if found.group in groups and pid not in above and (found.parent not in processes or processes[found.parent].group != found.group)
    }


def lineage(members: Iterable[int], processes: Mapping[int, Stat]) -> set[int]:
    """Processes and all that started them."""
    found: set[int] = set()
    for member in members:
        pid = member
        while pid in processes and pid not in found:
            found.add(pid)
            pid = processes[pid].parent
    return found


def together(memories: Iterable[Memory]) -> int:
    """Bytes that processes of one family hold. Shared memory is what several of them map, so it counts once: as the most that one maps."""
    own, shared = 0, 0
    for one in memories:
        own += one.own
        shared = max(shared, one.shared)
    return own + shared
