"""What the choice of a pod that loads a model is made from: the pods as this one knows them now."""

from __future__ import annotations

from mesh.core.ids import PodId
from mesh.core.placement import Place, Wish, turn_at
from mesh.core.placement_inputs import PlacementInputs
from mesh.core.records import ModelRecord
from mesh.core.steps import View
from mesh.core.units import Millis


def loader_inputs(
    view: View, record: ModelRecord, excluded: frozenset[PodId], last_used: Millis, now: Millis, *, balanced: bool
) -> PlacementInputs:
    """All of them as places, with the orders of this pod that their figures do not show yet.

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
    own = Place(pods.me, view.own(), pods.ordered(pods.me, now), lately=pods.lately(pods.me, now))
    others = (
        Place(
            other,
            pods.figures(figures, other, policy.default_size),
            pods.ordered(other, now),
            pods.aside(other),
            pods.lately(other, now),
        )
        for other, figures in pods.others()
    )
    wish = Wish(record.info.type, last_used, excluded, pods.zones(record), policy.default_size, pods.me, balanced)
    return PlacementInputs((own, *others), wish, pod.constraints, view.outdated(now), now, turn_at(now), policy.churn_age)
