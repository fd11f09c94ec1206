"""Edits for the suite of the registry, and one who writes down what is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh.core.errors import MeshError, Referenced
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.edits import CreateModel, Transaction
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.units import Millis
from mesh.store.registry import Registry

INFO = ModelInfo("sklearn", "models/a", "{}")


def create(model: str, info: ModelInfo = INFO) -> CreateModel:
    return CreateModel(ModelId(model), info, Millis(1))


@dataclass
class Count:
    """Adds one to the references of a model, and counts how often it was asked to."""

    model: str
    attempts: int = 0

    def apply(self, records: Transaction) -> MeshError | None:
        self.attempts += 1
        record = records.model(ModelId(self.model))
        assert record is not None
        records.put_model(ModelId(self.model), record.with_(refs=record.refs + 1))
        return None


@dataclass
class CountIfFewer:
    """Adds one to the references of `mine` if both models together have fewer than `limit`."""

    mine: str
    other: str
    limit: int

    def apply(self, records: Transaction) -> MeshError | None:
        mine, other = records.model(ModelId(self.mine)), records.model(ModelId(self.other))
        assert mine is not None
        assert other is not None
        if mine.refs + other.refs >= self.limit:
            return Referenced("enough")
        records.put_model(ModelId(self.mine), mine.with_(refs=mine.refs + 1))
        return None


@dataclass
class WriteThenRefuse:
    """Changes its mind after it wrote a model and an alias."""

    model: str

    def apply(self, records: Transaction) -> MeshError | None:
        records.put_model(ModelId(self.model), ModelRecord(INFO))
        records.put_alias(AliasId(self.model), AliasRecord(ModelId(self.model), ModelId(self.model)))
        return Referenced("on second thoughts")


@dataclass
class Seen:
    """What an edit read after it wrote: a model and an alias made, changed and removed in one attempt."""

    found: list[object] = field(default_factory=list)

    def apply(self, records: Transaction) -> MeshError | None:
        model, alias = ModelId("seen"), AliasId("seen")
        self.found = [records.model(model), records.alias(alias)]
        records.put_model(model, ModelRecord(INFO))
        records.put_alias(alias, AliasRecord(model, model))
        self.found += [records.model(model), records.alias(alias)]
        records.put_model(model, None)
        records.put_alias(alias, None)
        self.found += [records.model(model), records.alias(alias)]
        return None


class Witness:
    """Writes down what a registry tells, and whether its mirrors showed it by then."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.told: list[tuple[str, ModelRecord | AliasRecord | None]] = []
        registry.listen(self._model, self._alias)

    def _model(self, model: ModelId, record: ModelRecord | None) -> None:
        assert self._registry.models.get(model) == record
        self.told.append((model, record))

    def _alias(self, alias: AliasId, record: AliasRecord | None) -> None:
        assert self._registry.aliases.get(alias) == record
        self.told.append((alias, record))

    def of(self, name: str) -> list[ModelRecord | AliasRecord | None]:
        return [record for told, record in self.told if told == name]
