"""How many copies users want of a model, whatever the load: minimum, maximum, pinned, preloaded; kept with the alias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.core.ids import AliasId, ModelId
from mesh.core.records import NO_BOUNDS, AliasRecord, Bounds


def merged(left: Bounds, right: Bounds) -> Bounds:
    """What a model has to keep that two aliases point at: the larger minimum, and the larger maximum; a minimum goes before a maximum."""
    most = 0 if 0 in (left.most, right.most) else max(left.most, right.most)
    least = max(left.least, right.least)
    return Bounds(least, most and max(most, least), left.pinned or right.pinned, left.preload or right.preload)


@dataclass(slots=True)
class BoundsOfModels:
    """Bounds by concrete model, kept per change of an alias; models without any cost nothing."""

    _aliases: dict[AliasId, tuple[Bounds, frozenset[ModelId]]]
    _models: dict[ModelId, set[AliasId]]

    def __init__(self) -> None:
        self._aliases, self._models = {}, {}

    def alias_changed(self, alias: AliasId, record: AliasRecord | None) -> frozenset[ModelId]:
        """An alias is new, changed or gone; the models whose bounds may be others now."""
        _, before = self._aliases.pop(alias, (NO_BOUNDS, frozenset[ModelId]()))
        for model in before:
            self._models[model].discard(alias)
            if not self._models[model]:
                del self._models[model]
        if record is None or record.bounds == NO_BOUNDS:
            return before
        after = frozenset({record.active, record.target})
        self._aliases[alias] = (record.bounds, after)
        for model in after:
            self._models.setdefault(model, set()).add(alias)
        return before | after

    def of(self, model: ModelId) -> Bounds:
        """What the model has to keep."""
        bounds = NO_BOUNDS
        for alias in self._models.get(model, ()):
            bounds = merged(bounds, self._aliases[alias][0]) if bounds is not NO_BOUNDS else self._aliases[alias][0]
        return bounds

    @property
    def bounded(self) -> Mapping[ModelId, set[AliasId]]:
        """All models with bounds."""
        return self._models
