"""Which of several ready copies serves a call: the less busy of two drawn at random (reference 3.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mesh.core.ids import PodId
from mesh.core.routing.neighbourhood import Neighbourhood
from mesh.core.units import Millis

Draw = Callable[[int], int]
"""A number from 0 up to, and without, the one given."""


def lighter(holders: Sequence[PodId], pods: Neighbourhood, now: Millis, draw: Draw) -> PodId:
    """One of some holders; of two that are equally busy the one chosen longer ago. There is at least one."""
    if len(holders) == 1:
        return holders[0]
    first = draw(len(holders))
    second = (first + 1 + draw(len(holders) - 1)) % len(holders)
    return min(holders[first], holders[second], key=lambda pod: (pods.calls(pod, now), pods.turn(pod)))
