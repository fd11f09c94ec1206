"""The shared registry as the pod sees it: mirrored tables to read, edits to write, changes to hear of, one leader among the pods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from mesh.core.errors import MeshError
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.edits import Edit
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelRecord
from mesh.core.units import Millis

ModelListener = Callable[[ModelId, ModelRecord | None], None]
AliasListener = Callable[[AliasId, AliasRecord | None], None]
InstanceListener = Callable[[PodId, InstanceRecord | None], None]
ParameterListener = Callable[[str, str | None], None]
LeadershipListener = Callable[[bool], None]
"""Told whether this pod leads from now on."""


class Trouble(NamedTuple):
    """A store that does not answer.

    Attributes:
        since: from when on it is known not to.
        message: which store, how, and what to do.
        snapshot: when the snapshot was written that the mirrors are from; 0 if they are from the store.
    """

    since: Millis
    message: str
    snapshot: Millis = Millis(0)


class Registry(Protocol):
    """One interface for every store; each pod has a registry of its own, with a session that ends with it.

    Listeners are told in order, after the mirrors show what they are told of; None is a deletion. What was there before they began to
    listen they read from the mirrors.
    """

    @property
    def read_only(self) -> bool:
        """Whether `change` refuses all but what pods write of their own copies (`KV_READ_ONLY`)."""
        ...

    @property
    def trouble(self) -> Trouble | None:
        """Why changes cannot be written now; None while the store answers, as far as is known."""
        ...

    @property
    def models(self) -> Mapping[ModelId, ModelRecord]:
        """Mirror of all models; reading it never waits."""
        ...

    @property
    def aliases(self) -> Mapping[AliasId, AliasRecord]:
        """Mirror of all aliases; reading it never waits."""
        ...

    @property
    def instances(self) -> Mapping[PodId, InstanceRecord]:
        """Mirror of the records of all pods whose session lives, this one's among them once it is published; reading it never waits."""
        ...

    @property
    def parameters(self) -> Mapping[str, str]:
        """Mirror of what operators set for the whole mesh (reference 7.6); reading it never waits."""
        ...

    @property
    def leader(self) -> PodId | None:
        """The pod that leads the mesh, as far as is known here; None while nobody does."""
        ...

    @property
    def leads(self) -> bool:
        """Whether this pod leads: it stands, is first, and its session is certain to live."""
        ...

    def listen(self, model: ModelListener, alias: AliasListener) -> None:
        """Has changes of models and aliases told."""
        ...

    def listen_to_instances(self, instance: InstanceListener) -> None:
        """Has pods told that come, change and go."""
        ...

    def listen_to_parameters(self, parameter: ParameterListener) -> None:
        """Has changes of what operators set told."""
        ...

    def listen_to_leadership(self, listener: LeadershipListener) -> None:
        """Has told when this pod begins to lead, and when it ceases to; the latter also at `close`."""
        ...

    async def change(self, edit: Edit) -> MeshError | None:
        """Applies an edit atomically, again on conflict; what it refuses with. The mirrors show it on return.

        Raises:
            StoreUnavailable: the store does not answer; nothing is known to be written.
        """
        ...

    async def publish(self, pod: PodId, record: InstanceRecord) -> None:
        """Writes this pod's own record, which ends with its session.

        Raises:
            StoreUnavailable: it is not written yet; it will be as soon as the store answers.
        """
        ...

    async def stand_for_leader(self, pod: PodId) -> None:
        """Makes this pod a candidate until `close`; of all candidates the one that has stood longest leads.

        Raises:
            StoreUnavailable: it does not stand yet; it will as soon as the store answers.
        """
        ...

    async def close(self) -> None:
        """Ends the session, and with it the pod's record and candidacy."""
        ...
