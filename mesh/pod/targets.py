"""From what a call names to concrete models: headers, the field of the payload, aliases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.core.errors import Malformed, Unknown, Unsupported
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.aliases import ReadAlias
from mesh.core.routing.dataplane import Dataplane, Rule
from mesh.core.routing.names import resolve_alias, resolve_name, versioned
from mesh.pod.lookups import Lookups
from mesh.pod.traffic import Traffic
from mesh.store.registry import Registry
from mesh.wire import fields
from mesh.wire.call import Call, Target
from mesh.wire.headers import target_of

NO_TARGET = "must include mm-model-id header"
"""Pinned text (reference 3.2)."""


@dataclass(frozen=True, slots=True)
class Named:
    """A concrete model, and the alias that it was called by.

    Attributes:
        rule: what of the alias's traffic policy chose the model; empty without a policy.
    """

    model: ModelId
    alias: str = ""
    rule: str = ""


class Targets:
    """Finds what calls are for.

    Attributes:
        dataplane: the rules in force; replaced when their file changes.
        lookups: of names that are not known here.
        called_by: hears of each name that may be an alias by which a call came.
    """

    def __init__(self, registry: Registry, dataplane: Dataplane, traffic: Traffic) -> None:
        self._registry, self._traffic = registry, traffic
        self.dataplane = dataplane
        self.lookups = Lookups(registry)
        self.called_by: Callable[[AliasId], object] | None = None

    def rule(self, method: str) -> Rule:
        """The rule of a method.

        Raises:
            Unsupported: the dataplane config does not allow it.
        """
        rule = self.dataplane.rule(method)
        if rule is None:
            raise Unsupported(f"method {method} is not allowed by the dataplane config")
        return rule

    def target(self, call: Call, rule: Rule, payload: bytes) -> Target:
        """What the call names: the door's word, else the payload's field, else the headers.

        Raises:
            Malformed: nothing, too much or garbage is named.
        """
        if call.target is not None:
            return call.target
        named = target_of(call.metadata)
        if rule.path and not (rule.prefer_headers and named is not None):
            found = fields.read(payload, rule.path)
            if found is not None:
                return _target_of_field(found, rule)
        if named is None:
            raise Malformed(NO_TARGET)
        return named

    def resolve(self, target: Target, call: Call, payload: bytes) -> list[Named]:
        """Concrete models, in the order named. Of an alias whose versions share calls it is the one that this call goes to.

        Args:
            payload: of the call, or its first message.

        Raises:
            Unknown: the one name does not exist.
            Malformed: a traffic policy asks for what is in the payload, which cannot be read.
        """
        models, aliases = self._registry.models, self._registry.aliases
        names = target.aliases if target.either is None else (AliasId(target.either),)
        if self.called_by is not None:
            for name in names:
                self.called_by(name)
        if not names:
            return [Named(model) for model in target.models]
        found = []
        for name in names:
            chosen = self._traffic.chosen(name, call, payload)
            if chosen is not None and chosen.model in models:
                found.append(Named(chosen.model, name, chosen.rule))
            elif target.either is not None:
                found.append(Named(resolve_name(name, aliases, models), name))
            else:
                found.append(Named(resolve_alias(name, aliases, models), name))
        return found

    async def find(self, target: Target, call: Call, payload: bytes) -> list[Named]:
        """As `resolve`; names that are not known here are looked for in the store first.

        Raises:
            Unknown: the one name does not exist.
            StoreUnavailable: it is not known here, and the store does not answer.
        """
        try:
            return self.resolve(target, call, payload)
        except Unknown:
            for name in target.aliases if target.either is None else (target.either,):
                await self._look_up(name, model=target.either is not None)
            return self.resolve(target, call, payload)

    async def _look_up(self, name: str, *, model: bool) -> None:
        found = await self.lookups.alias(AliasId(name))
        if not found and model and not await self.lookups.model(ModelId(name)) and (asked := versioned(name)) is not None:
            await self.lookups.alias(asked[0])

    async def again(self, named: Named) -> Named | None:
        """What an alias means now that its model turned out to be gone; None if it is still that, or no alias.

        The alias is read from the store: the pod that knows of the model's end may have heard sooner of the switch than this one.

        Raises:
            StoreUnavailable: the store does not answer.
            Failed: the alias points at models that do not exist.
        """
        alias = AliasId(named.alias)
        if alias not in self._registry.aliases:
            return None
        await self._registry.change(ReadAlias(alias))
        if alias not in self._registry.aliases:
            return None
        model = resolve_alias(alias, self._registry.aliases, self._registry.models)
        return Named(model, alias) if model != named.model else None


def is_several(target: Target) -> bool:
    """Whether it is a multi-model call."""
    return len(target.models) + len(target.aliases) > 1


def split(target: Target) -> list[Target]:
    """One target for each name of a multi-model call."""
    return [Target(models=(model,)) for model in target.models] + [Target(aliases=(alias,)) for alias in target.aliases]


def _target_of_field(found: bytes, rule: Rule) -> Target:
    try:
        name = found.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"the model id in field {'.'.join(map(str, rule.path))} is not UTF-8 at byte {error.start}") from None
    if not name:
        raise Malformed(f"the {'vmodel' if rule.alias else 'model'} id in field {'.'.join(map(str, rule.path))} must be non-empty")
    if rule.prefer_headers or rule.alias:
        # A name that is no alias is tried as a model id.
        return Target(either=name)
    return Target(models=(ModelId(name),))
