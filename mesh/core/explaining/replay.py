"""Decisions made again from recorded inputs, also in another process: whether the same choice comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mesh.core.cache import eviction, leaks
from mesh.core.cache.eviction import Eviction
from mesh.core.cache.leaks import Recycling
from mesh.core.errors import Malformed
from mesh.core.explaining.decisions import Evidence
from mesh.core.explaining.recorded import from_json
from mesh.core.placement import inputs as placement_inputs
from mesh.core.placement.evidence import PlacementEvidence
from mesh.core.registry import janitor, reaping
from mesh.core.routing import attempts, dead_ends, failed_loads, joining
from mesh.core.routing.attempts import Attempt
from mesh.core.routing.failed_loads import FailedLoads
from mesh.core.scaling import minimum, proactive, scale_down, scale_up, second_copy
from mesh.core.traffic import judgement


def _placement(data: Any) -> PlacementEvidence:
    return PlacementEvidence(placement_inputs.placement_from_json(data))


READERS: Mapping[str, Callable[[Any], Evidence]] = {
    placement_inputs.NAME: _placement,
    eviction.NAME: Eviction.from_json,
    attempts.NAME: Attempt.from_json,
    failed_loads.NAME: FailedLoads.from_json,
    joining.NAME: joining.Joining.from_json,
    dead_ends.NAME: dead_ends.DeadEnd.from_json,
    second_copy.NAME: partial(from_json, second_copy.SecondCopy),
    scale_up.NAME: partial(from_json, scale_up.ScaleUp),
    scale_down.NAME: partial(from_json, scale_down.ScaleDown),
    minimum.NAME: partial(from_json, minimum.Stock),
    reaping.NAME: partial(from_json, reaping.Absence),
    janitor.NAME: partial(from_json, janitor.Discrepancy),
    proactive.NAME: partial(from_json, proactive.Early),
    leaks.NAME: Recycling.from_json,
    judgement.NAME: judgement.Judgement.from_json,
}
"""What reads the inputs of each function that decides, by the name in `decided_by`."""


def evidence_from_json(inputs: Any) -> Evidence | None:
    """The evidence that recorded inputs make; None for inputs that the pod no longer had.

    Raises:
        Malformed: they are of a function that this version does not know, or cannot be read.
    """
    if not isinstance(inputs, dict) or "decided_by" not in inputs:
        raise Malformed("these are not the recorded inputs of a decision: there is no decided_by")
    if inputs.get("forgotten"):
        return None
    reader = READERS.get(str(inputs["decided_by"]))
    if reader is None:
        raise Malformed(f"this version does not know how {inputs['decided_by']!r} decides; it knows {', '.join(sorted(READERS))}")
    return reader(inputs)
