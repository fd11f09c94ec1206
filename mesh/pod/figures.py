"""What a pod tells at each scrape, and of times without a store."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from mesh.core.units import bytes_of
from mesh.pod.census import Census
from mesh.pod.conductor import Conductor
from mesh.store.registry import Registry
from mesh.telemetry import catalogue
from mesh.telemetry.metrics import Gauges, Metrics

PERIOD = 1.0
"""Seconds between two looks at whether the store answers."""


class Figures:
    """The figures of one pod; those of the whole mesh are told by the pod that leads, so that sums over pods are right."""

    def __init__(self, metrics: Metrics, conductor: Conductor, census: Census, registry: Registry) -> None:
        self._metrics, self._conductor, self._census, self._registry = metrics, conductor, census, registry
        metrics.gauges_from(self._gauges)
        metrics.read(catalogue.UNREGISTERED, self._unregistered)
        metrics.read(catalogue.DECISIONS, self._decisions)

    def _gauges(self) -> Gauges:
        """The figures of reference 10.2."""
        cache, census, leads = self._conductor.pod.cache, self._census, self._registry.leads
        oldest = cache.recency.oldest()
        return Gauges(
            lru=oldest.last_used / 1000 if oldest else None,
            lru_age=max(0.0, (self._conductor.now() - oldest.last_used) / 1000) if oldest else 0.0,
            capacity=bytes_of(cache.policy.room),
            used=bytes_of(cache.space.granted),
            models=len(cache.current),
            loaded=census.loaded if leads else None,
            failed=census.failed if leads else None,
            managed=census.managed if leads else None,
        )

    def _unregistered(self) -> int:
        """Copies that went on without the registry's answer, as they do while the store is away."""
        pod, models = self._conductor.pod, self._registry.models
        copies = [copy for copy in pod.cache.current.values() if copy.registered]
        return sum(record is None or pod.id not in record.copies for record in (models.get(copy.id.model) for copy in copies))

    def _decisions(self) -> dict[str, float]:
        return {kind.value: count for kind, count in self._conductor.pod.cache.decisions.noted.items()}

    async def watch_store(self, period: float = PERIOD) -> NoReturn:
        """Counts, until it is cancelled, the time in which the store is known not to answer."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(period)
            now = loop.time()
            if self._registry.trouble is not None:
                self._metrics.count(catalogue.OUTAGE, now - before)
            before = now
