"""Which aliases point at which models, and where a model's number of references says otherwise.

ModelMesh counts a reference twice in places: such a model is never deleted with its last alias and cannot be unregistered. A number is
wrong only when it has been wrong for a while: after a reset of the store, models are written again before the aliases that need them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.core.aliases import CorrectReferences
from mesh.core.ids import AliasId, ModelId
from mesh.core.records import AliasRecord, ModelRecord
from mesh.core.units import Millis

GRACE = Millis(300_000)
"""A number has to be wrong, and the same, for this long: many times what writing a whole registry again takes."""


class References:
    """Kept per change; asking costs only what is wrong."""

    def __init__(self, models: Mapping[ModelId, ModelRecord], aliases: Mapping[AliasId, AliasRecord], now: Millis) -> None:
        """Args:
        models, aliases: mirrors, which show a change before it is told here.
        """
        self._models = models
        self._targets: dict[AliasId, frozenset[ModelId]] = {}
        self._aliases: dict[ModelId, set[AliasId]] = {}
        self._wrong: dict[ModelId, tuple[int, Millis]] = {}
        for alias, record in aliases.items():
            self.alias_changed(alias, record, now)
        for model in models:
            self.model_changed(model, now)

    def alias_changed(self, alias: AliasId, record: AliasRecord | None, now: Millis) -> None:
        """An alias was set, switched or removed."""
        before = self._targets.pop(alias, frozenset())
        after = frozenset((record.active, record.target)) if record is not None else frozenset()
        if after:
            self._targets[alias] = after
        for model in before - after:
            pointing = self._aliases[model]
            pointing.discard(alias)
            if not pointing:
                del self._aliases[model]
        for model in after - before:
            self._aliases.setdefault(model, set()).add(alias)
        for model in before ^ after:
            self.model_changed(model, now)

    def model_changed(self, model: ModelId, now: Millis) -> None:
        """A model's record, or what points at it, changed."""
        record = self._models.get(model)
        if record is None or record.refs == len(self._aliases.get(model, ())):
            self._wrong.pop(model, None)
        elif self._wrong.get(model, (None,))[0] != record.refs:
            self._wrong[model] = record.refs, now

    def corrections(self, now: Millis) -> Iterator[CorrectReferences]:
        """What sets right the numbers that have been wrong for long enough."""
        for model, (refs, since) in list(self._wrong.items()):
            if now - since >= GRACE:
                yield CorrectReferences(model, refs, frozenset(self._aliases.get(model, ())))
