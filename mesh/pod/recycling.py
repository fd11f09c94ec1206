"""Ends a pod's model server, which begins anew, without a call noticing: its copies move first, and what cannot move waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from mesh.core.cache.copies import State
from mesh.core.errors import Leaving, MeshError, RuntimeUnavailable
from mesh.core.events import RecordDiffers, RuntimeReleased, RuntimeWithheld
from mesh.core.ids import PodId
from mesh.pod.conductor import Conductor
from mesh.pod.drain import Drain
from mesh.pod.loads import Loads
from mesh.pod.membership import Membership
from mesh.pod.travel import Travels
from mesh.runtime.process import RuntimeProcess
from mesh.store.registry import Registry

log = logging.getLogger(__name__)

SETTLE = 2.0
"""Seconds in which a pod that began at the same moment is seen: records take some milliseconds."""
LOADS = 30.0
"""Seconds that loads under way get to end while none begins; with longer ones the server goes on."""
HAND_OVER = 300.0
"""Seconds in which copies move; what has not by then waits for the server here."""
QUIET = 10.0
"""Seconds that calls get to end while others already wait; with longer ones, streams, the server goes on."""
BY_ITSELF = "the model server began anew by itself"
"""Why there is nothing left to do."""
LOOK = 0.05
"""Seconds between two looks at whether something has come about that nobody tells."""


@dataclass(frozen=True)
class Recycler:
    """Recycles the model server of one pod.

    Attributes:
        back: seconds in which the server has to be there again.
    """

    conductor: Conductor
    registry: Registry
    membership: Membership
    loads: Loads
    travels: Travels
    process: RuntimeProcess
    back: float

    async def run(self) -> str:
        """Returns when the server began anew and the pod is as it was, with no word; else with why it was left alone for now.

        One pod at a time: pods show in their records that they do this, and none begins while another does, leaves, or came first.

        Raises:
            MeshError: it did not work, and says why; the server goes on then, unless it did not come back.
        """
        if why := self._occupied():
            return why
        others = any(True for _ in self.conductor.pod.pods.others())
        try:
            await self.membership.rest(True)
            if others:
                await asyncio.sleep(SETTLE)
                if why := self._occupied(only_before_me=True):
                    return why
            # From here on no load begins, so that nothing comes in while the rest moves out.
            self.conductor.tell(RuntimeWithheld(calls=False))
            await self._quiet(self._loading, "loads", LOADS)
            if others and not self._released():
                await self._hand_over()
            return BY_ITSELF if self._released() else await self._begin_anew()
        finally:
            self.conductor.tell(RuntimeReleased())
            await self._as_before()

    async def _hand_over(self) -> None:
        self._stay()
        drain = Drain(self.conductor, self.registry, self.loads, self.travels)
        await drain.hand_over(HAND_OVER)
        if self.travels.witness is drain:
            self.travels.witness = None

    def _stay(self) -> None:
        """A pod that ends hands its models over by itself, and its server ends with it."""
        if self.conductor.pod.leaving:
            raise Leaving("the pod itself is about to end")

    async def _begin_anew(self) -> str:
        self._stay()
        # Calls wait from here on, or go to where the copies are now.
        self.conductor.tell(RuntimeWithheld(calls=True))
        await self._quiet(self._calls, "calls", QUIET)
        if self._released():
            return BY_ITSELF
        await self.process.end()
        # The watch of its health tells the core when it is back, with nothing loaded: then it is withheld no more.
        if not await self._comes_about(self._released, self.back):
            raise RuntimeUnavailable(
                f"the model server was ended and did not come back within {self.back:g} s: whoever keeps it running has to start it"
            )
        return ""

    def _released(self) -> bool:
        """Whether a new server is there: the old one alone is withheld."""
        return not self.conductor.pod.cache.paused

    async def _quiet(self, running: Callable[[], int], what: str, within: float) -> None:
        """Returns when nothing runs any more, or when the server began anew by itself."""
        if not await self._comes_about(lambda: not running() or self._released(), within):
            raise RuntimeUnavailable(f"{running()} {what} took longer than {within:g} s to end")

    async def _as_before(self) -> None:
        """Others may come again; copies that moved and serve here all the same stand in their records again."""
        if self.conductor.pod.leaving:
            return
        try:
            await self.membership.rest(False)
        except MeshError as error:
            log.warning("others believe that this pod still recycles its model server", extra={"cause": error.message})
        pod = self.conductor.pod
        for model, copy in list(pod.cache.current.items()):
            record = pod.models.get(model)
            if record is not None and copy.registered and record.copies.get(self._me) != copy.created:
                self.conductor.tell(RecordDiffers(model))

    def _occupied(self, *, only_before_me: bool = False) -> str:
        """Which other pod makes this one wait; empty if none does."""
        for pod, record in sorted(self.conductor.pod.pods.others()):
            if record.shutting_down:
                return f"pod {pod} is shutting down"
            if record.recycling and not (only_before_me and self._me < pod):
                return f"pod {pod} recycles its model server"
        return ""

    @property
    def _me(self) -> PodId:
        return self.conductor.pod.id

    def _loading(self) -> int:
        """Loads that the model server works on."""
        return sum(copy.state is State.LOADING for copy in self.conductor.pod.cache.current.values())

    def _calls(self) -> int:
        """Calls that run on copies here."""
        cache = self.conductor.pod.cache
        return sum(copy.calls for copies in (cache.current, cache.leaving) for copy in copies.values())

    async def _comes_about(self, condition: Callable[[], bool], within: float) -> bool:
        try:
            async with asyncio.timeout(within):
                while not condition():  # noqa: ASYNC110 - calls end without telling anybody
                    await asyncio.sleep(LOOK)
        except TimeoutError:
            return condition()
        return True
