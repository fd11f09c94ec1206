"""A port that is about to close takes no further connections, so that none is lost with it."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct

SO_ATTACH_FILTER = 26
"""Of Linux (asm-generic/socket.h); Python does not name it."""
_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A `sock_filter` of classic BPF: return 0, keep nothing of the packet."""


def deafen(listener: socket.socket) -> None:
    """Has the kernel pass over what asks this listener for a connection; those that it has made already stay to be accepted.

    Whoever asks meanwhile asks again after a second (the first timeout of TCP, RFC 6298), and finds who listens on the port then. Where the
    kernel knows no such filters nothing changes.
    """
    code = ctypes.create_string_buffer(_NOTHING, len(_NOTHING))
    with contextlib.suppress(OSError):
        listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(code)))
