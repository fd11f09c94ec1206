"""The registry of a mesh of one process: as asynchronous and as contested as a remote one, so that nothing learns to rely on less."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from mesh.core.edits import Edit
from mesh.core.errors import MeshError
from mesh.core.ids import AliasId, ModelId
from mesh.core.records import AliasRecord, ModelRecord
from mesh.store.registry import AliasListener, ModelListener

_Key = tuple[str, str]
K = TypeVar("K", bound=str)
R = TypeVar("R")


class _Attempt:
    """One run of an edit: remembers what it read, so that a commit can tell whether that still holds."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry
        self.read: dict[_Key, int] = {}
        self.models: dict[ModelId, ModelRecord | None] = {}
        self.aliases: dict[AliasId, AliasRecord | None] = {}

    def model(self, model: ModelId) -> ModelRecord | None:
        """The model's record as this attempt sees it."""
        self._note("model", model)
        return self.models[model] if model in self.models else self._registry.models.get(model)

    def alias(self, alias: AliasId) -> AliasRecord | None:
        """The alias's record as this attempt sees it."""
        self._note("alias", alias)
        return self.aliases[alias] if alias in self.aliases else self._registry.aliases.get(alias)

    def put_model(self, model: ModelId, record: ModelRecord | None) -> None:
        """Writes on commit."""
        self._note("model", model)
        self.models[model] = record

    def put_alias(self, alias: AliasId, record: AliasRecord | None) -> None:
        """Writes on commit."""
        self._note("alias", alias)
        self.aliases[alias] = record

    def _note(self, table: str, key: str) -> None:
        self.read.setdefault((table, key), self._registry.versions.get((table, key), 0))


class MemoryRegistry:
    """Records in this process; gone with it."""

    def __init__(self) -> None:
        self.models: dict[ModelId, ModelRecord] = {}
        self.aliases: dict[AliasId, AliasRecord] = {}
        self.versions: dict[_Key, int] = {}
        self._revision = 0
        self._model_listeners: list[ModelListener] = []
        self._alias_listeners: list[AliasListener] = []

    def listen(self, model: ModelListener, alias: AliasListener) -> None:
        """Has changes told."""
        self._model_listeners.append(model)
        self._alias_listeners.append(alias)

    async def change(self, edit: Edit) -> MeshError | None:
        """Applies an edit atomically, again on conflict."""
        while True:
            attempt = _Attempt(self)
            refusal = edit.apply(attempt)
            # Others get their turn between reading and writing, as they would with a remote store.
            await asyncio.sleep(0)
            if any(self.versions.get(key, 0) != version for key, version in attempt.read.items()):
                continue
            if refusal is None:
                self._commit(attempt)
            return refusal

    def _commit(self, attempt: _Attempt) -> None:
        self._revision += 1
        for model, record in attempt.models.items():
            self._put(self.models, "model", model, record)
        for alias, target in attempt.aliases.items():
            self._put(self.aliases, "alias", alias, target)
        for model, record in attempt.models.items():
            for tell_model in self._model_listeners:
                tell_model(model, record)
        for alias, target in attempt.aliases.items():
            for tell_alias in self._alias_listeners:
                tell_alias(alias, target)

    def _put(self, table: dict[K, R], name: str, key: K, record: R | None) -> None:
        if record is None:
            table.pop(key, None)
            self.versions.pop((name, key), None)
        else:
            table[key] = record
            self.versions[name, key] = self._revision

    async def close(self) -> None:
        """Nothing to end."""
