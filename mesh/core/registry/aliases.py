"""Aliases ("virtual models"): where they point, and how they are switched without a call noticing (reference 1.9).

ModelMesh switches at once when nothing holds the active model. Here that holds unless the target is to be loaded now and the active
model has not failed: it would load on demand, and a target that turns out to be broken must not have taken its place by then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mesh.core.errors import Conflict, Malformed, MeshError, Referenced, Unknown
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.policy import AGE_ON_LOAD, AGE_ON_REGISTER
from mesh.core.registry.edits import Transaction
from mesh.core.registry.origins import anew, origin_of
from mesh.core.registry.records import NO_BOUNDS, AliasRecord, Bounds, ModelInfo, ModelRecord
from mesh.core.traffic.policy import KEPT
from mesh.core.traffic.versions import latest, noted
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
        live: pods whose copies count; None is all.
        bounds: on the copies of the alias's model from now on; None leaves them as they are.
        keep: versions that it keeps from now on; 0 is none beside those that it has.
        canary: so many of a hundred calls go to the target, the others to the active model; None sends all of them to the target.
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
    live: frozenset[PodId] | None = None
    bounds: Bounds | None = None
    keep: int = 0
    canary: int | None = None

    def apply(self, records: Transaction) -> MeshError | None:
        """Checks in the order that ModelMesh has, then writes alias, target and what loses its reference."""
        before = records.alias(self.alias)
        refusal = self._refusal(before, records.model(self.target))
        if refusal is not None:
            return refusal
        if before is not None and self.canary is not None and self.target != before.active:
            self._share(records, before, self.canary)
            return None
        if before is not None and self.target == before.target and not (self.force and before.in_transition):
            self._assert_again(records, before)
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

    def _assert_again(self, records: Transaction, before: AliasRecord) -> None:
        """Points where it did; only bounds, and that a user wants it so, may be new."""
        wanted = anew(before if self.bounds is None else before.with_(bounds=self.bounds))
        if not wanted.in_transition:
            wanted = wanted.with_(canary=0)
        if wanted != before:
            records.put_alias(self.alias, wanted)
        self._claim(records)

    def _share(self, records: Transaction, before: AliasRecord, canary: int) -> None:
        """Leaves the active model what it is, and gives the target its share."""
        self._ensure_target(records, before)
        bounds = before.bounds if self.bounds is None else self.bounds
        sharing = before.with_(target=before.active, failed=False, cause="", bounds=bounds, canary=canary)
        wanted = anew(latest(noted(sharing, self.target, self.now, self.keep or KEPT), self.target))
        if wanted != before:
            records.put_alias(self.alias, wanted)
            _move_references(records, before, wanted)

    def _claim(self, records: Transaction) -> None:
        """That the target is wanted counts from now on, whatever a reset of the store made of it."""
        target = records.model(self.target)
        if target is not None and origin_of(target):
            records.put_model(self.target, anew(target))

    def _ensure_target(self, records: Transaction, before: AliasRecord | None) -> None:
        self._claim(records)
        if records.model(self.target) is not None or self.info is None:
            return
        active = records.model(before.active) if before else None
        aged = Millis(self.now - (AGE_ON_LOAD if self.load_now else AGE_ON_REGISTER))
        last_used = active.last_used if active and active.last_used > 0 else aged
        uncalled = active is None or active.uncalled or active.last_used <= 0
        records.put_model(self.target, ModelRecord(self.info, auto_delete=self.auto_delete, last_used=last_used, uncalled=uncalled))

    def _pointed(self, records: Transaction, before: AliasRecord | None) -> AliasRecord:
        if before is None:
            return AliasRecord(self.target, self.target, self.owner or self.default_owner, bounds=self.bounds or NO_BOUNDS)
        at_once = self._at_once(records.model(before.active), records.model(self.target))
        active = self.target if at_once else before.active
        bounds = before.bounds if self.bounds is None else self.bounds
        kept = noted(before, self.target, self.now, self.keep)
        pointed = kept.with_(active=active, target=self.target, failed=False, cause="", bounds=bounds)
        return anew(pointed.with_(canary=0) if at_once else pointed)

    def _at_once(self, active: ModelRecord | None, target: ModelRecord | None) -> bool:
        """Whether calls may go to the target before the leader has had it loaded."""
        if self.force or active is None:
            return True
        ready, held = self._living(target.ready) if target else 0, self._living(active.copies)
        if ready and ready >= held:
            return True
        return not held and (not self.load_now or bool(active.failed))

    def _living(self, pods: Iterable[PodId]) -> int:
        """How many of them count: a copy of a pod that is gone serves nobody, and its record may outlive it by seconds."""
        return sum(self.live is None or pod in self.live for pod in pods)


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
    """Sends calls to the target, or notes why it could not be loaded. Without effect if the alias was pointed elsewhere meanwhile."""

    alias: AliasId
    active: ModelId
    target: ModelId
    loaded: bool
    cause: str = ""

    def apply(self, records: Transaction) -> MeshError | None:
        """Never refuses."""
        before = records.alias(self.alias)
        if before is None or (before.active, before.target) != (self.active, self.target):
            return None
        if not self.loaded:
            blocked = before.with_(failed=True, cause=self.cause)
            if before != blocked:
                records.put_alias(self.alias, blocked)
            return None
        records.put_alias(self.alias, before.with_(active=self.target, failed=False, cause="", canary=0))
        _move_references(records, before, records.alias(self.alias))
        return None


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Somebody asks for the target once more: that it failed to load is forgotten, on every pod."""

    alias: AliasId
    target: ModelId

    def apply(self, records: Transaction) -> MeshError | None:
        """Never refuses; the pods find their failures gone from the record."""
        model, alias = records.model(self.target), records.alias(self.alias)
        if model is not None and (model.failed or model.failures):
            records.put_model(self.target, model.with_(failed={}, failures={}))
        if alias is not None and alias.target == self.target and alias.failed:
            records.put_alias(self.alias, alias.with_(failed=False, cause=""))
        return None


@dataclass(frozen=True, slots=True)
class ReadAlias:
    """Changes nothing: with it the mirror shows the alias as it stands in the store."""

    alias: AliasId

    def apply(self, records: Transaction) -> MeshError | None:
        """Reads."""
        records.alias(self.alias)
        return None


@dataclass(frozen=True, slots=True)
class CorrectReferences:
    """Sets a model's number of references to what points at it; one without any goes if it was made so.

    Whoever points an alias at a model changes the model's number in the same transaction. So if the number is still the one that was
    seen, and what was seen to point at the model still does, nothing else can.

    Attributes:
        seen: the number that was found wrong.
        aliases: all that were seen to point at the model.
    """

    model: ModelId
    seen: int
    aliases: frozenset[AliasId]

    def apply(self, records: Transaction) -> MeshError | None:
        """Without effect if anything has changed."""
        record = records.model(self.model)
        pointing = (records.alias(alias) for alias in sorted(self.aliases))
        if record is None or record.refs != self.seen:
            return None
        if all(alias is not None and self.model in alias.models for alias in pointing):
            gone = not self.aliases and record.auto_delete
            records.put_model(self.model, None if gone else record.with_(refs=len(self.aliases)))
        return None


def _move_references(records: Transaction, before: AliasRecord | None, after: AliasRecord | None) -> None:
    """Counts each model's references from what the alias points at, before and after; so none leaks."""
    old = before.models if before else frozenset()
    new = after.models if after else frozenset()
    for model in new - old:
        record = records.model(model)
        assert record is not None, "an alias is pointed at models that exist"
        records.put_model(model, record.with_(refs=record.refs + 1))
    for model in old - new:
        record = records.model(model)
        if record is not None:
            refs = max(0, record.refs - 1)
            records.put_model(model, None if refs == 0 and record.auto_delete else record.with_(refs=refs))
