"""Services whose versions share calls: which one a call goes to."""

from __future__ import annotations

import json
from collections.abc import Callable

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.traffic.choice import Chosen, Serving, choose
from mesh.core.traffic.policy import NO_POLICY
from mesh.core.traffic.versions import versions_of, weighted
from mesh.store.registry import Registry
from mesh.store.tables import noted
from mesh.wire import patterns
from mesh.wire.call import Call
from mesh.wire.peek import Peeked


class Traffic:
    """Follows the aliases that have a policy. Of others it knows nothing, however many there are.

    Args:
        draw: a number from 0 to below 1, a new one each time.
    """

    def __init__(self, registry: Registry, draw: Callable[[], float]) -> None:
        self._registry, self._draw = registry, draw
        self._shared: dict[AliasId, AliasRecord] = {}
        self._users: dict[ModelId, set[AliasId]] = {}
        self._serving: dict[ModelId, bool] = {}
        for alias, record in noted(registry.aliases):
            self._alias_changed(alias, record)
        registry.listen(self._model_changed, self._alias_changed)

    def chosen(self, alias: AliasId, call: Call, payload: bytes) -> Chosen | None:
        """The version of a call that came by this name; None if the name's versions share nothing.

        Raises:
            Malformed: a rule asks for what is in the payload, which cannot be read.
        """
        record = self._shared.get(alias)
        if record is None:
            return None
        info = self._info(record.active)
        serving = Serving(alias, record.active, versions_of(record), format_of(info), runtime_of(info), self._serves, patterns.fits)
        return choose(record.traffic, serving, Peeked(call, payload), self._draw)

    def _serves(self, model: ModelId) -> bool:
        return self._serving.get(model, False)

    def _info(self, model: ModelId) -> ModelInfo:
        record = self._registry.models.get(model)
        return record.info if record is not None else ModelInfo("")

    def _alias_changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        before = self._shared.pop(alias, None)
        if before is not None:
            for model in weighted(before):
                self._users[model].discard(alias)
                if not self._users[model]:
                    del self._users[model], self._serving[model]
        if record is None or record.traffic == NO_POLICY:
            return
        self._shared[alias] = record
        for model in weighted(record):
            self._users.setdefault(model, set()).add(alias)
            self._serving[model] = _ready(self._registry.models.get(model))

    def _model_changed(self, model: ModelId, record: ModelRecord | None) -> None:
        if model in self._serving:
            self._serving[model] = _ready(record)


def format_of(info: ModelInfo) -> str:
    """The name of a model's format, as its label or, where that names a runtime, its key has it; empty if neither has."""
    label = info.type.partition("|")[0]
    if label.startswith("mt:"):
        return label.removeprefix("mt:").partition(":")[0]
    try:
        named = json.loads(info.key)["model_type"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(named.get("name", "")) if isinstance(named, dict) else str(named)


def runtime_of(info: ModelInfo) -> str:
    """The runtime that a model asks for by name; empty if any will do."""
    return info.type.removeprefix("rt:") if info.type.startswith("rt:") else ""


def _ready(record: ModelRecord | None) -> bool:
    return record is not None and any(pod in record.copies for pod in record.ready)
