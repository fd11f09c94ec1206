"""What the express lane's table says of each model: this pod's copy, and those of others."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.express import others_of
from mesh.core.routing.hops import Holder
from mesh.core.routing.neighbourhood import Busy, Neighbourhood
from mesh.pod.lane_aliases import Aliases, Told
from mesh.store.registry import Registry
from mesh.wire.attempts import holder_of

if TYPE_CHECKING:
    import mesh_lane


class Table:
    """Published as it changes; knows what it told, so that a record that is written again for another reason is not told again.

    Args:
        pods: the others.

    Attributes:
        aliases: those of models that are in it.
    """

    def __init__(self, lane: mesh_lane.Lane, pods: Neighbourhood, registry: Registry) -> None:
        self._lane, self._pods = lane, pods
        self.aliases = Aliases(registry, self, self._tell_aliases)
        self._here: dict[ModelId, tuple[CopyId, mesh_lane.Copy]] = {}
        self._told: dict[ModelId, tuple[CopyId | None, tuple[Holder, ...]]] = {}
        self._peers: dict[PodId, mesh_lane.Peer] = {}
        self._closed = False

    def __contains__(self, model: object) -> bool:
        return model in self._told

    def begin(self) -> None:
        """Both planes count calls on pods in one account from now on."""
        self._pods.accounts(self._account)
        self._pods.watch = self._pod_changed

    def end(self) -> None:
        """Hears no more of pods; what is counted stays with the accounts."""
        self._pods.watch = lambda _: None

    def serves(self, model: ModelId) -> tuple[CopyId, mesh_lane.Copy] | None:
        """This pod's copy, if it serves."""
        return self._here.get(model)

    def add(self, copy: CopyId, account: mesh_lane.Copy, record: ModelRecord | None) -> None:
        """A copy serves here from now on."""
        self._here[copy.model] = copy, account
        self.tell(copy.model, record)

    def remove(self, copy: CopyId, record: ModelRecord | None) -> mesh_lane.Copy | None:
        """It does no longer, and takes no further call on either plane; None if it did not."""
        known = self._here.get(copy.model)
        if known is None or known[0] != copy:
            return None
        del self._here[copy.model]
        # Closed first: from here on no call begins on it, whatever the workers' tables say.
        known[1].close()
        self.tell(copy.model, record)
        return known[1]

    def shut(self, closed: bool, records: Collection[tuple[ModelId, ModelRecord]]) -> None:
        """Leaves all calls to Python, or no longer does. `records`: those of models that somebody has."""
        self._closed = closed
        if closed:
            told, self._told = list(self._told), {}
            self._lane.publish(no_models=told, no_aliases=[alias for model in told for alias in self.aliases.went(model).no_aliases])
        else:
            for model, record in records:
                self.tell(model, record)

    def tell(self, model: ModelId, record: ModelRecord | None) -> None:
        """Has the table say of a model what it should."""
        here, others = self._here.get(model), others_of(record, self._pods.me)
        if self._closed or record is None:
            here, others = None, ()
        entry = (here[0] if here else None, others) if here or others else None
        known = self._told.get(model)
        if entry == known:
            return
        if entry is None:
            del self._told[model]
            self._lane.publish(no_models=[model], no_aliases=self.aliases.went(model).no_aliases)
            return
        self._told[model] = entry
        came = self.aliases.came(model) if known is None else Told()
        copies = [self._peer(holder[0]).copy(tried=holder_of(model, holder)) for holder in others]
        self._lane.publish(models=[(model, [here[1], *copies] if here else copies)], aliases=came.aliases, shared=came.shared)

    def _tell_aliases(self, told: Told) -> None:
        self._lane.publish(aliases=told.aliases, shared=told.shared, no_aliases=told.no_aliases)

    # Other pods

    def _peer(self, pod: PodId) -> mesh_lane.Peer:
        peer = self._peers.get(pod)
        if peer is None:
            peer = self._peers[pod] = self._lane.peer(pod)
            self._pod_changed(pod)
        return peer

    def _account(self, pod: PodId) -> Busy:
        return self._lane.busy if pod == self._pods.me else self._peer(pod).busy

    def _pod_changed(self, pod: PodId) -> None:
        peer = self._peers.get(pod)
        if peer is None:
            return
        record = self._pods.instance(pod)
        if record is not None:
            # What the lane counts there counts for the Python plane, too.
            self._pods.account(pod)
        peer.moved((record.endpoint or None) if record else None, aside=self._pods.aside(pod))
