"""Services whose versions share calls: which one a call goes to."""

from __future__ import annotations

from collections.abc import Callable

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.traffic.choice import Chosen, Serving, choose, served
from mesh.core.traffic.policy import NO_POLICY
from mesh.core.traffic.versions import format_of, runtime_of, versions_of, weighted
from mesh.store.registry import Registry
from mesh.store.tables import noted
from mesh.wire import patterns
from mesh.wire.call import Call
from mesh.wire.peek import Peeked

LANE = "lane"
"""In place of the rule that decided, where the express lane went by it."""


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

        What the express lane chose for it stays, as long as it is a version that may be chosen: who chose again would change the shares.

        Raises:
            Malformed: a rule asks for what is in the payload, which cannot be read.
        """
        record = self._shared.get(alias)
        if record is None:
            return None
        info = self._info(record.active)
        serving = Serving(alias, record.active, versions_of(record), format_of(info), runtime_of(info), self._serves, patterns.fits)
        if call.chosen is not None and call.chosen in (record.active, *weighted(record)):
            return served(call.chosen, serving, LANE)
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


def _ready(record: ModelRecord | None) -> bool:
    return record is not None and any(pod in record.copies for pod in record.ready)
