"""How many pods each runtime wants, told to whoever scales them: a gauge, and a view with the reason."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from mesh.core.cache.copies import GRANTED
from mesh.core.ids import PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.scaling.wanted_pods import RECENT, Aims, Inputs, Use, Wanted, decide, figures, runtime_of, told
from mesh.core.units import Millis, Units
from mesh.pod.conductor import Conductor
from mesh.settings import Settings
from mesh.store.registry import Registry

SAMPLES = 60
"""Looks at how many calls run, over half the time that things take to settle: with the default one a second, a minute long."""

DECIDE = 30
"""A decision is made at every thirtieth look: it reads the records of all pods."""

SHORTEST = 0.02
"""Seconds between two looks at least."""


class WantedPods:
    """Watches this pod's use and the pods of every runtime.

    Args:
        own: this pod's record as it is now.
        outdated: pods that a rollout is replacing.
    """

    def __init__(
        self,
        conductor: Conductor,
        registry: Registry,
        settings: Settings,
        own: Callable[[], InstanceRecord],
        outdated: Callable[[Millis], frozenset[PodId]],
    ) -> None:
        self._conductor, self._registry, self._own, self._outdated = conductor, registry, own, outdated
        self.aims = Aims(
            Millis(settings.pods_age),
            settings.pods_rpm,
            round(settings.pods_calls * 100),
            Millis(settings.pods_settle),
            Millis(settings.pods_calm),
        )
        self.use = Use()
        """Of this pod, for its record."""
        self._calls: deque[int] = deque(maxlen=SAMPLES)
        self._latest: dict[str, tuple[Wanted, Inputs]] = {}

    async def keep(self) -> None:
        """Looks and decides until it is cancelled."""
        period = max(SHORTEST, self.aims.settle / 1000 / 2 / SAMPLES)
        while True:
            for _ in range(DECIDE):
                self._calls.append(self._conductor.pod.pods.calls(self._conductor.pod.id, self._conductor.now()))
                await asyncio.sleep(period)
            self.use = Use(100 * sum(self._calls) // len(self._calls), self._idle())
            self._decide()

    def wanted(self) -> dict[str, float]:
        """Pods wanted, by runtime."""
        return {runtime: answer.pods for runtime, (answer, _) in self._latest.items()}

    def told(self) -> dict[str, Any]:
        """The latest decision about each runtime, with what it was made from."""
        return {"runtimes": [{"runtime": runtime, **told(*self._latest[runtime])} for runtime in sorted(self._latest)]}

    def _idle(self) -> Units:
        """What models out of recent use take here."""
        since = self._conductor.now() - RECENT
        copies = self._conductor.pod.cache.current.values()
        return Units(sum(copy.weight for copy in copies if copy.state in GRANTED and copy.last_used < since))

    def _decide(self) -> None:
        now = self._conductor.now()
        outdated = self._outdated(now)
        groups: dict[str, list[InstanceRecord]] = {}
        changing: set[str] = set()
        for pod, record in {**self._registry.instances, self._conductor.pod.id: self._own()}.items():
            runtime = runtime_of(record.labels)
            if record.shutting_down or pod in outdated:
                changing.add(runtime)
            if not record.shutting_down:
                groups.setdefault(runtime, []).append(record)
        before, self._latest = self._latest, {}
        for runtime, records in groups.items():
            pods = tuple(figures(record, now) for record in records)
            memory = before[runtime][0].memory if runtime in before else None
            inputs = Inputs(pods, runtime in changing, memory, now, self.aims)
            self._latest[runtime] = decide(inputs), inputs
