"""What a pod stands in: a clock, a store, and ways to its runtime and to other pods. The simulation has its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib import import_module

from grpc import aio

from mesh.pod.clock import Clock, WallClock
from mesh.pod.garbage import spare_what_stays
from mesh.runtime.channels import channel
from mesh.settings import Settings
from mesh.store.memory import MemoryRegistry
from mesh.store.registry import Registry
from mesh.wire.peer_channel import dial
from mesh.wire.peer_tls import PeerTls


async def open_registry(settings: Settings) -> Registry:
    """The store that the settings name.

    Raises:
        MeshError: the setting is wrong, or the store cannot be reached.
    """
    if not settings.kv_store:
        return MemoryRegistry()
    # Generated code for all of etcd, which a pod alone need not spend the time for; on a thread, because the event loop runs already.
    await asyncio.to_thread(import_module, "mesh.store.etcd")
    from mesh.store.etcd import open_etcd

    return await open_etcd(settings)


@dataclass(frozen=True)
class Surroundings:
    """The outside world as one pod reaches it.

    Attributes:
        clock: the time that decisions are made by.
        registry: opens the store.
        runtime: a channel to the runtime, of its address and the largest message in bytes.
        peer: a channel to a pod, of its `host:port`, the TLS between pods, and the largest metadata in bytes.
        spare: told when much came that stays; hides it from the garbage collector, where the process is the pod's alone.
    """

    clock: Clock = field(default_factory=WallClock)
    registry: Callable[[Settings], Awaitable[Registry]] = open_registry
    runtime: Callable[[str, int], aio.Channel] = channel
    peer: Callable[[str, PeerTls | None, int], aio.Channel] = dial
    spare: Callable[[], None] = lambda: None


REAL = Surroundings(spare=spare_what_stays)
