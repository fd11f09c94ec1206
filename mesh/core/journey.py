"""One call, step by step: a small decider that the call's coroutine asks after each outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mesh.core.copies import Copy
from mesh.core.edits import MODEL_NOT_FOUND
from mesh.core.errors import Failed, MeshError, Unknown
from mesh.core.ids import AliasId, ModelId
from mesh.core.pod import Pod
from mesh.core.policy import MAX_ITERATIONS
from mesh.core.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.units import Millis

ALIAS_NOT_FOUND = "vmodel not found"
"""Pinned text (reference 1.9)."""

Models = Mapping[ModelId, ModelRecord]
Aliases = Mapping[AliasId, AliasRecord]


@dataclass(frozen=True, slots=True)
class Serve:
    """Make the call on this copy, which was entered; leave it afterwards."""

    copy: Copy


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Have the model loaded here and wait; then ask again."""

    model: ModelId
    info: ModelInfo


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with this error."""

    error: MeshError


Step = Serve | WaitFor | Refuse


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


class Journey:
    """The way of one call to a copy of its model.

    Deadline and cancellation belong to the coroutine that asks, and never reach a load.
    """

    def __init__(self, model: ModelId, pod: Pod, models: Models) -> None:
        self.model = model
        self._pod, self._models = pod, models
        self._tries = 0
        self._healed = False

    def next(self, now: Millis) -> Step:
        """What to do now."""
        copy = self._pod.enter(self.model, now)
        if copy is not None:
            return Serve(copy)
        record = self._models.get(self.model)
        if record is None:
            return Refuse(Unknown(MODEL_NOT_FOUND))
        if self._tries == MAX_ITERATIONS:
            return Refuse(Failed(f"{MAX_ITERATIONS} retry iterations exhausted for model {self.model}"))
        self._tries += 1
        return WaitFor(self.model, record.info)

    def again(self) -> bool:
        """The runtime did not know the copy, or went down: whether to go on, which helps once."""
        again, self._healed = not self._healed, True
        return again
