"""Ports that nobody listens on, and one that somebody does."""

from __future__ import annotations

import atexit
import socket
from collections.abc import Iterator
from contextlib import contextmanager


def free(count: int = 1) -> list[int]:
    """So many different ports of 127.0.0.1, for servers that cannot choose one themselves.

    Bound until this process ends, and never listening. The system gives such a port to nobody who asks for any, so tests that run at once
    get different ones, also while a server is not started yet or is down. A server that reuses addresses or ports, as all do here, can
    bind it.
    """
    found = []
    for _ in range(count):
        kept = socket.socket()
        # The one for a server that listens there alone, the other for those that share it.
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(("127.0.0.1", 0))
        atexit.register(kept.close)
        found.append(int(kept.getsockname()[1]))
    return found


@contextmanager
def taken() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody else listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])
