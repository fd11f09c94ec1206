"""Brings aliases from their active to their target model, on the pod that leads: as many copies as the active one has, then the switch."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from mesh.core.errors import DeadlineExceeded, Leaving, LoadFailed, MeshError, Nowhere, StoreUnavailable
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.policy import AGE_ON_LOAD
from mesh.core.registry.aliases import EndTransition
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.registry.transitions import Blocked, Living, Load, Orders, Switch, Wait, grounds, next_step
from mesh.core.units import Millis
from mesh.pod.clock import Clock
from mesh.pod.leading import leads_ours
from mesh.store.registry import Registry
from mesh.store.tables import noted

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds after which a transition is looked at though nothing was told, and in which the registry shows a copy that serves."""

RETRY = 30.0
"""Seconds after which a target that could not be loaded is tried again though nothing speaks for it: room may have come."""

DOUBTS, DOUBT = 8, 0.25
"""How often, and every how many seconds, a failure is doubted that no record bears out: a pod learns late that it was cleared."""

MOST = 20
"""Copies that are ordered for one switch; where caches are so full that copies go as soon as they come, it happens with fewer."""

STORE = 1.0
"""Seconds until a change is tried again that the registry did not take."""


@dataclass(slots=True, eq=False)
class _Running:
    """One transition under way.

    Attributes:
        record: the alias as it was when it began.
        wake: something changed that concerns it.
        orders: copies that are being loaded, each with the holders that it avoids.
        error: why the latest copy could not be had.
        ordered: how many were ordered since a failure.
        doubts: how often the latest failure was doubted.
        proven: a copy was loaded, whatever the registry shows.
        switching: its end is being written, which shows before it is known to be written.
    """

    alias: AliasId
    record: AliasRecord
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    orders: dict[asyncio.Task[object], frozenset[PodId]] = field(default_factory=dict)
    error: MeshError | None = None
    ordered: int = 0
    doubts: int = 0
    proven: bool = False
    switching: bool = False

    async def pause(self, seconds: float) -> bool:
        """Waits for a change; whether there was one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        return self.wake.is_set()


class Loader(Protocol):
    """Has models loaded; `mesh.pod.loads.Loads` is one."""

    async def ensure(self, model: ModelId, *, last_used: Millis, wait: bool, avoid: frozenset[PodId]) -> object:
        """Returns when a copy serves on a pod that is not to be avoided; raises a MeshError if there is none."""
        ...


class Transitions:
    """One task for each alias in transition, on the leader. What another leader began, a new one finds in the records."""

    def __init__(self, me: PodId, clock: Clock, registry: Registry, loads: Loader) -> None:
        self._clock, self._registry, self._loads = clock, registry, loads
        self._living = Living(me, registry.instances)
        self._moving: dict[AliasId, AliasRecord] = {}
        self._running: dict[AliasId, _Running] = {}
        self._concerned: dict[ModelId, set[_Running]] = {}
        self._followers: dict[AliasId, set[asyncio.Event]] = {}
        self._pods = {pod: record.shutting_down for pod, record in registry.instances.items()}
        for alias, record in noted(registry.aliases):
            self._alias_changed(alias, record)
        registry.listen(self._model_changed, self._alias_changed)
        registry.listen_to_instances(self._instance_changed)
        registry.listen_to_leadership(self._leadership_changed)

    async def follow(self, alias: AliasId, target: ModelId, wait: float) -> None:
        """Waits until a transition ends, is blocked, or is another one; whichever pod works on it.

        Args:
            alias: which.
            target: where it leads.
            wait: seconds at most.

        Raises:
            DeadlineExceeded: it did not end within that time; it goes on.
        """
        changed = asyncio.Event()
        followers = self._followers.setdefault(alias, set())
        followers.add(changed)
        try:
            async with asyncio.timeout(wait):
                while (record := self._moving.get(alias)) is not None and record.target == target and not record.failed:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"vmodel {alias}: the transition to {target} is not over after {wait:g} s; it goes on") from None
        finally:
            followers.discard(changed)
            if not followers:
                self._followers.pop(alias, None)

    # What is told

    def _alias_changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        if record is not None and record.in_transition:
            self._moving[alias] = record
        else:
            self._moving.pop(alias, None)
        self._look_at(alias)
        for follower in self._followers.get(alias, ()):
            follower.set()

    def _model_changed(self, model: ModelId, _record: ModelRecord | None) -> None:
        for running in self._concerned.get(model, ()):
            running.wake.set()

    def _instance_changed(self, pod: PodId, record: InstanceRecord | None) -> None:
        """Pods tell of themselves often; only that they come, leave and go concerns transitions."""
        before, leaving = self._pods.pop(pod, None), record.shutting_down if record is not None else None
        if leaving is not None:
            self._pods[pod] = leaving
        if leaving != before:
            self._look_at_all()

    def _leadership_changed(self, _leads: bool) -> None:
        self._look_at_all()

    def _look_at_all(self) -> None:
        for alias in {*self._moving, *self._running}:
            self._look_at(alias)

    def _drives(self) -> bool:
        """Whether it is this pod that works on transitions. What others write too is guarded by where the alias points."""
        # Read-only, the end of a transition could not be written.
        return not self._registry.read_only and leads_ours(self._registry, self._living)

    def _look_at(self, alias: AliasId) -> None:
        """Has the right task run for an alias, or none."""
        running, record = self._running.get(alias), self._moving.get(alias)
        wanted = record if self._drives() else None
        if running is not None:
            if wanted is None and running.switching:
                return
            if wanted is not None and (wanted.active, wanted.target) == (running.record.active, running.record.target):
                running.wake.set()
                return
            self._end(running)
        if wanted is not None:
            self._begin(alias, wanted)

    def _begin(self, alias: AliasId, record: AliasRecord) -> None:
        running = self._running[alias] = _Running(alias, record)
        for model in (record.active, record.target):
            self._concerned.setdefault(model, set()).add(running)
        running.task = asyncio.get_running_loop().create_task(self._run(running))
        running.task.add_done_callback(lambda task: self._ended(running, task))

    def _end(self, running: _Running) -> None:
        if running.task is not None:
            running.task.cancel()
        self._forget(running)

    def _ended(self, running: _Running, task: asyncio.Task[None]) -> None:
        self._forget(running)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a transition broke; this is a bug", extra={"alias": running.alias}, exc_info=error)

    def _forget(self, running: _Running) -> None:
        for order in running.orders:
            # The load itself goes on.
            order.cancel()
        for model in (running.record.active, running.record.target):
            concerned = self._concerned.get(model, set())
            concerned.discard(running)
            if not concerned:
                self._concerned.pop(model, None)
        if self._running.get(running.alias) is running:
            del self._running[running.alias]

    # The work

    async def _run(self, running: _Running) -> None:
        while True:
            try:
                if await self._step(running):
                    return
            except StoreUnavailable as error:
                log.warning("a transition waits for the registry", extra={"alias": running.alias, "cause": error.message})
                # What was passed over while its end was written may have ended it.
                self._look_at(running.alias)
                await asyncio.sleep(STORE)

    async def _step(self, running: _Running) -> bool:
        """One step; whether it was the last."""
        running.wake.clear()
        await self._collect(running)
        record, models = running.record, self._registry.models
        orders = Orders(tuple(running.orders.values()), running.error is None, running.proven, isinstance(running.error, Nowhere))
        match next_step(record, models, self._living, orders):
            case Switch(missing):
                await self._switch(running)
                self._tell_end(running, missing)
                return True
            case Load(avoid):
                self._order(running, avoid)
            case Blocked():
                await self._blocked(running)
            case Wait():
                await running.pause(LOOK)
        return False

    async def _switch(self, running: _Running) -> None:
        record = running.record
        running.switching = True
        try:
            await self._registry.change(EndTransition(running.alias, record.active, record.target, loaded=True))
        finally:
            running.switching = False

    def _tell_end(self, running: _Running, missing: int) -> None:
        told = {"alias": running.alias, "model": running.record.target}
        if missing and running.error is not None:
            told |= {"missing": str(missing), "cause": running.error.message}
            log.warning("transition ended with fewer copies than the model before has", extra=told)
        else:
            log.info("transition ended", extra=told)

    def _order(self, running: _Running, avoid: frozenset[PodId]) -> None:
        target = running.record.target
        active, now = self._registry.models.get(running.record.active), self._clock.now()
        if active is not None and self._living.serve(active.copies):
            # Calls come to it at any time, and its record tells of them hours later: its successor finds room as for one that is called.
            last_used = now
        else:
            last_used = Millis(max(active.last_used if active else 0, now - AGE_ON_LOAD))
        load = self._loads.ensure(target, last_used=last_used, wait=True, avoid=avoid)
        order = asyncio.get_running_loop().create_task(load)
        running.orders[order] = avoid
        running.ordered += 1
        order.add_done_callback(lambda done: self._loaded(running, done))

    def _loaded(self, running: _Running, order: asyncio.Task[object]) -> None:
        running.wake.set()
        if not order.cancelled():
            # Asked for here, because nobody collects it once the transition is over.
            order.exception()

    async def _collect(self, running: _Running) -> None:
        """Takes note of loads that ended, well or not."""
        for order in [order for order in running.orders if order.done()]:
            avoided = running.orders.pop(order)
            if order.cancelled():
                continue
            error = order.exception()
            if isinstance(error, MeshError) and not isinstance(error, StoreUnavailable):
                running.error = error
            elif error is not None:
                raise error
            elif running.ordered >= MOST:
                running.error = Nowhere(f"{running.ordered} times a copy was loaded that did not stay")
            elif not avoided and not self._shown(running):
                await running.pause(LOOK)
                running.proven = not self._shown(running)

    def _shown(self, running: _Running) -> bool:
        """Whether the registry shows a copy of the target that serves."""
        target = self._registry.models.get(running.record.target)
        return target is None or bool(self._living.serve(target.ready))

    async def _blocked(self, running: _Running) -> None:
        """Says why the target is not loaded, and returns when it is to be tried again."""
        error, record, models = running.error, running.record, self._registry.models
        assert error is not None, "only a failure blocks a transition"
        running.error, running.ordered = None, 0
        if isinstance(error, Leaving):
            # Nothing is wrong with the target: this pod, the only one, is about to end.
            await running.pause(LOOK)
            return
        target = models.get(record.target)
        if isinstance(error, LoadFailed) and target is not None and not target.failed and running.doubts < DOUBTS:
            running.doubts += 1
            await running.pause(DOUBT)
            return
        running.doubts = 0
        before = grounds(record, models, self._living)
        told = self._registry.aliases.get(running.alias)
        if told is not None and told.cause != error.message:
            log.warning("transition blocked", extra={"alias": running.alias, "target": record.target, "cause": error.message})
        await self._registry.change(EndTransition(running.alias, record.active, record.target, loaded=False, cause=error.message))
        end = asyncio.get_running_loop().time() + RETRY
        while (told := self._moving.get(running.alias)) is not None and told.failed:
            # Somebody who asks for the target once more takes the note of its failure away.
            left = end - asyncio.get_running_loop().time()
            if left <= 0 or grounds(record, models, self._living) != before:
                return
            running.wake.clear()
            await running.pause(left)

    async def stop(self) -> None:
        """Ends all tasks."""
        tasks = [running.task for running in self._running.values() if running.task is not None]
        for running in list(self._running.values()):
            self._end(running)
        await asyncio.gather(*tasks, return_exceptions=True)
