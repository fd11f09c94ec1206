"""The versions of a service: which there are, which are kept when one more comes, which of them calls go to."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from mesh.core.errors import Conflict, Malformed, MeshError, Unknown
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.edits import Transaction
from mesh.core.registry.origins import anew
from mesh.core.registry.records import AliasRecord, ModelInfo
from mesh.core.traffic.choice import model_of
from mesh.core.traffic.policy import KEPT, STABLE_ONLY, Policy, Version, Word
from mesh.core.units import Millis


def versions_of(record: AliasRecord) -> tuple[Version, ...]:
    """All of a service, that which was wanted last at the end; one that only ever had one model has it as version 1."""
    return record.versions or (Version(1, record.active),)


def numbers(record: AliasRecord) -> str:
    """Of all versions, for people."""
    return ", ".join(map(str, sorted(one.number for one in versions_of(record))))


def version_named(record: AliasRecord, number: int) -> ModelId | None:
    """The model of a version; None if it is not kept."""
    return model_of(number, record.active, versions_of(record))


def newest(record: AliasRecord) -> ModelId:
    """The model that came last, whether calls go to it or not."""
    return versions_of(record)[-1].model


def weighted(record: AliasRecord) -> frozenset[ModelId]:
    """The models that calls may go to by its policy, the stable one left out."""
    found = set()
    for _, destination in record.traffic.destinations():
        for share in destination.shares:
            model = model_of(share.version, record.active, record.versions)
            if share.weight and model is not None and model != record.active:
                found.add(model)
    return frozenset(found)


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


class Standing(NamedTuple):
    """A version as it stands: so many of a hundred calls that no rule takes are to go to it."""

    version: Version
    percent: int
    stable: bool
    next: bool


def standing(record: AliasRecord) -> list[Standing]:
    """All versions by number."""
    default = record.traffic.default or STABLE_ONLY
    percent = Counter[ModelId]()
    for share in default.shares:
        percent[model_of(share.version, record.active, versions_of(record)) or record.active] += share.weight
    return [
        Standing(one, percent[one.model], one.model == record.active, one.model == record.target != record.active)
        for one in sorted(versions_of(record), key=lambda one: one.number)
    ]


def noted(record: AliasRecord, model: ModelId, now: Millis, keep: int) -> AliasRecord:
    """The record with a model as its newest version, unless it has it; those that are too many and that nothing needs are dropped.

    Args:
        record: as it was before it was pointed at the model.
        keep: versions that are kept; 0 for a service that keeps none, which leaves those that are there.
    """
    if not keep and not record.versions:
        return record
    there = versions_of(record)
    if any(one.model == model for one in there):
        return record
    every = (*there, Version(max(one.number for one in there) + 1, model, now))
    return _without_surplus(record.with_(versions=every), keep or max(KEPT, len(there)), needed=model)


def latest(record: AliasRecord, model: ModelId) -> AliasRecord:
    """The record with the version of a model as the one that was wanted last: it is the canary, whichever number it has."""
    return record.with_(versions=tuple(sorted(record.versions, key=lambda one: one.model == model)))


def _without_surplus(record: AliasRecord, keep: int, needed: ModelId) -> AliasRecord:
    named = {version for _, version in record.policy.versions()}
    in_use = {record.active, record.target, needed}
    surplus = len(record.versions) - keep
    left = []
    for one in record.versions:
        if surplus > 0 and one.model not in in_use and one.number not in named:
            surplus -= 1
        else:
            left.append(one)
    return record.with_(versions=tuple(left))


@dataclass(frozen=True, slots=True)
class SetPolicy:
    """Gives a service another traffic policy.

    Attributes:
        owner: checked if given.
    """

    alias: AliasId
    policy: Policy
    owner: str = ""

    def apply(self, records: Transaction) -> MeshError | None:
        """Refuses versions that are not kept, and a default beside a canary's share."""
        record = records.alias(self.alias)
        if record is None:
            return Unknown(f"there is no service {self.alias}")
        if self.owner and self.owner != record.owner:
            return Conflict(f'service {self.alias} belongs to another owner, "{record.owner}"')
        if self.policy.default is not None and record.canary:
            return Conflict(
                f"default: the canary of service {self.alias} has {record.canary} % by canaryTrafficPercent; promote or abort it first"
            )
        there = versions_of(record)
        for place, version in self.policy.versions():
            if not isinstance(version, Word) and model_of(version, record.active, there) is None:
                return Malformed(f"{place}: service {self.alias} keeps no version {version}; it keeps {numbers(record)}")
        wanted = anew(
            record.with_(policy=self.policy, unknown={name: value for name, value in record.unknown.items() if name != "traffic"})
        )
        if wanted != record:
            records.put_alias(self.alias, wanted)
        return None
