"""Aliases ("virtual models"): where they point, and how they are switched without a call noticing (reference 1.9)."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.edits import Transaction
from mesh.core.errors import Conflict, Malformed, MeshError, Referenced, Unknown
from mesh.core.ids import AliasId, ModelId
from mesh.core.policy import AGE_ON_LOAD, AGE_ON_REGISTER
from mesh.core.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.units import Millis


@dataclass(frozen=True, slots=True)
class SetAlias:
    """Points an alias at a model, creating either as needed.

    Attributes:
        info: makes the target if it is absent; None requires it.
        load_now: also decides how recently used a new target counts as.
        force: switch at once.
        expected: refuse unless this is the present target.
        owner: checked if given.
        default_owner: of an alias made without one.
    """

    alias: AliasId
    target: ModelId
    now: Millis
    info: ModelInfo | None = None
    auto_delete: bool = False
    load_now: bool = False
    update_only: bool = False
    force: bool = False
    expected: ModelId | None = None
    owner: str = ""
    default_owner: str = ""

    def apply(self, records: Transaction) -> MeshError | None:
        """Checks in the order that ModelMesh has, then writes alias, target and what loses its reference."""
        before = records.alias(self.alias)
        refusal = self._refusal(before, records.model(self.target))
        if refusal is not None:
            return refusal
        if before is not None and self.target == before.target and not (self.force and before.in_transition):
            return None
        self._ensure_target(records, before)
        records.put_alias(self.alias, self._pointed(records, before))
        _move_references(records, before, records.alias(self.alias))
        return None

    def _refusal(self, before: AliasRecord | None, target: ModelRecord | None) -> MeshError | None:
        if self.expected is not None:
            if before is None and self.expected != self.target:
                return Referenced(f"vmodel {self.alias} not found")
            if before is not None and before.target not in (self.expected, self.target) and self._owned(before):
                return Referenced(f"Existing target model {before.target} does not match expected {self.expected}")
        if self.info is not None and not self.info.type:
            return Malformed("must provide non-empty model type")
        if target is None and self.info is None:
            return Unknown(f"Target model {self.target} not found")
        if target is not None and self.info is not None and target.info != self.info:
            return Conflict(f"Model {self.target} already exists with different attribute values")
        if before is not None and not self._owned(before):
            return Conflict(f'vmodel {self.alias} already exists with different owner "{before.owner}"')
        if before is None and self.update_only:
            return Unknown(f"vmodel {self.alias} not found")
        return None

    def _owned(self, before: AliasRecord) -> bool:
        return not self.owner or self.owner == before.owner

    def _ensure_target(self, records: Transaction, before: AliasRecord | None) -> None:
        if records.model(self.target) is not None or self.info is None:
            return
        active = records.model(before.active) if before else None
        aged = Millis(self.now - (AGE_ON_LOAD if self.load_now else AGE_ON_REGISTER))
        last_used = active.last_used if active and active.last_used > 0 else aged
        records.put_model(self.target, ModelRecord(self.info, auto_delete=self.auto_delete, last_used=last_used))

    def _pointed(self, records: Transaction, before: AliasRecord | None) -> AliasRecord:
        if before is None:
            return AliasRecord(self.target, self.target, self.owner or self.default_owner)
        active = records.model(before.active)
        target = records.model(self.target)
        copies = len(active.copies) if active else 0
        at_once = self.force or copies == 0 or (copies == 1 and target is not None and bool(target.ready))
        return before.with_(active=self.target if at_once else before.active, target=self.target, failed=False)


@dataclass(frozen=True, slots=True)
class DeleteAlias:
    """Removes an alias; models that lose their last reference go with it if they were made so."""

    alias: AliasId
    owner: str = ""

    def apply(self, records: Transaction) -> MeshError | None:
        """An absent alias, or one of another owner, succeeds without effect."""
        before = records.alias(self.alias)
        if before is None or (self.owner and self.owner != before.owner):
            return None
        records.put_alias(self.alias, None)
        _move_references(records, before, None)
        return None


@dataclass(frozen=True, slots=True)
class EndTransition:
    """Sends calls to the target, or notes that it could not be loaded. Without effect if the alias was pointed elsewhere meanwhile."""

    alias: AliasId
    active: ModelId
    target: ModelId
    loaded: bool

    def apply(self, records: Transaction) -> MeshError | None:
        """Never refuses."""
        before = records.alias(self.alias)
        if before is None or (before.active, before.target) != (self.active, self.target):
            return None
        if not self.loaded:
            if not before.failed:
                records.put_alias(self.alias, before.with_(failed=True))
            return None
        records.put_alias(self.alias, before.with_(active=self.target, failed=False))
        _move_references(records, before, records.alias(self.alias))
        return None


def _move_references(records: Transaction, before: AliasRecord | None, after: AliasRecord | None) -> None:
    """Counts each model's references from what the alias points at, before and after; so none leaks."""
    old = {before.active, before.target} if before else set()
    new = {after.active, after.target} if after else set()
    for model in new - old:
        record = records.model(model)
        assert record is not None, "an alias is pointed at models that exist"
        records.put_model(model, record.with_(refs=record.refs + 1))
    for model in old - new:
        record = records.model(model)
        if record is not None:
            refs = max(0, record.refs - 1)
            records.put_model(model, None if refs == 0 and record.auto_delete else record.with_(refs=refs))
