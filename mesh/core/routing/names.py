"""From names to concrete models: aliases, and names that may be either."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.core.errors import Failed, Unknown
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.edits import MODEL_NOT_FOUND
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.traffic.versions import numbers, version_named

ALIAS_NOT_FOUND = "vmodel not found"
"""Pinned text (reference 1.9)."""

_LONGEST_NUMBER = 9
"""Digits of a version's number."""

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


def versioned(name: str) -> tuple[AliasId, int] | None:
    """The alias and the number of `NAME@3`; None if the name is none like that."""
    alias, at, number = name.rpartition("@")
    fits = at and alias and number.isascii() and number.isdigit() and len(number) <= _LONGEST_NUMBER
    return (AliasId(alias), int(number)) if fits else None


def resolve_name(name: str, aliases: Aliases, models: Models) -> ModelId:
    """The concrete model for a name that is an alias, or else a model id, or else `NAME@3`, a version of an alias.

    Raises:
        Unknown: it is none of them.
        Failed: the alias points at models that do not exist.
    """
    if AliasId(name) in aliases:
        return resolve_alias(AliasId(name), aliases, models)
    if ModelId(name) in models:
        return ModelId(name)
    if (asked := versioned(name)) is not None and (record := aliases.get(asked[0])) is not None:
        return _version(asked[0], record, asked[1], models)
    raise Unknown(f"{MODEL_NOT_FOUND}: there is neither an alias nor a model named {name!r}")


def _version(alias: AliasId, record: AliasRecord, number: int, models: Models) -> ModelId:
    model = version_named(record, number)
    if model is None:
        raise Unknown(f"{MODEL_NOT_FOUND}: {alias} keeps no version {number}; it keeps {numbers(record)}")
    if model not in models:
        raise Failed(f"Model {model} of version {number} of vmodel {alias} not found")
    return model
