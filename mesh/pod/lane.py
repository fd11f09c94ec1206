"""The express lane's publisher: keeps its table in step with copies, records and aliases, and takes what it counted back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesh.core.cache.copies import SERVING, State
from mesh.core.errors import Code
from mesh.core.events import LastCallEnded
from mesh.core.ids import CopyId, ModelId
from mesh.core.instructions import Announce, EndCalls, Instruction, Withdraw
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.express import methods_of
from mesh.pod.conductor import Conductor
from mesh.pod.lane_table import Table
from mesh.pod.targets import Targets
from mesh.pod.travel import Travels
from mesh.pod.underway import outlived
from mesh.runtime.handshake import Runtime
from mesh.store.registry import Registry
from mesh.store.tables import noted
from mesh.telemetry.catalogue import LANE, MESSAGE_SIZES, TIMES
from mesh.telemetry.metrics import Calls, Metrics
from mesh.wire.attempts import name_of

if TYPE_CHECKING:
    import mesh_lane

log = logging.getLogger(__name__)

PREFIX = 5
"""Bytes before each message in a body (gRPC over HTTP/2)."""
TIME_BOUNDS = [round(bound * 1000) for bound in TIMES]
"""Of the metrics' histograms of times, in microseconds."""
SIZE_BOUNDS = [bound + PREFIX for bound in MESSAGE_SIZES]
"""Of those of sizes, in bytes of a body that is one message."""
BATCH = 1_000
"""Models told at once: a batch takes the event loop about a millisecond."""
TAKEN_OVER = 5.0
"""Seconds at most in which all workers take a version over; they do so between two tasks."""


@dataclass(slots=True)
class _Leaving:
    """A copy that no call of the lane enters any more."""

    copy: mesh_lane.Copy
    version: int
    since: float
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Publisher:
    """Tells the lane what is resident, sees its last call on a copy out, and counts its calls as if they had come in here.

    Args:
        address: where the runtime serves.
        answered, private: as of `core.routing.express.methods_of`.
    """

    def __init__(
        self,
        lane: mesh_lane.Lane,
        conductor: Conductor,
        registry: Registry,
        targets: Targets,
        runtime: Runtime,
        travels: Travels,
        metrics: Metrics,
        *,
        address: str,
        answered: Collection[str],
        private: Collection[str],
    ) -> None:
        self._lane, self._conductor, self._registry, self._targets = lane, conductor, registry, targets
        self._runtime, self._travels, self._turns, self._metrics = runtime, travels, travels.turns, metrics
        self._address, self._answered, self._private = address.removeprefix("ipv4:"), answered, private
        self._table = Table(lane, conductor.pod.pods, registry)
        self._leaving: dict[CopyId, _Leaving] = {}
        self._paused: set[str] = set()
        self._news = asyncio.Event()

    async def begin(self) -> None:
        """Tells what there is, and from now on what changes."""
        cache = self._conductor.pod.cache
        asyncio.get_running_loop().add_reader(self._lane.fileno(), self._heard)
        self.rules_changed()
        self._table.begin()
        self._conductor.watch(self._watch)
        self._registry.listen(self._model_changed, self._table.aliases.changed)
        self._targets.called_by = self._table.aliases.used
        cache.express = True
        for copy in list(cache.current.values()):
            self._announce(copy.id)
        for number, (model, record) in enumerate(noted(self._registry.models)):
            self._table.tell(model, record)
            if number % BATCH == 0:
                await asyncio.sleep(0)
        self._say_oldest()

    def end(self) -> None:
        """Hears no more of the lane, which has stopped."""
        self._conductor.pod.cache.express = False
        self._targets.called_by = None
        self._table.end()
        asyncio.get_running_loop().remove_reader(self._lane.fileno())
        # Its last calls may have left places to those that wait.
        self._turns.heard()
        for leaving in self._leaving.values():
            leaving.over.set()

    # What is resident

    def rules_changed(self) -> None:
        """Tells what is done with the calls of each method."""
        runtime = self._runtime
        any_other = runtime.allow_any or not runtime.methods
        rules = methods_of(self._targets.dataplane, runtime.methods, any_other=any_other, answered=self._answered, private=self._private)
        self._lane.publish(rules=(rules.rules, rules.others, rules.withheld))

    def pause(self, why: str, paused: bool = True) -> None:
        """Leaves all calls to Python as long as there is a reason; calls under way go on."""
        before = bool(self._paused)
        (self._paused.add if paused else self._paused.discard)(why)
        if before != bool(self._paused):
            self._table.shut(bool(self._paused), [] if self._paused else list(noted(self._registry.models)))

    async def give_over(self, why: str) -> None:
        """As `pause`; returns when no call comes any more. Those in line have their turns."""
        self.pause(why)
        await self.settled()

    async def settled(self) -> None:
        """Returns when every worker knows of all that was told before."""
        version = self._lane.publish()
        try:
            async with asyncio.timeout(TAKEN_OVER):
                while self._lane.acknowledged < version:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            log.warning("the express lane did not take over within %g s what it was told", TAKEN_OVER)

    def _watch(self, instruction: Instruction) -> None:
        if isinstance(instruction, Announce):
            self._announce(instruction.copy)
        elif isinstance(instruction, Withdraw):
            self._withdraw(instruction.copy)
        elif isinstance(instruction, EndCalls) and (leaving := self._leaving.get(instruction.copy)) is not None:
            leaving.copy.end(outlived(instruction.copy.model))

    def _announce(self, copy_id: CopyId) -> None:
        copy = self._conductor.pod.cache.copy(copy_id)
        if copy is None or copy.state not in SERVING:
            return
        limit, queue = self._turns.limits(copy)
        account = self._lane.copy(self._address, tried=name_of(copy_id), limit=limit, queue=queue, busy=self._lane.busy)
        copy.account = account
        self._turns.share(copy, account)
        self._table.add(copy_id, account, self._registry.models.get(copy_id.model))

    def _withdraw(self, copy_id: CopyId) -> None:
        account = self._table.remove(copy_id, self._registry.models.get(copy_id.model))
        if account is not None:
            self._leaving[copy_id] = _Leaving(account, self._lane.publish(), asyncio.get_running_loop().time())

    def _model_changed(self, model: ModelId, record: ModelRecord | None) -> None:
        self._table.tell(model, record)

    # Last calls

    def _heard(self) -> None:
        self._lane.quiet()
        self._news.set()
        self._turns.heard()
        acknowledged = self._lane.acknowledged
        for copy_id, leaving in list(self._leaving.items()):
            if leaving.version <= acknowledged and leaving.copy.calls == 0:
                del self._leaving[copy_id]
                leaving.over.set()
                copy = self._conductor.pod.cache.copy(copy_id)
                self._turns.count(copy_id.model, leaving.copy, copy)
                if copy is not None and copy.state is State.DRAINING and copy.calls == 0:
                    self._conductor.tell(LastCallEnded(copy_id))

    async def emptied(self, copy: CopyId) -> None:
        """Returns when the lane has no call on a copy that was withdrawn; at the drain limit those that still run are ended."""
        leaving = self._leaving.get(copy)
        if leaving is None:
            return
        left = leaving.since + self._conductor.pod.cache.policy.drain_limit / 1000 - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(max(0.0, left)):
                await leaving.over.wait()
        except TimeoutError:
            log.warning("calls of the express lane outlived MESH_DRAIN_LIMIT", extra={"model": copy.model, "calls": leaving.copy.calls})
            leaving.copy.end(outlived(copy.model))

    # What it counted

    def collect(self) -> None:
        """Takes over what was counted since the last time."""
        self.count(self._lane.collect())
        self._say_oldest()

    def _say_oldest(self) -> None:
        """Has other pods told of this pod's least recently used model, with the answers that the lane gives them."""
        pod = self._conductor.pod
        self._lane.set_oldest(pod.load(self._conductor.now()).lru_time)

    def count(self, rows: list[mesh_lane.Counted]) -> None:
        """Counts calls as those of the Python plane: in metrics where they came in and where they were served, and there also for the
        rates that copies follow, and for the pod's."""
        cache = self._conductor.pod.cache
        for model, alias, method, code, (calls, asked, answered, spent), times, sizes_in, sizes_out, way in rows:
            taken = Calls(times, spent / 1000)
            sizes = Calls(sizes_in, max(0, asked - PREFIX * calls)), Calls(sizes_out, max(0, answered - PREFIX * sum(sizes_out)))
            self._metrics.count(LANE, calls, way)
            came_in, served = way != "hop", way != "there"
            self._metrics.straight(method, Code(code), taken, *sizes, model, alias, came_in=came_in, served=served)
            if not served:
                continue
            self._travels.calls += calls
            copy = cache.current.get(ModelId(model))
            if copy is not None and copy.state in SERVING:
                cache.count(copy, calls)
                copy.used()
        if self._turns.limited:
            for model_id in {ModelId(row[0]) for row in rows if row[-1] != "there"}:
                self._count_times(model_id)

    def _count_times(self, model: ModelId) -> None:
        """Takes over the times of a model's calls where they stand in line."""
        here = self._table.serves(model)
        if here is not None:
            self._turns.count(model, here[1], self._conductor.pod.cache.copy(here[0]))
