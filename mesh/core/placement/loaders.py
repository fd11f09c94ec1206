"""What the choice of a pod that loads a model is made from: the pods as this one knows them now."""

from __future__ import annotations

from zlib import crc32

from mesh.core.ids import PodId
from mesh.core.placement.choice import Place, Wish, turn_at
from mesh.core.placement.inputs import PlacementInputs
from mesh.core.placement.places import FEW
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.steps import View
from mesh.core.units import Millis


def loader_inputs(
    view: View, record: ModelRecord, excluded: frozenset[PodId], last_used: Millis, now: Millis, *, balanced: bool
) -> PlacementInputs:
    """Those of them that are worth a look as places, with the orders of this pod that their figures do not show yet.

    Args:
        view: of this pod.
        record: of the model.
        excluded: pods that hold it, where it failed, or where it is not wanted.
        last_used: as of `Wish`.
        now: the time.
        balanced: as of `Wish`.
    """
    pods, pod = view.pods, view.pod
    policy = pod.cache.policy
    # Asked once for all places: to ask for each costs as much as to rate it.
    (ordered, lately), aside, size = pods.orders_of(now), pods.put_aside, policy.default_size
    own = Place(pods.me, view.own(), ordered.get(pods.me, 0), lately=lately.get(pods.me, 0))
    outdated = view.outdated(now)
    worth: list[PodId] = []
    if len(pods.instances) > FEW:
        turn = pods.orders + turn_at(now) + crc32(pods.me.encode())
        worth = pods.places.worth(record.info.type, pod.constraints, excluded | aside | outdated, turn)
    others = [
        Place(
            other,
            pods.figures(pods.instances[other], other, size),
            ordered.get(other, 0),
            other in aside,
            lately.get(other, 0),
        )
        # If there is nobody whom anybody wants, all are looked at.
        for other in worth or [other for other, _ in pods.others()]
    ]
    wish = Wish(record.info.type, last_used, excluded, pods.zones(record), size, pods.me, balanced)
    return PlacementInputs((own, *others), wish, pod.constraints, outdated, now, turn_at(now), policy.churn_age)
