"""Whether a new pod proves itself: one on which too many first loads fail is not let into service; that halts a rollout (reference 9.7)."""

from __future__ import annotations

from mesh.core.ids import ModelId, PodId
from mesh.core.policy import SECOND
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis

MOST_FATAL = 2
"""Loads that may fail here of models which another pod holds."""

LEAST_LOADS = 20
"""Up to so many loads a share says nothing."""

OLD_FAILURE = Millis(30 * 60 * SECOND)
"""A model that failed so long before is broken anyway."""


class Bootstrap:
    """Judges one pod by its first loads; what it once condemned stays condemned.

    Args:
        pod: its id.
        until: loads that end later do not count.
        load_timeout: of the runtime; a pod that has stood in a record for so long holds the model.
    """

    def __init__(self, pod: PodId, until: Millis, load_timeout: Millis) -> None:
        self._pod, self._until, self._load_timeout = pod, until, load_timeout
        self._loaded: set[ModelId] = set()
        self._fatal: set[ModelId] = set()
        self._general: set[ModelId] = set()
        self.verdict = ""
        """Why the pod is not to serve; empty as long as it may."""

    def load_succeeded(self, model: ModelId, now: Millis) -> None:
        """A load ended well; that it failed before does not count any more."""
        if now < self._until:
            self._fatal.discard(model)
            self._general.discard(model)
            self._loaded.add(model)

    def load_failed(self, model: ModelId, record: ModelRecord | None, loading: int, now: Millis) -> None:
        """A load failed; the pod may be condemned for it. One model counts once, however often it is tried.

        Args:
            model: that failed.
            record: the model's, before the failure is written into it; None if the model is gone.
            loading: loads that go on.
        """
        if now >= self._until or record is None or self._broken_anyway(record, now):
            return
        (self._fatal if self._held_elsewhere(record, now) else self._general).add(model)
        self.verdict = self.verdict or self._judge(loading)

    def _broken_anyway(self, record: ModelRecord, now: Millis) -> bool:
        return any(now - at >= OLD_FAILURE for at in record.failed.values())

    def _held_elsewhere(self, record: ModelRecord, now: Millis) -> bool:
        return any(pod != self._pod and now - at >= self._load_timeout for pod, at in record.copies.items())

    def _judge(self, loading: int) -> str:
        failed = len(self._fatal | self._general)
        total = len(self._loaded) + loading + failed
        if len(self._fatal) > MOST_FATAL:
            return f"{len(self._fatal)} models that other pods hold failed to load here"
        if total > LEAST_LOADS and failed * 2 > total:
            return f"{failed} of the first {total} loads failed here"
        return ""
