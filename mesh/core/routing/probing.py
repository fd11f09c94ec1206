"""When a pod that did not answer is asked again whether it does (reference 3.6)."""

from __future__ import annotations

from mesh.core.units import Millis

FIRST_AFTER_BREAK = Millis(40)
"""An established connection broke: the pod may have restarted, or one connection may have been cut."""
FIRST_AFTER_REFUSAL = Millis(3_000)
"""No connection came about."""
SECOND, LONGEST = Millis(2_000), Millis(30_000)
GROWTH = 1.5
JITTER = 0.1
"""The largest share that is added, so that the pods of a mesh do not ask at the same moment."""


def probe_after(failed: int, *, broke: bool, draw: float) -> Millis:
    """How long to wait before the next probe.

    Args:
        failed: probes that were not answered since the pod was put aside.
        broke: whether an established connection broke, rather than none coming about.
        draw: uniform from 0 to 1.
    """
    if failed == 0:
        wait: float = FIRST_AFTER_BREAK if broke else FIRST_AFTER_REFUSAL
    else:
        # Past 10 steps it is the longest anyway; powers of large numbers do not end up as a float.
        wait = min(float(LONGEST), SECOND * GROWTH ** min(failed - 1, 10))
    return Millis(round(wait * (1 + JITTER * draw)))
