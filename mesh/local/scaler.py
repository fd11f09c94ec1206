"""Follows the number of pods that the pods themselves want, one pod at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mesh.core.errors import MeshError
from mesh.local.fleet import PATIENCE, READY_POLL, Fleet
from mesh.local.pods import LocalPod, ask_each
from mesh.local.processes import Say
from mesh.manifests.runtimes import PodPlan

Json = dict[str, Any]

PERIOD = 2.0
"""Seconds between two looks at what is wanted, which changes every few seconds at most."""

AGAIN = 60.0
"""Seconds after which a pod is tried again that the file system did not allow: so often it may be told."""


class Scaler:
    """Keeps the number of pods between `options.pods` and `options.most_pods`.

    Args:
        plan: of a pod, at the moment.
    """

    def __init__(self, fleet: Fleet, plan: Callable[[], PodPlan], say: Say) -> None:
        self._fleet, self._plan, self._say = fleet, plan, say
        self._least, self._most = fleet.options.pods, fleet.options.most

    async def keep(self) -> None:
        """Follows until it is cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            if all(one.ready for one in self._fleet.pods):
                await self.follow()

    async def follow(self) -> None:
        """Adds or ends a pod if the number that is wanted is another one, and waits until that is done."""
        answer = next((one for one in await wanted(self._fleet.pods) if one["runtime"] == self._plan().name), None)
        if answer is None:
            return
        there, target = len(self._fleet.pods), min(max(answer["wanted"], self._least), self._most)
        if target > there:
            await self._add(answer["reason"])
        elif target < there:
            await self._end(answer["reason"])

    async def _add(self, reason: str) -> None:
        try:
            added = await self._fleet.add(self._plan())
        except (OSError, MeshError) as error:
            self._say("mesh", f"a pod more is wanted and cannot be started, which is tried again in {AGAIN:g} s: {error}")
            await asyncio.sleep(AGAIN)
            return
        self._say("mesh", f"{added.name} is added, {self._count()}: {reason}")
        for _ in range(int(PATIENCE / READY_POLL)):
            if added.ready:
                return
            await asyncio.sleep(READY_POLL)
        self._say("mesh", f"{added.name} does not take calls yet; its logs are in {added.setup.folder.logs}")

    async def _end(self, reason: str) -> None:
        told = await ask_each(self._fleet.pods, "pod", {})
        if len(told) < len(self._fleet.pods):
            return
        leaving = cheapest(told.values())
        self._say("mesh", f"{leaving['id']} hands over its {leaving['models']} models, which are least in memory, and ends: {reason}")
        await self._fleet.remove(leaving["id"])
        self._say("mesh", f"{leaving['id']} has ended, {self._count()}")

    def _count(self) -> str:
        return f"now {len(self._fleet.pods)} of {self._least} to {self._most} pods"


async def wanted(pods: Sequence[LocalPod]) -> list[Json]:
    """What the pods say of each runtime; of several answers the greatest number, because a pod that has just started knows of no calm."""
    greatest: dict[str, Json] = {}
    for told in (await ask_each(pods, "wanted", {})).values():
        for answer in told["runtimes"]:
            if answer["wanted"] > greatest.get(answer["runtime"], {"wanted": 0})["wanted"]:
                greatest[answer["runtime"]] = answer
    return [greatest[runtime] for runtime in sorted(greatest)]


def cheapest(pods: Iterable[Json]) -> Json:
    """The pod whose end costs least: fewest bytes to be loaded elsewhere, then fewest models; of equal ones the one added last."""
    return min(pods, key=lambda one: (one["used_bytes"], one["models"], -int(one["id"].rpartition("-")[2])))
