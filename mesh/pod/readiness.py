"""Whether this pod is to get calls: what its readiness probe answers (reference 9.4)."""

from __future__ import annotations

import logging

from mesh.core.bootstrap import Bootstrap
from mesh.core.ids import ModelId, PodId
from mesh.core.instructions import ChangeRecord, Instruction
from mesh.core.registry.edits import MarkReady, RecordFailure
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis
from mesh.pod.conductor import Conductor
from mesh.settings import Settings
from mesh.store.registry import Registry

log = logging.getLogger(__name__)


class Readiness:
    """Ready from `open` to `close`, unless the pod fails its probation.

    While other pods leave, a new one waits, so that a rollout replaces pods one after the other; once it saw that none leaves, it never
    waits for that again.
    """

    def __init__(self, me: PodId, registry: Registry, probation: Probation | None) -> None:
        self._me, self._registry, self._probation = me, registry, probation
        self._why_not = "it is starting"
        self._alone = False

    def open(self) -> None:
        """The pod is up."""
        self._why_not = ""

    def close(self) -> None:
        """The pod leaves."""
        self._why_not = "it is leaving"

    def why_not(self) -> str:
        """Why the pod is not ready; empty if it is."""
        if self._why_not:
            return self._why_not
        if self._probation is not None and self._probation.verdict:
            return self._probation.verdict
        if not self._alone:
            leaving = sorted(pod for pod, record in self._registry.instances.items() if record.shutting_down and pod != self._me)
            if leaving:
                return f"other pods are leaving: {', '.join(leaving[:5])}{', ...' if len(leaving) > 5 else ''}"
            self._alone = True
        return ""


class Probation:
    """Watches the first loads of a pod; a pod that fails it goes on, but is never ready again."""

    def __init__(self, conductor: Conductor, registry: Registry, settings: Settings) -> None:
        self._conductor, self._registry = conductor, registry
        until = Millis(conductor.now() + settings.probation)
        self._bootstrap = Bootstrap(conductor.pod.id, until, conductor.pod.cache.policy.load_timeout)
        conductor.watch(self._ordered)

    @property
    def verdict(self) -> str:
        """Why the pod is condemned; empty if it is not."""
        return self._bootstrap.verdict

    def _ordered(self, instruction: Instruction) -> None:
        """How a load ended shows in what is written of it."""
        if not isinstance(instruction, ChangeRecord):
            return
        edit, now, before = instruction.edit, self._conductor.now(), self.verdict
        if isinstance(edit, MarkReady):
            self._bootstrap.load_succeeded(edit.model, now)
        elif isinstance(edit, RecordFailure):
            self._bootstrap.load_failed(edit.model, self._known(edit.model), self._conductor.pod.cache.slots_used, now)
        if self.verdict != before:
            log.error(
                "this pod failed its probation and will not be ready; MM_FAILFAST_UPGRADE_ENABLED=false switches that off",
                extra={"cause": self.verdict},
            )

    def _known(self, model: ModelId) -> ModelRecord | None:
        """A model's record without the copies that crashed pods left there: they prove nothing."""
        record, pods = self._registry.models.get(model), self._registry.instances
        return record and record.with_(copies={pod: at for pod, at in record.copies.items() if pod in pods})
