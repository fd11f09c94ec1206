"""Channels to servers in reach, and the names of their addresses."""

from __future__ import annotations

from pathlib import Path

import grpc
from grpc import aio

Options = list[tuple[str, int]]

CONNECTING = 10_000
"""ms that a connection gets to come about: a model server that loads a model answers nothing for seconds, and accepts meanwhile."""


def address(port: int | None, socket: Path | None) -> str | None:
    """gRPC's name for a port of this machine or a Unix socket; None for neither."""
    if socket is not None:
        return f"unix:{socket}"
    return f"127.0.0.1:{port}" if port else None


def options(max_message: int) -> Options:
    """Channel options: messages up to `max_message` bytes come in, any go out, and a broken connection is tried again soon."""
    return [
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_retries", 0),
        # A proxy that the environment names leads out of the pod.
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # gRPC gives a connection that comes about as long as the least time between two tries.
        ("grpc.min_reconnect_backoff_ms", CONNECTING),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.use_local_subchannel_pool", 1),
    ]


def channel(target: str, max_message: int) -> aio.Channel:
    """A plaintext channel; the runtime lives in the same pod."""
    return aio.insecure_channel(target, options=options(max_message))


def describe(code: grpc.StatusCode, details: str | None) -> str:
    """A status as text: `CODE: details`; only the details of UNKNOWN, only the code without details (reference 3.7)."""
    if code is grpc.StatusCode.UNKNOWN and details:
        return details
    return f"{code.name}: {details}" if details else code.name
