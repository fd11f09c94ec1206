"""Has models loaded, somewhere: for users who ask for it, for other pods, for what failed here, for what is to move."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import replace

from mesh.core.errors import DeadlineExceeded, MeshError, Unknown
from mesh.core.ids import ModelId, PodId
from mesh.core.instructions import Instruction, LoadElsewhere
from mesh.core.routing.hops import Hop
from mesh.core.routing.journey import Journey
from mesh.core.routing.steps import Forward, Purpose, Refuse, Serve, View, WaitFor
from mesh.core.units import Millis
from mesh.pod.conductor import Conductor
from mesh.pod.lookups import Lookups
from mesh.pod.peers import Peers
from mesh.pod.tasks import Tasks

log = logging.getLogger(__name__)

LONGEST = 600.0
"""Seconds that a load on another pod is waited for (reference 3.10)."""


class Loads:
    """Loads of models that no call waits for, or that are waited for without a call."""

    def __init__(self, conductor: Conductor, view: View, peers: Peers, lookups: Lookups) -> None:
        self._conductor, self._view, self._peers, self._lookups = conductor, view, peers, lookups
        self._tasks = Tasks()
        conductor.watch(self._watch)

    async def ensure(
        self,
        model: ModelId,
        *,
        last_used: Millis | None = None,
        wait: bool = False,
        urgent: bool = False,
        avoid: frozenset[PodId] = frozenset(),
        hop: Hop | None = None,
        limit: float | None = None,
    ) -> PodId:
        """Sees to it that a pod has the model, or is about to have it; which one.

        Args:
            model: what.
            last_used: as what a new copy counts; None is now. A copy that is there is marked as used then.
            wait: until it serves; else only until a pod has taken it on.
            urgent: before loads that nobody waits for.
            avoid: pods whose copies do not count, and that are not to load it.
            hop: how the wish came from another pod.
            limit: seconds to wait.

        Raises:
            MeshError: it did not load, or could not be taken on anywhere.
        """
        purpose = Purpose(hop, last_used=last_used, urgent=urgent, enters=False, avoid=avoid)
        journey = Journey(model, self._view, purpose)
        try:
            async with asyncio.timeout(limit):
                while (pod := await self._step(journey, wait=wait)) is None:
                    pass
                return pod
        except TimeoutError:
            raise DeadlineExceeded(f"model {model} was not loaded within {limit:.3g} s; the load goes on") from None

    async def ensure_loaded(self, hop: Hop, *, wait: bool, deadline: float | None) -> None:
        """What another pod asks for.

        Args:
            hop: which model, and what was tried.
            wait: as of `ensure`.
            deadline: on the event loop's clock.
        """
        limit = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        await self.ensure(hop.model, last_used=hop.last_used, wait=wait, urgent=hop.urgent, hop=hop, limit=limit)

    async def _step(self, journey: Journey, *, wait: bool) -> PodId | None:
        """One step; the pod that has the model or took it on, if that was all."""
        me = self._conductor.pod.id
        step = journey.next(self._conductor.now(), random.randrange)
        if isinstance(step, Refuse) and isinstance(step.error, Unknown) and await self._lookups.model(journey.model):
            return None
        try:
            match step:
                case Refuse(error):
                    raise error
                case Forward(hop, _):
                    await self._peers.ensure_loaded(hop, wait=wait, timeout=LONGEST)
                    return hop.dest
                case WaitFor(wanted):
                    if not wait:
                        self._conductor.tell(replace(wanted, waits=False))
                        return me
                    copy = await self._conductor.have_loaded(wanted)
                case Serve(copy):
                    pass
        except MeshError as error:
            if not journey.failed(step, error, self._conductor.now()):
                raise
            return None
        if copy is None:
            return None
        self._conductor.leave(copy)
        return me

    # In the background

    def _watch(self, instruction: Instruction) -> None:
        if isinstance(instruction, LoadElsewhere):
            self._tasks.begin(self._elsewhere(instruction), f"loading {instruction.model} elsewhere")

    async def _elsewhere(self, order: LoadElsewhere) -> None:
        try:
            await self.ensure(order.model, last_used=order.last_used, avoid=frozenset({self._conductor.pod.id}))
        except MeshError as error:
            log.info("not loaded elsewhere", extra={"model": order.model, "cause": error.message})

    async def stop(self) -> None:
        """Ends what is under way."""
        await self._tasks.stop()
