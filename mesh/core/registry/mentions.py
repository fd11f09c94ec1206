"""Which models' records name which pods, by a copy or by a failure."""

from __future__ import annotations

from collections.abc import KeysView, Mapping

from mesh.core.ids import ModelId, PodId
from mesh.core.registry.records import ModelRecord

_NOBODY: frozenset[PodId] = frozenset()
_NOTHING: dict[ModelId, None] = {}


class Mentions:
    """Kept per change, so that what concerns one pod is found without looking at all models. Models come in the order of their changes."""

    def __init__(self, models: Mapping[ModelId, ModelRecord]) -> None:
        self._models: dict[PodId, dict[ModelId, None]] = {}
        self._pods: dict[ModelId, frozenset[PodId]] = {}
        for model, record in models.items():
            self.model_changed(model, record)

    def model_changed(self, model: ModelId, record: ModelRecord | None) -> None:
        """A model's record is new, changed or gone."""
        before = self._pods.get(model, _NOBODY)
        after = named(record) if record is not None else _NOBODY
        if after == before:
            return
        for pod in before - after:
            models = self._models[pod]
            del models[model]
            if not models:
                del self._models[pod]
        for pod in after - before:
            self._models.setdefault(pod, {})[model] = None
        if after:
            self._pods[model] = after
        else:
            del self._pods[model]

    @property
    def pods(self) -> KeysView[PodId]:
        """All pods that a record names."""
        return self._models.keys()

    def of(self, pod: PodId) -> KeysView[ModelId]:
        """The models whose records name a pod."""
        return self._models.get(pod, _NOTHING).keys()


def named(record: ModelRecord) -> frozenset[PodId]:
    """The pods that a record names."""
    if not (record.copies or record.failed or record.failures or record.ready):
        return _NOBODY
    return frozenset((*record.copies, *record.ready, *record.failed, *record.failures))
