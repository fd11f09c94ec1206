"""Wall-clock time; the event loop's clock serves for spans."""

from __future__ import annotations

import time
from typing import Protocol

from mesh.core.units import Millis


class Clock(Protocol):
    """Where the pod reads the time."""

    def now(self) -> Millis:
        """Milliseconds since the epoch."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> Millis:
        """Milliseconds since the epoch."""
        return Millis(time.time_ns() // 1_000_000)
