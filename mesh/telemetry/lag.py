"""How late the event loop is: what keeps it busy keeps every call waiting."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from mesh.telemetry.metrics import Metrics

PERIOD = 0.1
"""Seconds between two looks: rare enough to cost nothing, often enough that a scrape sees some hundreds."""


async def watch_lag(metrics: Metrics, period: float = PERIOD) -> NoReturn:
    """Records, until it is cancelled, how long after its time each wake-up comes."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + period
        await asyncio.sleep(period)
        metrics.loop_lag(max(0.0, loop.time() - due) * 1000)
