"""Names of things, as types of their own so that one cannot stand for another."""

from __future__ import annotations

from typing import NamedTuple, NewType

ModelId = NewType("ModelId", str)
"""A concrete model: immutable type, path and key."""

AliasId = NewType("AliasId", str)
"""A "virtual model": the name that clients call, pointing at a concrete model."""

PodId = NewType("PodId", str)
"""An instance: one router with its model server. The last 12 characters of the pod's name, as ModelMesh has it."""


class CopyId(NamedTuple):
    """One try to have a model here. A copy that still leaves the runtime and its successor share the model, not the number."""

    model: ModelId
    number: int

    def __str__(self) -> str:
        return f"{self.model}#{self.number}"
