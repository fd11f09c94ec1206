"""How busy a pod is: its calls a minute over the last few minutes (reference 6.2)."""

from __future__ import annotations

from collections import deque

from mesh.core.policy import SECOND
from mesh.core.units import Millis

MINUTE = Millis(60 * SECOND)
SAMPLES = 7
"""Counts that are kept, a minute apart."""


class Busyness:
    """Calls a minute, from a count that only grows."""

    def __init__(self, calls: int, now: Millis) -> None:
        self._samples: deque[tuple[Millis, int]] = deque([(now, calls)], maxlen=SAMPLES)

    def rpm(self, calls: int, now: Millis) -> int:
        """Calls a minute since the oldest sample; what happened in a moment is no rate, so the first ten seconds show none.

        Args:
            calls: so many began until now.
        """
        if now - self._samples[-1][0] >= MINUTE:
            self._samples.append((now, calls))
        at, before = self._samples[0]
        return (calls - before) * MINUTE // (now - at) if now - at >= 10 * SECOND else 0
