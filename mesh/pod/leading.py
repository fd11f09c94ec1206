"""Whether this pod does what one pod does for all, where a router of another kind may lead."""

from __future__ import annotations

from mesh.core.ids import PodId
from mesh.core.transitions import Living
from mesh.store.registry import Registry


def leads_ours(registry: Registry, living: Living) -> bool:
    """Whether it leads, or is the first of ours while a router of ModelMesh leads, which counts and loads copies only on its like."""
    leader = registry.instances.get(registry.leader or PodId(""))
    if registry.leads or leader is None or leader.endpoint:
        return registry.leads
    return min(living.stay(living.instances), default=None) == living.me
