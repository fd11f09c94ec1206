"""Which aliases point at which models, and where a model's number of references says otherwise.

ModelMesh counts a reference twice in places: such a model is never deleted with its last alias and cannot be unregistered. A number is
wrong only when it has been wrong for a while: after a reset of the store, models are written again before the aliases that need them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import CorrectReferences
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.registry.shelf import Shelf
from mesh.core.units import Millis

GRACE = Millis(300_000)
"""A number has to be wrong, and the same, for this long: many times what writing a whole registry again takes."""


class References:
    """Kept per change; asking costs only what is wrong. A million aliases cost some 50 bytes each."""

    def __init__(self, models: Mapping[ModelId, ModelRecord]) -> None:
        """Args:
        models: a mirror, which shows a change before it is told here.
        """
        self._models = models
        self._targets = Shelf()
        """Alias -> the model it points at; while it is switched, both."""
        self._aliases = Shelf()
        """Model -> the alias that points at it; of several, all of them."""
        self._wrong: dict[ModelId, tuple[int, Millis]] = {}

    def alias_changed(self, alias: AliasId, record: AliasRecord | None, now: Millis) -> None:
        """An alias was set, switched or removed."""
        before = _several(self._targets, alias)
        after: set[str] = set(record.models) if record is not None else set()
        _put(self._targets, alias, after)
        for model in before - after:
            _put(self._aliases, model, _several(self._aliases, model) - {alias})
        for model in after - before:
            _put(self._aliases, model, _several(self._aliases, model) | {alias})
        for model in before ^ after:
            self.model_changed(ModelId(model), now)

    def model_changed(self, model: ModelId, now: Millis) -> None:
        """A model's record, or what points at it, changed."""
        record = self._models.get(model)
        if record is None or record.refs == len(_several(self._aliases, model)):
            self._wrong.pop(model, None)
        elif self._wrong.get(model, (None,))[0] != record.refs:
            self._wrong[model] = record.refs, now

    def corrections(self, now: Millis) -> Iterator[CorrectReferences]:
        """What sets right the numbers that have been wrong for long enough."""
        for model, (refs, since) in list(self._wrong.items()):
            if now - since >= GRACE:
                yield CorrectReferences(model, refs, frozenset(map(AliasId, _several(self._aliases, model))))


def _several(shelf: Shelf, name: str) -> set[str]:
    entry = shelf.find(name)
    if entry is None:
        return set()
    return {entry.value} if isinstance(entry.value, str) else set(entry.value)


def _put(shelf: Shelf, name: str, values: set[str]) -> None:
    """Keeps one value as it is, several as a set, none not at all."""
    if values:
        shelf.put(name, next(iter(values)) if len(values) == 1 else frozenset(values))
    else:
        shelf.remove(name)
