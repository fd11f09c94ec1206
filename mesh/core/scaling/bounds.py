"""How many copies users want of a model, whatever the load: minimum, maximum, pinned, preloaded; kept with the alias."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mesh.core.errors import Malformed
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import NO_BOUNDS, AliasRecord, Bounds
from mesh.core.traffic.versions import weighted

MOST = 10_000
"""Copies that anybody may ask for; more than a mesh has pods."""

_NUMBERS, _FLAGS = ("minCopies", "maxCopies"), ("pinned", "preload")


def fault(bounds: Bounds) -> str | None:
    """What is wrong with bounds, in words; None if nothing is."""
    for name, number in (("minimum", bounds.least), ("maximum", bounds.most)):
        if not 0 <= number <= MOST:
            return f"the {name} of {number} copies has to be from 0 to {MOST}"
    if bounds.most and bounds.least > bounds.most:
        return f"the minimum of {bounds.least} copies is greater than the maximum of {bounds.most}; a maximum of 0 is none"
    return None


def bounds_to_json(bounds: Bounds) -> dict[str, Any]:
    """As an alias's record and the header `mesh-bounds` have them; what is not asked for is left out."""
    named = zip((*_NUMBERS, *_FLAGS), bounds, strict=True)
    return {name: value for name, value in named if value}


def bounds_from_json(data: Any) -> Bounds:
    """Reads bounds that somebody sends.

    Raises:
        Malformed: says which field is wrong.
    """
    if not isinstance(data, dict):
        raise Malformed(f"bounds on copies are an object with {', '.join((*_NUMBERS, *_FLAGS))}, not {data!r}")
    if unknown := sorted(data.keys() - {*_NUMBERS, *_FLAGS}):
        raise Malformed(f"bounds on copies have no {', '.join(unknown)}; they have {', '.join((*_NUMBERS, *_FLAGS))}")
    for name in _NUMBERS:
        if type(data.get(name, 0)) is not int:
            raise Malformed(f"{name} has to be a whole number, not {data[name]!r}")
    for name in _FLAGS:
        if type(data.get(name, False)) is not bool:
            raise Malformed(f"{name} has to be true or false, not {data[name]!r}")
    bounds = Bounds(*(data.get(name, 0) for name in _NUMBERS), *(data.get(name, False) for name in _FLAGS))
    if (wrong := fault(bounds)) is not None:
        raise Malformed(wrong)
    return bounds


def told(bounds: Bounds) -> str:
    """In a few words, e.g. `min 1, max 4, pinned`; empty without any."""
    least, most = (f"{name} {number}" if number else "" for name, number in (("min", bounds.least), ("max", bounds.most)))
    words = [least, most, "pinned" if bounds.pinned else "", "preload" if bounds.preload else ""]
    return ", ".join(word for word in words if word)


def merged(left: Bounds, right: Bounds) -> Bounds:
    """What a model has to keep that two aliases point at: the larger minimum, and the larger maximum; a minimum goes before a maximum."""
    most = 0 if 0 in (left.most, right.most) else max(left.most, right.most)
    least = max(left.least, right.least)
    return Bounds(least, most and max(most, least), left.pinned or right.pinned, left.preload or right.preload)


class BoundsOfModels:
    """Bounds by concrete model, kept per change of an alias; models without any cost nothing."""

    def __init__(self) -> None:
        self._aliases: dict[AliasId, AliasRecord] = {}
        self._models: dict[ModelId, set[AliasId]] = {}

    def alias_changed(self, alias: AliasId, record: AliasRecord | None) -> frozenset[ModelId]:
        """An alias is new, changed or gone; the models whose bounds may be others now."""
        before = _models(self._aliases.pop(alias, None))
        for model in before:
            self._models[model].discard(alias)
            if not self._models[model]:
                del self._models[model]
        after = _models(record)
        if record is None or not after:
            return before
        self._aliases[alias] = record
        for model in sorted(after):
            self._models.setdefault(model, set()).add(alias)
        return before | after

    def of(self, model: ModelId) -> Bounds:
        """What the model has to keep."""
        return _all(_asked(self._aliases[alias], model) for alias in self._models.get(model, ()))

    def kept(self, model: ModelId) -> Bounds:
        """What the mesh sees to by itself: bounds of the aliases whose calls go to the model. A switch has its target loaded anyway."""
        pointing = (self._aliases[alias] for alias in self._models.get(model, ()))
        return _all(_asked(record, model) for record in pointing if record.active == model or model in weighted(record))

    @property
    def bounded(self) -> Mapping[ModelId, set[AliasId]]:
        """All models with bounds."""
        return self._models


def _models(record: AliasRecord | None) -> frozenset[ModelId]:
    """Those for which an alias asks something."""
    if record is None:
        return frozenset()
    sharing = weighted(record)
    return sharing if record.bounds == NO_BOUNDS else sharing | {record.active, record.target}


def _asked(record: AliasRecord, model: ModelId) -> Bounds:
    """What an alias asks for one of its models. A version that shares its calls has a copy that serves before it gets any."""
    bounds = record.bounds if model in (record.active, record.target) else NO_BOUNDS
    return bounds._replace(least=max(1, bounds.least)) if model in weighted(record) else bounds


def _all(bounds: Iterable[Bounds]) -> Bounds:
    found: Bounds | None = None
    for each in bounds:
        found = each if found is None else merged(found, each)
    return found or NO_BOUNDS
