"""Carries out what the core decides on numbers of copies: at each rate tick, and at each look of the janitor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from mesh.core.errors import MeshError
from mesh.core.events import CopySpared
from mesh.core.explaining.decisions import Decision, Kind
from mesh.core.ids import PodId
from mesh.core.routing.hops import Hop
from mesh.core.routing.hops import Kind as HopKind
from mesh.core.scaling.rates import ScalingRules
from mesh.core.scaling.ticks import AddCopies, GiveBack, Order, Scaling
from mesh.core.units import Millis
from mesh.pod.conductor import Conductor
from mesh.pod.loads import Loads
from mesh.pod.peers import Peers
from mesh.pod.tasks import Tasks
from mesh.settings import Settings

log = logging.getLogger(__name__)

ANSWER = 5.0
"""Seconds in which another copy has to show that it is there before one is given back."""
AT_A_TIME = 10
"""Orders that are carried out at the same time (reference 0.2, TASK_THREADS)."""
TAKEN_ON = 10.0
"""Seconds in which a pod has to take a copy on."""


def rules_of(settings: Settings) -> ScalingRules:
    """What the settings say of scaling."""
    return ScalingRules(
        interval=Millis(settings.rate_interval),
        janitor=Millis(settings.janitor_interval),
        bandwidth=settings.scaleup_bandwidth,
        second_least=Millis(settings.second_copy_least),
        second_most=Millis(settings.second_copy_most),
        calm=Millis(settings.calm),
    )


class ScalingKeeper:
    """Lets the copies of one pod follow their load.

    Args:
        catch_up: has calls counted that were counted elsewhere.
    """

    def __init__(self, scaling: Scaling, conductor: Conductor, loads: Loads, peers: Peers, catch_up: Callable[[], None]) -> None:
        self._catch_up = catch_up
        self._scaling, self._conductor, self._loads, self._peers = scaling, conductor, loads, peers
        self._tasks = Tasks()
        self._turns = asyncio.Semaphore(AT_A_TIME)

    async def keep(self) -> None:
        """Works until it is cancelled."""
        rules, loop = self._scaling.rules, asyncio.get_running_loop()
        due = loop.time() + rules.janitor / 1000
        try:
            while True:
                await asyncio.sleep(rules.interval / 1000)
                self._catch_up()
                log.debug("rate tick", extra={"used": len(self._conductor.pod.cache.used)})
                await self._carry_out(self._scaling.tick(self._conductor.now()))
                if loop.time() >= due:
                    due = loop.time() + rules.janitor / 1000
                    await self._carry_out(self._scaling.sweep(self._conductor.now()))
        finally:
            await self._tasks.stop()

    async def _carry_out(self, parts: Iterator[list[Order]]) -> None:
        """Begins what was decided; other work gets its turn between the parts."""
        for orders in parts:
            for order in orders:
                if isinstance(order, AddCopies):
                    self._tasks.begin(self._add(order), f"adding copies of {order.model}")
                else:
                    self._tasks.begin(self._give_back(order), f"giving back {order.copy}")
            await asyncio.sleep(0)

    async def _add(self, order: AddCopies) -> None:
        """Has pods take copies on, one after the other, which load at the same time."""
        taken: list[PodId] = []
        try:
            async with self._turns:
                for _ in range(order.copies):
                    avoid = order.avoid.union(taken)
                    taken.append(await self._loads.ensure(order.model, last_used=order.last_used, avoid=avoid, limit=TAKEN_ON))
            log.info("more copies", extra={"model": order.model, "pods": taken})
        except MeshError as error:
            log.info("no further copy", extra={"model": order.model, "pods": taken, "cause": error.message})
            reason = f"{len(taken)} of {order.copies} copies were taken on; for the next: {error.message}"
            decisions = self._conductor.pod.cache.decisions
            decisions.note(Decision(Kind.SCALE_UP, order.model, self._conductor.now(), str(len(taken)), reason))
        finally:
            self._scaling.asked(order.model, taken, self._conductor.now())

    async def _give_back(self, order: GiveBack) -> None:
        """Sees that another copy is there, then has this one leave."""
        async with self._turns:
            for pod in order.others:
                if await self._is_there(order, pod):
                    self._conductor.tell(CopySpared(order.copy, order.edit, order.why))
                    return
        log.info("not given back: no other copy answers", extra={"model": order.copy.model})

    async def _is_there(self, order: GiveBack, pod: PodId) -> bool:
        """Asks a pod for its copy, without that counting as a use."""
        hop = Hop(HopKind.HIT, order.copy.model, self._conductor.pod.id, pod, last_used=Millis(0), urgent=False)
        try:
            await self._peers.ensure_loaded(hop, wait=False, timeout=ANSWER)
        except MeshError as error:
            log.info("a copy does not answer", extra={"model": order.copy.model, "pod": pod, "cause": error.message})
            return False
        return True
