"""This pod's part in the registry: it cleans up after its former life and tells others how it is."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from mesh.core.cache.busyness import Busyness
from mesh.core.cache.publishing import PERIOD, due, least_space
from mesh.core.errors import Conflict, MeshError, StoreUnavailable
from mesh.core.events import RecordDiffers
from mesh.core.ids import PodId
from mesh.core.instructions import Instruction
from mesh.core.registry.edits import ClearFailure, RemoveCopy
from mesh.core.registry.instances import InstanceRecord
from mesh.core.scaling.wanted_pods import Use
from mesh.core.units import Millis
from mesh.pod.build_version import build_version
from mesh.pod.conductor import Conductor
from mesh.pod.peer_lines import Greeting
from mesh.pod.tasks import Tasks
from mesh.settings import Settings
from mesh.store.registry import Registry
from mesh.store.tables import noted

log = logging.getLogger(__name__)

HELLO = 5.0
"""Seconds in which a pod of the same id has to answer to count as alive (reference 9.2)."""

AGAIN = (1.0, 3.0)
"""Seconds between looks whether a store that was away at the start answers; drawn, because all pods look at once."""

PORTION = 100
"""Records that are looked at before others get their turn."""

Hello = Callable[[str, float], Awaitable[Greeting]]
"""Asks who answers at `host:port`, so many seconds at most; a MeshError if nobody does."""


class Membership:
    """One pod among others.

    Args:
        calls: how many calls began on copies here since the pod started.
    """

    def __init__(self, registry: Registry, conductor: Conductor, settings: Settings, calls: Callable[[], int]) -> None:
        self._registry, self._conductor, self._calls = registry, conductor, calls
        self._service = settings.service_name
        self.identity = InstanceRecord(
            start_time=conductor.now(),
            version=build_version(settings),
            location=settings.location or settings.pod_address,
            zone=settings.zone,
            labels=tuple(settings.labels),
        )
        """What of the pod's record does not change, but for the endpoint that `join` adds."""
        self.use: Callable[[], Use] = Use
        """What the pod measures of its use."""
        self._busyness = Busyness(calls(), self.identity.start_time)
        self._published: InstanceRecord | None = None
        self._at = Millis(0)
        self._news = asyncio.Event()
        self._tasks = Tasks()

    async def check_identity(self, hello: Hello) -> None:
        """Makes sure that no living pod has this pod's id.

        Raises:
            Conflict: one answers at the address in the record under this id.
        """
        me = self._conductor.pod.id
        record = self._registry.instances.get(me)
        if record is None:
            return
        if not record.endpoint:
            log.warning("the id of this pod is in the registry, written by a router that cannot be asked; it counts as gone")
            return
        try:
            found = await hello(record.endpoint, HELLO)
        except MeshError:
            log.info("a former life of this pod is still in the registry", extra={"endpoint": record.endpoint})
            return
        if (found.pod, found.service) == (me, self._service) and found.start_time != self.identity.start_time:
            raise Conflict(
                f"another pod of the mesh {found.service} has the id {me} and answers at {record.endpoint}; ids are the last 12 characters "
                "of WKUBE_POD_NAME, give each pod another one or end that pod"
            )

    async def join(self, endpoint: str) -> None:
        """Takes this pod out of the records that its former life stands in: the runtime starts empty. Then publishes the pod.

        From now on it is a target for models, and tells how it is until it stops.

        Args:
            endpoint: `host:port` where other pods reach it; it listens there already.

        While the store is away the same is done later: the pod is seen as soon as the store answers.

        Raises:
            StoreUnavailable: the store, which answered before, does not answer.
        """
        self.identity = self.identity.with_(endpoint=endpoint)
        if self._registry.trouble is None:
            await self._forget_former_life()
            await self._publish()
            await self._registry.stand_for_leader(self._conductor.pod.id)
        else:
            self._tasks.begin(self._appear(), "joining the other pods when the store answers")
        self._conductor.watch(self._something_ordered)
        self._registry.listen_to_instances(self._pod_changed)
        self._tasks.begin(self._keep(), "publishing the pod's record")

    async def _forget_former_life(self) -> None:
        me, now = self._conductor.pod.id, self._conductor.now()
        for number, (model, record) in enumerate(noted(self._registry.models), 1):
            if number % PORTION == 0:
                await asyncio.sleep(0)
            if me in record.copies:
                await self._registry.change(RemoveCopy(model, me, record.copies[me], record.last_used, now))
            if me in record.failed:
                await self._registry.change(ClearFailure(model, me))

    async def _appear(self) -> None:
        """Publishes the pod as soon as the store takes it, then says of each model what is true: its former life and this one held some."""
        for put in (self._publish, lambda: self._registry.stand_for_leader(self._conductor.pod.id)):
            # What the store does not take now it takes when it answers.
            with suppress(StoreUnavailable):
                await put()
        while True:
            await asyncio.sleep(random.uniform(*AGAIN))
            if self._registry.trouble is None:
                break
        me, pod = self._conductor.pod.id, self._conductor.pod
        for number, (model, record) in enumerate(list(self._registry.models.items())):
            copy = pod.copy(model)
            if record.copies.get(me) != (copy and copy.created) or me in record.failed:
                self._conductor.tell(RecordDiffers(model))
            if number % PORTION == 0:
                await asyncio.sleep(0)

    async def leave(self) -> None:
        """Tells others that nothing new is to come here; if the store does not answer, they learn it when the pod is gone."""
        self._conductor.pod.leaving = True
        if self._published is None:
            return
        try:
            await self._publish()
        except MeshError as error:
            log.warning("others do not learn that this pod leaves", extra={"cause": error.message})

    async def rest(self, resting: bool) -> None:
        """Tells others that the model server here is about to begin anew, or has.

        Raises:
            StoreUnavailable: they do not learn it yet.
        """
        self._conductor.pod.resting = resting
        await self._publish()

    def record(self) -> InstanceRecord:
        """How the pod is at this moment."""
        calls, idle = self.use()
        return self._conductor.pod.figures(self.identity.with_(rpm=self.rpm(), calls=calls, idle=idle))

    def rpm(self) -> int:
        """Calls a minute that began on copies here, over the last minutes."""
        return self._busyness.rpm(self._calls(), self._conductor.now())

    async def stop(self) -> None:
        """Ends what is under way."""
        await self._tasks.stop()

    # The pod's own record

    async def _keep(self) -> None:
        """Publishes what matters soon, whatever else changes in the end."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD / 1000):
                    await self._news.wait()
            self._news.clear()
            now = self._conductor.now()
            when = due(self._published, self._at, self.record(), now, least_space(self._conductor.pod.cache.policy))
            if when is None or self._registry.trouble is not None:
                # A store that is away gets it when it is back.
                continue
            await asyncio.sleep((when - now) / 1000)
            try:
                await self._publish()
            except MeshError as error:
                log.warning("the pod's record is not written", extra={"cause": error.message})

    async def _publish(self) -> None:
        record, self._at = self.record(), self._conductor.now()
        await self._registry.publish(self._conductor.pod.id, record)
        self._published = record

    def _something_ordered(self, _instruction: Instruction) -> None:
        self._news.set()

    def _pod_changed(self, pod: PodId, record: InstanceRecord | None) -> None:
        """The store writes again what vanished; what it wrote may be old by then. Another pod's record under this id is worse."""
        if pod != self._conductor.pod.id:
            return
        if record is None:
            self._published = None
            self._news.set()
        elif record.start_time != self.identity.start_time:
            log.error("another pod has written its record under the id of this one; end one of them", extra={"endpoint": record.endpoint})
