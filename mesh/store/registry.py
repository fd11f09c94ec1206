"""The shared registry as the pod sees it: mirrored tables to read, edits to write, changes to hear of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from mesh.core.edits import Edit
from mesh.core.errors import MeshError
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.instances import InstanceRecord
from mesh.core.records import AliasRecord, ModelRecord

ModelListener = Callable[[ModelId, ModelRecord | None], None]
AliasListener = Callable[[AliasId, AliasRecord | None], None]
LossListener = Callable[[Mapping[ModelId, ModelRecord], Mapping[AliasId, AliasRecord]], None]
"""Told of the models and aliases that a reset of the store lost."""


class Registry(Protocol):
    """One interface for every store."""

    @property
    def models(self) -> Mapping[ModelId, ModelRecord]:
        """Mirror of all models; reading it never waits."""
        ...

    @property
    def aliases(self) -> Mapping[AliasId, AliasRecord]:
        """Mirror of all aliases; reading it never waits."""
        ...

    def listen(self, model: ModelListener, alias: AliasListener) -> None:
        """Has changes told, in order, after the mirrors show them; None is a deletion."""
        ...

    async def change(self, edit: Edit) -> MeshError | None:
        """Applies an edit atomically, again on conflict; what it refuses with.

        Raises:
            StoreUnavailable: the store does not answer; nothing is known to be written.
        """
        ...

    async def close(self) -> None:
        """Ends the session."""
        ...


@runtime_checkable
class SharedRegistry(Registry, Protocol):
    """A registry that other pods, and later lives of this one, see too."""

    def listen_to_losses(self, listener: LossListener) -> None:
        """Has told what a reset of the store lost, instead of its being told as deletions."""
        ...

    async def publish(self, pod: PodId, record: InstanceRecord) -> None:
        """Writes this pod's own record, which ends with its session.

        Raises:
            StoreUnavailable: it is not written yet; it will be as soon as the store answers.
        """
        ...
