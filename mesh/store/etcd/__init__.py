"""The registry in etcd, in ModelMesh's layout: an existing one is taken over in place."""

from __future__ import annotations

from mesh.core.errors import Malformed
from mesh.core.ids import PodId
from mesh.settings import Settings
from mesh.store.etcd.configuration import parse
from mesh.store.etcd.connection import Connection
from mesh.store.etcd.layout import Layout
from mesh.store.etcd.registry import EtcdRegistry
from mesh.store.etcd.session import Session

__all__ = ["EtcdRegistry", "open_etcd"]


async def open_etcd(settings: Settings, *, ttl: int | None = None) -> EtcdRegistry:
    """The registry that `KV_STORE` names, its mirrors complete, or as a snapshot has them.

    Args:
        settings: `kv_store`, `kv_prefix`, `kv_read_only`, `lease`, `snapshot`, `snapshot_every`, `service_name` and `instance_id` are used.
        ttl: seconds that this pod's record outlives a crash, instead of `lease`.

    Raises:
        Malformed, Unsupported: a setting or the file it names is wrong.
        StoreUnavailable: etcd cannot be reached, within five seconds; "Problem connecting to etcd" is part of the message.
    """
    configuration = parse(settings.kv_store)
    if not settings.service_name:
        raise Malformed("MM_SERVICE_NAME is not set; it is part of every key of the registry in etcd")
    layout = Layout(configuration.root, settings.kv_prefix, settings.service_name)
    pod = PodId(settings.instance_id)
    registry = EtcdRegistry(
        Connection(configuration),
        layout,
        Session(configuration, ttl=ttl or settings.lease),
        read_only_for=pod if settings.kv_read_only else None,
        snapshot=settings.snapshot,
        snapshot_every=settings.snapshot_every,
    )
    try:
        await registry.start()
    except BaseException:
        await registry.close()
        raise
    return registry
