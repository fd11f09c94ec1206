"""Counts and order of all models and aliases, kept per change, so that telling them costs little however many there are."""

from __future__ import annotations

from mesh.core.ids import AliasId, ModelId
from mesh.core.listing import Listing
from mesh.core.records import AliasRecord, ModelRecord
from mesh.store.registry import Registry


class Census:
    """Which models there are; how many are loaded (or about to be), how many failed to load somewhere."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loaded: set[ModelId] = set()
        self._failed: set[ModelId] = set()
        self.names = Listing(registry.models)
        """All models by id."""
        self.aliases = Listing(registry.aliases)
        """All aliases by name."""
        for model, record in registry.models.items():
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
        if record is None:
            self.names.discard(model)
        else:
            self.names.add(model)
        self._count(model, record)

    def _count(self, model: ModelId, record: ModelRecord | None) -> None:
        for models, counts in ((self._loaded, record is not None and record.copies), (self._failed, record is not None and record.failed)):
            if counts:
                models.add(model)
            else:
                models.discard(model)

    def _alias_changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        if record is None:
            self.aliases.discard(alias)
        else:
            self.aliases.add(alias)
