"""Decisions made again from recorded inputs, also in another process: whether the same choice comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mesh.core.decisions import Evidence
from mesh.core.errors import Malformed
from mesh.core.placement_evidence import PlacementEvidence
from mesh.core.placement_inputs import NAME as PLACEMENT
from mesh.core.placement_inputs import placement_from_json

READERS: Mapping[str, Callable[[Any], Evidence]] = {PLACEMENT: lambda data: PlacementEvidence(placement_from_json(data))}
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
