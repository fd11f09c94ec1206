"""What a pod stands in: a clock, a store, and ways to its runtime and to other pods. The simulation has its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from grpc import aio

from mesh.pod.clock import Clock, WallClock
from mesh.runtime.channels import channel
from mesh.settings import Settings
from mesh.store.etcd import open_etcd
from mesh.store.memory import MemoryRegistry
from mesh.store.registry import Registry
from mesh.wire.peer_channel import dial
from mesh.wire.peer_tls import PeerTls


async def open_registry(settings: Settings) -> Registry:
    """The store that the settings name.

    Raises:
        MeshError: the setting is wrong, or the store cannot be reached.
    """
    return await open_etcd(settings) if settings.kv_store else MemoryRegistry()


@dataclass(frozen=True)
class Surroundings:
    """The outside world as one pod reaches it.

    Attributes:
        clock: the time that decisions are made by.
        registry: opens the store.
        runtime: a channel to the runtime, of its address and the largest message in bytes.
        peer: a channel to a pod, of its `host:port`, the TLS between pods, and the largest metadata in bytes.
    """

    clock: Clock = field(default_factory=WallClock)
    registry: Callable[[Settings], Awaitable[Registry]] = open_registry
    runtime: Callable[[str, int], aio.Channel] = channel
    peer: Callable[[str, PeerTls | None, int], aio.Channel] = dial


REAL = Surroundings()
