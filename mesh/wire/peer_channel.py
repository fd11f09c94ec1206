"""Connections between pods."""

from __future__ import annotations

from grpc import aio

from mesh.wire.hops import LARGEST_HOP
from mesh.wire.peer_tls import PeerTls

CONNECT_LIMIT = 6_000
"""Milliseconds in which a connection comes about or has failed (reference 3.6); a stopped process accepts it and says nothing."""
SILENCE, SILENCE_LIMIT = 5_000, 5_000
"""Milliseconds after which a silent connection is asked for a sign of life, and in which that has to come."""
_GRPC_METADATA = 16_384
"""Bytes of metadata that gRPC takes where no limit is set."""

Options = list[tuple[str, int | str]]


def _shared(max_headers: int, more: int = 0) -> Options:
    # The hop travels in base64 beside what the caller sent, which its door took already.
    metadata = max(max_headers, _GRPC_METADATA) + LARGEST_HOP * 4 // 3 + 1024 + more
    return [
        # What a door or a runtime's channel took is passed on, whatever it grew to on the way.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", metadata),
        ("grpc.absolute_max_metadata_size", metadata),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def server_options(max_headers: int, more: int = 0) -> Options:
    """Of the server that pods call.

    Args:
        max_headers: metadata that the public door takes, in bytes; -1 for gRPC's default.
        more: bytes of what is told beside that.
    """
    return [
        *_shared(max_headers, more),
        # With port reuse a second server would bind a taken port and share its callers without a word.
        ("grpc.so_reuseport", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ]


def dial(endpoint: str, tls: PeerTls | None, max_headers: int) -> aio.Channel:
    """A channel to a pod; it connects with the first call, and again with the first after it broke."""
    options: Options = [
        *_shared(max_headers),
        ("grpc.keepalive_time_ms", SILENCE),
        ("grpc.keepalive_timeout_ms", SILENCE_LIMIT),
        # A ping that measures bandwidth stands in for the one that asks for life, and has a limit of its own: a minute.
        ("grpc.http2.ping_timeout_ms", SILENCE_LIMIT),
        # gRPC gives a connection that comes about as long as the least time between two tries.
        ("grpc.min_reconnect_backoff_ms", CONNECT_LIMIT),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        # A call that failed is the router's to repeat, which knows other pods.
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if tls is None:
        return aio.insecure_channel(endpoint, options=options)
    return aio.secure_channel(endpoint, tls.channel_credentials(), options=[*options, ("grpc.ssl_target_name_override", tls.name)])
