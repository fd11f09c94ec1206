"""Whether this pod does what one pod does for all, where a router of another kind may lead, too."""

from __future__ import annotations

import asyncio

from mesh.core.ids import PodId
from mesh.core.registry.transitions import Living
from mesh.store.registry import Registry


def leads_ours(registry: Registry, living: Living) -> bool:
    """Whether it leads, or is the first of ours while a router of ModelMesh leads, which counts and loads copies only on its like."""
    leader = registry.instances.get(registry.leader or PodId(""))
    if registry.leads or leader is None or leader.endpoint:
        return registry.leads
    return min(living.stay(living.instances), default=None) == living.me


class Lead:
    """What a keeper waits for that works on the pod that leads."""

    def __init__(self, registry: Registry) -> None:
        self._led = asyncio.Event()
        self._told(registry.leads)
        registry.listen_to_leadership(self._told)

    def _told(self, leads: bool) -> None:
        if leads:
            self._led.set()
        else:
            self._led.clear()

    async def wait(self) -> None:
        """Returns when this pod was told that it leads, and not that it ceased to."""
        await self._led.wait()
