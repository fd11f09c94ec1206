"""Records in a dictionary, for edits to work on."""

from __future__ import annotations

from mesh.core.errors import MeshError
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.edits import Edit
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelRecord


class Tables:
    """What an edit reads and writes; a refused edit must not have written."""

    def __init__(self) -> None:
        self.models: dict[str, ModelRecord] = {}
        self.aliases: dict[str, AliasRecord] = {}
        self.instances: dict[str, InstanceRecord] = {}

    def model(self, model: ModelId) -> ModelRecord | None:
        return self.models.get(model)

    def alias(self, alias: AliasId) -> AliasRecord | None:
        return self.aliases.get(alias)

    def instance(self, pod: PodId) -> InstanceRecord | None:
        return self.instances.get(pod)

    def put_model(self, model: ModelId, record: ModelRecord | None) -> None:
        self.models.pop(model, None)
        if record is not None:
            self.models[model] = record

    def put_alias(self, alias: AliasId, record: AliasRecord | None) -> None:
        self.aliases.pop(alias, None)
        if record is not None:
            self.aliases[alias] = record

    def apply(self, edit: Edit) -> MeshError | None:
        before = dict(self.models), dict(self.aliases)
        refusal = edit.apply(self)
        if refusal is not None:
            assert before == (self.models, self.aliases)
        return refusal
