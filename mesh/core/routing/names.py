"""From names to concrete models: aliases, and names that may be either."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.core.errors import Failed, Unknown
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.edits import MODEL_NOT_FOUND
from mesh.core.registry.records import AliasRecord, ModelRecord

ALIAS_NOT_FOUND = "vmodel not found"
"""Pinned text (reference 1.9)."""

Models = Mapping[ModelId, ModelRecord]
Aliases = Mapping[AliasId, AliasRecord]


def resolve_alias(alias: AliasId, aliases: Aliases, models: Models) -> ModelId:
    """The concrete model that calls for an alias go to.

    Raises:
        Unknown: there is no such alias.
        Failed: it points at models that do not exist.
    """
    record = aliases.get(alias)
    if record is None:
        raise Unknown(ALIAS_NOT_FOUND)
    if record.active in models:
        return record.active
    if record.target in models:
        return record.target
    raise Failed(f"Target model {record.target} of vmodel {alias} not found")


def resolve_name(name: str, aliases: Aliases, models: Models) -> ModelId:
    """The concrete model for a name that is an alias or, if there is none, a model id.

    Raises:
        Unknown: it is neither.
        Failed: the alias points at models that do not exist.
    """
    if AliasId(name) in aliases:
        return resolve_alias(AliasId(name), aliases, models)
    if ModelId(name) in models:
        return ModelId(name)
    raise Unknown(f"{MODEL_NOT_FOUND}: there is neither an alias nor a model named {name!r}")
