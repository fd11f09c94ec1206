"""Counts and order of all models and aliases, kept per change, so that telling them costs little however many there are."""

from __future__ import annotations

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.listing import Listing
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.registry.shelf import Shelf
from mesh.store.registry import Registry
from mesh.store.tables import in_order, noted


class Census:
    """Which models there are; how many are loaded (or about to be), how many failed to load somewhere."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loaded: set[ModelId] = set()
        self._failed: set[ModelId] = set()
        self.names = in_order(registry.models)
        """All models by id."""
        self.aliases = in_order(registry.aliases)
        """All aliases by name."""
        for model, record in noted(registry.models):
            self._count(model, record)
        registry.listen(self._model_changed, self._alias_changed)

    @property
    def managed(self) -> int:
        """Registered models."""
        return len(self._registry.models)

    @property
    def loaded(self) -> int:
        """Models with a copy, loading ones included."""
        return len(self._loaded)

    @property
    def failed(self) -> int:
        """Models with a failure on record."""
        return len(self._failed)

    def _model_changed(self, model: ModelId, record: ModelRecord | None) -> None:
        _keep(self.names, model, there=record is not None)
        self._count(model, record)

    def _count(self, model: ModelId, record: ModelRecord | None) -> None:
        for models, counts in ((self._loaded, record is not None and record.copies), (self._failed, record is not None and record.failed)):
            if counts:
                models.add(model)
            else:
                models.discard(model)

    def _alias_changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        _keep(self.aliases, alias, there=record is not None)


def _keep(names: Shelf | Listing, name: str, *, there: bool) -> None:
    """Has a name in a listing or not; a mirror's own order is right already."""
    if isinstance(names, Listing):
        if there:
            names.add(name)
        else:
            names.discard(name)
