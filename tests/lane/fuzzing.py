"""How many examples the lane's property tests draw: `FUZZ=n` has n times as many, which `make fuzz` asks for."""

from __future__ import annotations

import os

from hypothesis import settings

TIMES = int(os.environ.get("FUZZ") or 1)


def examples(count: int) -> settings:
    """So many, times `FUZZ`."""
    return settings(deadline=None, max_examples=count * TIMES)
