"""Follows the number of pods that the pods themselves want, one pod at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from mesh.core.errors import MeshError
from mesh.local.fleet import Fleet
from mesh.local.kits import Kit, Share, Wanted
from mesh.local.pods import LocalPod, ask_each
from mesh.local.processes import Say

Json = dict[str, Any]

PERIOD = 2.0
"""Seconds between two looks at what is wanted, which changes every few seconds at most."""

AGAIN = 60.0
"""Seconds after which a pod is tried again that the file system did not allow: so often it may be told."""


class Scaler:
    """Keeps the number of pods of each runtime within its share.

    Args:
        wanted: the runtimes that are to have pods, at the moment.
    """

    def __init__(self, fleet: Fleet, wanted: Callable[[], Mapping[str, Wanted]], say: Say) -> None:
        self._fleet, self._wanted, self._say = fleet, wanted, say

    async def keep(self) -> None:
        """Follows until it is cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            following = {name: one for name, one in self._wanted().items() if one.kit and one.share.most > one.share.least}
            if following and all(one.ready for one in self._fleet.pods):
                await self.follow(following)

    async def follow(self, following: Mapping[str, Wanted]) -> None:
        """Adds or ends a pod of each runtime of which another number is wanted, and waits until that is done."""
        for answer in await wanted(self._fleet.pods):
            one = following.get(answer["runtime"])
            if one is None or one.kit is None:
                continue
            there = sum(pod.runtime == answer["runtime"] for pod in self._fleet.pods)
            target = min(max(answer["wanted"], one.share.least), one.share.most)
            if target > there:
                await self._add(one.kit, one.share, answer["reason"])
            elif target < there:
                await self._end(one.kit, one.share, answer["reason"])

    async def _add(self, kit: Kit, share: Share, reason: str) -> None:
        try:
            added = await self._fleet.add(kit)
        except (OSError, MeshError) as error:
            self._say("mesh", f"a pod more is wanted and cannot be started, which is tried again in {AGAIN:g} s: {error}")
            await asyncio.sleep(AGAIN)
            return
        self._say("mesh", f"{added.name} is added, {self._count(kit, share)}: {reason}")
        if not await self._fleet.until_ready(added):
            self._say("mesh", f"{added.name} does not take calls yet; its logs are in {added.setup.folder.logs}")

    async def _end(self, kit: Kit, share: Share, reason: str) -> None:
        told = await ask_each([one for one in self._fleet.pods if one.runtime == kit.plan.name], "pod", {})
        if len(told) < sum(one.runtime == kit.plan.name for one in self._fleet.pods):
            return
        leaving = cheapest(told.values())
        self._say("mesh", f"{leaving['id']} hands over its {leaving['models']} models, which are least in memory, and ends: {reason}")
        await self._fleet.remove(leaving["id"])
        self._say("mesh", f"{leaving['id']} has ended, {self._count(kit, share)}")

    def _count(self, kit: Kit, share: Share) -> str:
        there = sum(one.runtime == kit.plan.name for one in self._fleet.pods)
        return f"now {there} of {share.least} to {share.most} pods"


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
