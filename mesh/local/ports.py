"""Ports on this machine: whether one is free, who holds it, and free ones for what nobody needs to know by number."""

from __future__ import annotations

import atexit
import os
import socket
from contextlib import suppress
from pathlib import Path

HOST = "127.0.0.1"


def choose(count: int) -> list[int]:
    """Distinct free ports for servers of this machine.

    They stay bound here, without listening, until this process ends: the system gives them to nobody else that asks for any, also while
    a server is not started yet or is down. A server that reuses addresses or ports can bind them, and all servers of a pod do.
    """
    kept = [socket.socket() for _ in range(count)]
    for one in kept:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind((HOST, 0))
        atexit.register(one.close)
    return [int(one.getsockname()[1]) for one in kept]


def is_free(port: int) -> bool:
    """Whether a server could listen there now; connections of an earlier server that linger do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def reserve(port: int) -> socket.socket:
    """Keeps a port that processes of this user share: nobody else can bind it while the answered socket is open.

    It takes no connection: it does not listen.

    Raises:
        OSError: it cannot be bound.
    """
    kept = socket.socket()
    try:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind((HOST, port))
    except OSError:
        kept.close()
        raise
    return kept


def holder(port: int) -> int | None:
    """The process that listens on a port, if this machine tells (Linux, and a process of ours)."""
    inodes = {inode for table in ("tcp", "tcp6") for inode in _listening(Path("/proc/net") / table, port)}
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor) in inodes:
                        return int(process.name)
    return None


def _listening(table: Path, port: int) -> set[str]:
    """Links of the sockets that listen on a port, out of the kernel's table: address, state 0A, inode."""
    found = set()
    with suppress(OSError):
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
