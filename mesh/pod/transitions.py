"""Brings aliases from their active to their target model: loads the target, then switches; a broken target leaves the old one serving."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from mesh.core.aliases import EndTransition
from mesh.core.errors import DeadlineExceeded, MeshError
from mesh.core.events import LoadWanted
from mesh.core.ids import AliasId
from mesh.core.policy import AGE_ON_LOAD
from mesh.core.records import AliasRecord
from mesh.core.units import Millis
from mesh.pod.conductor import Conductor
from mesh.store.registry import Registry

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    """One transition under way; `settled` once it ended, or failed to load its target for the first time."""

    record: AliasRecord
    task: asyncio.Task[None]
    settled: asyncio.Event


class Transitions:
    """One task for each alias in transition."""

    def __init__(self, conductor: Conductor, registry: Registry) -> None:
        self._conductor, self._registry = conductor, registry
        self._running: dict[AliasId, _Running] = {}
        registry.listen(lambda _model, _record: None, self._changed)
        for alias, record in registry.aliases.items():
            self._changed(alias, record)

    async def follow(self, alias: AliasId, record: AliasRecord, *, wait: float | None, afresh: bool = False) -> None:
        """Sees to it that a transition runs; waits for its end up to `wait` seconds, or not at all. `afresh` cuts short a pause.

        Raises:
            DeadlineExceeded: it did not end within that time; it goes on.
        """
        running = self._begin(alias, record, afresh=afresh)
        if wait is None:
            return
        try:
            async with asyncio.timeout(wait):
                await running.settled.wait()
        except TimeoutError:
            raise DeadlineExceeded(f"vmodel {alias}: the transition to {record.target} is not over after {wait:g} s; it goes on") from None

    def _changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        if record is not None and record.in_transition and not record.failed:
            self._begin(alias, record)
        elif record is None and (running := self._running.get(alias)):
            running.task.cancel()

    def _begin(self, alias: AliasId, record: AliasRecord, *, afresh: bool = False) -> _Running:
        running = self._running.get(alias)
        if running is not None:
            if (running.record.active, running.record.target) == (record.active, record.target) and not afresh:
                return running
            running.task.cancel()
        settled = asyncio.Event()
        task = asyncio.get_running_loop().create_task(self._run(alias, record, settled))
        running = self._running[alias] = _Running(record, task, settled)
        task.add_done_callback(lambda done: self._ended(alias, running, done))
        return running

    def _ended(self, alias: AliasId, running: _Running, task: asyncio.Task[None]) -> None:
        running.settled.set()
        if self._running.get(alias) is running:
            del self._running[alias]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("transition broke", extra={"alias": alias}, exc_info=error)

    async def _run(self, alias: AliasId, record: AliasRecord, settled: asyncio.Event) -> None:
        """Loads the target and ends the transition; while it fails, tries again whenever the target may be loaded again."""
        pod = self._conductor.pod
        if self._registry.read_only:
            # Its end could not be written.
            return
        while (target := self._registry.models.get(record.target)) is not None:
            active = self._registry.models.get(record.active)
            now = self._conductor.now()
            last_used = Millis(active.last_used if active and active.last_used else now - AGE_ON_LOAD)
            try:
                copy = await self._conductor.have_loaded(LoadWanted(record.target, target.info, last_used, waits=True))
            except MeshError as error:
                log.warning("transition blocked", extra={"alias": alias, "target": record.target, "cause": error.message})
                await self._registry.change(EndTransition(alias, record.active, record.target, loaded=False))
                settled.set()
                failure = pod.cache.failures.of(record.target)
                if failure is None:
                    return
                await asyncio.sleep(max(0.05, (failure.retry_at - self._conductor.now()) / 1000))
                continue
            if copy is not None:
                self._conductor.leave(copy)
                await self._registry.change(EndTransition(alias, record.active, record.target, loaded=True))
                log.info("transition ended", extra={"alias": alias, "model": record.target})
                return

    async def stop(self) -> None:
        """Ends all tasks."""
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
