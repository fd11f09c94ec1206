"""Which aliases the express lane knows: those that lead to models that serve and were called by, and those that hide one."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import AliasRecord
from mesh.core.routing.express import Lead, lead_of, models_of
from mesh.core.routing.sharing import Sharing
from mesh.store.registry import Registry


@dataclass(slots=True)
class Told:
    """What a batch of the table has of aliases: where they lead, among which models they share calls, and which are no more."""

    aliases: list[tuple[AliasId, ModelId | None]] = field(default_factory=list)
    shared: list[tuple[AliasId, Sharing]] = field(default_factory=list)
    no_aliases: list[AliasId] = field(default_factory=list)


class Aliases:
    """Has the table know of an alias from its first call on that Python served, as long as a model that it leads to is resident.

    A mesh may have a million aliases, of which a pod is called by some: a name that the lane does not know is Python's. Only an alias
    with the name of a resident model has to be known at once, for it comes before the model where a caller does not say which of the two
    is meant.

    Args:
        resident: models of the table.
        publish: takes what is told.
    """

    def __init__(self, registry: Registry, resident: Container[ModelId], publish: Callable[[Told], object]) -> None:
        self._registry, self._resident, self._publish = registry, resident, publish
        self._known: dict[AliasId, frozenset[ModelId]] = {}
        self._leading: dict[ModelId, set[AliasId]] = {}

    def used(self, alias: AliasId) -> None:
        """A call came by this name to Python."""
        # One that leads nowhere may have done so because its model's record was not known yet.
        if self._known.get(alias):
            return
        record = self._registry.aliases.get(alias)
        if record is not None and self._leads_here(lead := self._lead(record)):
            self._publish(self._know(alias, lead))

    def changed(self, alias: AliasId, record: AliasRecord | None) -> None:
        """An alias leads elsewhere, shares its calls in another way, or is no more."""
        hides = ModelId(alias) in self._resident
        if alias not in self._known and not hides:
            return
        lead = self._lead(record) if record is not None else None
        # One in transition may lead here in a moment.
        if record is not None and (hides or lead is None or self._leads_here(lead)):
            self._publish(self._know(alias, lead))
        elif alias in self._known:
            self._forget(alias)
            self._publish(Told(no_aliases=[alias]))

    def came(self, model: ModelId) -> Told:
        """What is told together with a model that becomes resident: the alias of its name, if there is one."""
        alias = AliasId(model)
        record = self._registry.aliases.get(alias)
        return self._know(alias, self._lead(record)) if record is not None else Told()

    def went(self, model: ModelId) -> Told:
        """What is told together with a model that is resident no more: those are forgotten that led to no other, or only hid it."""
        over = {alias for alias in self._leading.get(model, ()) if not self._needed(alias)}
        hiding = AliasId(model)
        if hiding in self._known and not self._needed(hiding):
            over.add(hiding)
        for alias in over:
            self._forget(alias)
        return Told(no_aliases=sorted(over))

    def _needed(self, alias: AliasId) -> bool:
        return ModelId(alias) in self._resident or any(model in self._resident for model in self._known[alias])

    def _lead(self, record: AliasRecord) -> Lead:
        stable = self._registry.models.get(record.active)
        return lead_of(record, stable.info if stable is not None else None)

    def _leads_here(self, lead: Lead) -> bool:
        return any(model in self._resident for model in models_of(lead))

    def _know(self, alias: AliasId, lead: Lead) -> Told:
        self._forget(alias)
        self._known[alias] = models = models_of(lead)
        for model in models:
            self._leading.setdefault(model, set()).add(alias)
        return Told(shared=[(alias, lead)]) if isinstance(lead, Sharing) else Told([(alias, lead)])

    def _forget(self, alias: AliasId) -> None:
        for model in self._known.pop(alias, ()):
            leading = self._leading[model]
            leading.discard(alias)
            if not leading:
                del self._leading[model]
