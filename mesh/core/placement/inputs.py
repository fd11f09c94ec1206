"""All that one choice of a pod is made from, frozen: by it the choice can be made again, also from its JSON and in another process."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any, NamedTuple

from mesh.core.errors import Malformed
from mesh.core.ids import PodId
from mesh.core.placement.choice import Choice, Place, Rated, Wish, choose
from mesh.core.placement.constraints import Constraints
from mesh.core.registry.instances import instance_from_json, instance_to_json
from mesh.core.units import Millis, Units

NAME = "placement"
"""What the JSON calls the function."""


class PlacementInputs(NamedTuple):
    """Arguments of `mesh.core.placement.choice.choose`.

    Attributes:
        places: all pods known, the deciding one included, with the figures that the deciding pod had of them.
        outdated: pods whose replica set was being replaced.
        turn: how many places further on the round of equals starts; `mesh.core.placement.choice.turn_at`.
        churn_age: `Policy.churn_age`.
    """

    places: tuple[Place, ...]
    wish: Wish
    constraints: Constraints
    outdated: Set[PodId]
    now: Millis
    turn: int
    churn_age: Millis

    def choose(self, *, trace: bool = False) -> Choice:
        """Makes the choice."""
        return choose(
            self.places,
            self.wish,
            self.constraints,
            self.outdated,
            self.now,
            lambda count: self.turn % count,
            churn_age=self.churn_age,
            trace=trace,
        )

    def rated(self, place: Place) -> Rated:
        """What a place is judged by."""
        return Rated(place, self.wish, self.now, self.churn_age)

    def to_json(self) -> dict[str, object]:
        """Plain JSON; sizes in units of 8 KiB, times in epoch milliseconds, pods' records as the registry has them."""
        wish = self.wish
        types = {*self.constraints.required, *self.constraints.preferred}
        return {
            "decided_by": NAME,
            "at_ms": self.now,
            "turn": self.turn,
            "churn_age_ms": self.churn_age,
            "wish": {
                "type": wish.model_type,
                "last_used_ms": wish.last_used,
                "holders": sorted(wish.holders),
                "zones": dict(wish.zones),
                "size": wish.size,
                "me": wish.me,
                "balanced": wish.balanced,
            },
            "constraints": {
                name: {
                    "required": list(self.constraints.required.get(name, ())),
                    "preferred": list(self.constraints.preferred.get(name, ())),
                }
                for name in sorted(types)
            },
            "outdated": sorted(self.outdated),
            "places": [
                {
                    "pod": place.pod,
                    "pending": place.pending,
                    "aside": place.aside,
                    "lately": place.lately,
                    "record": instance_to_json(place.record),
                }
                for place in self.places
            ],
        }


def placement_from_json(data: Any) -> PlacementInputs:
    """Reads what `PlacementInputs.to_json` wrote.

    Raises:
        Malformed: something is missing or of another type.
    """
    try:
        wish = data["wish"]
        return PlacementInputs(
            tuple(
                Place(
                    PodId(str(one["pod"])),
                    instance_from_json(one["record"]),
                    int(one["pending"]),
                    bool(one["aside"]),
                    int(one["lately"]),
                )
                for one in data["places"]
            ),
            Wish(
                str(wish["type"]),
                Millis(int(wish["last_used_ms"])),
                frozenset(map(PodId, wish["holders"])),
                {str(zone): int(copies) for zone, copies in wish["zones"].items()},
                Units(int(wish["size"])),
                PodId(str(wish["me"])),
                bool(wish["balanced"]),
            ),
            Constraints.parse(json.dumps(data["constraints"])),
            frozenset(map(PodId, data["outdated"])),
            Millis(int(data["at_ms"])),
            int(data["turn"]),
            Millis(int(data["churn_age_ms"])),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Malformed(f"these are not the inputs of a placement: {type(error).__name__} {error}") from None
