"""Waiting for something to become true, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds until a condition counts as never fulfilled; generous, because machines that run tests are slow at times."""
PAUSE, LONGEST_PAUSE = 0.01, 0.1
"""Seconds between two looks: a tenth of what was waited so far, within these bounds; what is awaited needs the processor itself."""


def until(condition: Callable[[], T], what: str = "", *, within: float = PATIENCE) -> T:
    """Asks again until the answer is truthy, and returns it.

    Raises:
        AssertionError: it never was; the message has `what` and the last answer.
    """
    begun = time.monotonic()
    while True:
        answer = condition()
        if answer:
            return answer
        time.sleep(_pause(begun, within, what or condition, answer))


async def until_async(condition: Callable[[], Awaitable[T]], what: str = "", *, within: float = PATIENCE) -> T:
    """As `until`, for a condition that has to be awaited."""
    begun = time.monotonic()
    while True:
        answer = await condition()
        if answer:
            return answer
        await asyncio.sleep(_pause(begun, within, what or condition, answer))


def _pause(begun: float, within: float, what: object, answer: object) -> float:
    """Seconds until the next look; AssertionError if there is none."""
    waited = time.monotonic() - begun
    if waited > within:
        raise AssertionError(f"not within {within:g} s: {what}; last answer: {answer!r}")
    return min(max(PAUSE, waited / 10), LONGEST_PAUSE)
