"""Which aliases the express lane knows: those that lead to models that serve here and were called by, and those that hide one."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import AliasRecord
from mesh.core.routing.express import target_of
from mesh.store.registry import Registry


@dataclass(slots=True)
class Told:
    """What a batch of the table has of aliases: where they lead, and which are no more."""

    aliases: list[tuple[AliasId, ModelId | None]] = field(default_factory=list)
    no_aliases: list[AliasId] = field(default_factory=list)


class Aliases:
    """Has the table know of an alias from its first call on that Python served, as long as its model is resident.

    A mesh may have a million aliases, of which a pod is called by some: a name that the lane does not know is Python's. Only an alias
    with the name of a resident model has to be known at once, for it comes before the model where a caller does not say which of the two
    is meant.

    Args:
        resident: models of the table.
        publish: takes what is told.
    """

    def __init__(self, registry: Registry, resident: Container[ModelId], publish: Callable[[Told], object]) -> None:
        self._registry, self._resident, self._publish = registry, resident, publish
        self._known: dict[AliasId, ModelId | None] = {}
        self._leading: dict[ModelId, set[AliasId]] = {}

    def used(self, alias: AliasId) -> None:
        """A call came by this name to Python."""
        if alias in self._known:
            return
        record = self._registry.aliases.get(alias)
        if record is not None and (target := target_of(record)) is not None and target in self._resident:
            self._publish(Told([self._know(alias, target)]))

    def changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        """An alias leads elsewhere, or is no more."""
        hides = ModelId(alias) in self._resident
        if alias not in self._known and not hides:
            return
        target = target_of(record) if record is not None else None
        # One in transition may lead here in a moment.
        if record is not None and (hides or target is None or target in self._resident):
            self._publish(Told([self._know(alias, target)]))
        elif alias in self._known:
            self._forget(alias)
            self._publish(Told(no_aliases=[alias]))

    def came(self, model: ModelId) -> Told:
        """What is told together with a model that becomes resident: the alias of its name, if there is one."""
        alias = AliasId(model)
        record = self._registry.aliases.get(alias)
        return Told([self._know(alias, target_of(record))] if record is not None else [])

    def went(self, model: ModelId) -> Told:
        """What is told together with a model that is resident no more: those are forgotten that led to it, or only hid it."""
        over = {alias for alias in self._leading.get(model, ()) if ModelId(alias) not in self._resident}
        hiding = AliasId(model)
        if hiding in self._known and self._known[hiding] not in self._resident:
            over.add(hiding)
        for alias in over:
            self._forget(alias)
        return Told(no_aliases=sorted(over))

    def _know(self, alias: AliasId, target: ModelId | None) -> tuple[AliasId, ModelId | None]:
        self._forget(alias)
        self._known[alias] = target
        if target is not None:
            self._leading.setdefault(target, set()).add(alias)
        return alias, target

    def _forget(self, alias: AliasId) -> None:
        target = self._known.pop(alias, None)
        if target is not None:
            leading = self._leading[target]
            leading.discard(alias)
            if not leading:
                del self._leading[target]
