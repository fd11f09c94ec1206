"""Records written as they are, as another router or an earlier version left them."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.edits import Transaction
from mesh.core.registry.records import AliasRecord, ModelRecord


@dataclass(frozen=True)
class PutModel:
    """An edit that writes a model's record, whatever there was."""

    model: ModelId
    record: ModelRecord

    def apply(self, records: Transaction) -> None:
        records.put_model(self.model, self.record)


@dataclass(frozen=True)
class PutAlias:
    """An edit that writes an alias's record, whatever there was."""

    alias: AliasId
    record: AliasRecord

    def apply(self, records: Transaction) -> None:
        records.put_alias(self.alias, self.record)
