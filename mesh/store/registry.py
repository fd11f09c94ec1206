"""The shared registry as the pod sees it: mirrored tables to read, edits to write, changes to hear of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from mesh.core.edits import Edit
from mesh.core.errors import MeshError
from mesh.core.ids import AliasId, ModelId
from mesh.core.records import AliasRecord, ModelRecord

ModelListener = Callable[[ModelId, ModelRecord | None], None]
AliasListener = Callable[[AliasId, AliasRecord | None], None]


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
