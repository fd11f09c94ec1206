"""Changes while the registry is read-only, as for a migration between stores (`KV_READ_ONLY`, reference 7.9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.core.errors import MeshError, StoreUnavailable
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.edits import Edit, Transaction
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelRecord

_ADVICE = "it is so while the registry moves to another store; unset KV_READ_ONLY of all pods when it has moved, then try again"


@dataclass(frozen=True, slots=True)
class OwnCopiesOnly:
    """An edit that may write only what concerns one pod's own copies; what it would write decides, not what kind of edit it is.

    Refused with UNAVAILABLE, as ModelMesh refuses changes of aliases then (reference 1.9): the request is in order and may be made again
    later. An edit that finds nothing to write is not refused, so that who repeats what already holds succeeds.
    """

    edit: Edit
    pod: PodId

    def apply(self, records: Transaction) -> MeshError | None:
        """Refuses, as the edit does, or because it would write what others rely on."""
        watched = _Watched(records)
        refusal = self.edit.apply(watched)
        return refusal or watched.refusal(self.pod)


class _Watched:
    """Passes everything on, and knows what was before."""

    def __init__(self, records: Transaction) -> None:
        self._records = records
        self._models: dict[ModelId, ModelRecord | None] = {}
        self._aliases: dict[AliasId, AliasRecord | None] = {}

    def model(self, model: ModelId) -> ModelRecord | None:
        return self._records.model(model)

    def alias(self, alias: AliasId) -> AliasRecord | None:
        return self._records.alias(alias)

    def instance(self, pod: PodId) -> InstanceRecord | None:
        return self._records.instance(pod)

    def put_model(self, model: ModelId, record: ModelRecord | None) -> None:
        self._models.setdefault(model, self._records.model(model))
        self._records.put_model(model, record)

    def put_alias(self, alias: AliasId, record: AliasRecord | None) -> None:
        self._aliases.setdefault(alias, self._records.alias(alias))
        self._records.put_alias(alias, record)

    def refusal(self, pod: PodId) -> MeshError | None:
        for alias, before in self._aliases.items():
            if self._records.alias(alias) != before:
                return StoreUnavailable(f"model-mesh is in read-only mode: vmodel {alias} is not changed; {_ADVICE}")
        for model, was in self._models.items():
            if _of_others(self._records.model(model), pod) != _of_others(was, pod):
                return StoreUnavailable(f"model-mesh is in read-only mode: model {model} is not changed; {_ADVICE}")
        return None


def _of_others(record: ModelRecord | None, pod: PodId) -> ModelRecord | None:
    """A record without what its pods write in passing: what concerns their own copies, and when the model was last used."""
    if record is None:
        return None
    return record.with_(
        copies=_without(record.copies, pod),
        ready=_without(record.ready, pod),
        failed=_without(record.failed, pod),
        failures=_without(record.failures, pod),
        last_used=0,
        last_unload=0,
    )


def _without(entries: Mapping[PodId, object], pod: PodId) -> Mapping[PodId, object]:
    return {other: entry for other, entry in entries.items() if other != pod}
