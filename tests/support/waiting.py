"""Waiting for something to become true, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds until a condition counts as never fulfilled; generous, because machines that run tests are slow at times."""
PAUSE = 0.01


def until(condition: Callable[[], T], what: str = "", *, within: float = PATIENCE) -> T:
    """Asks again until the answer is truthy, and returns it.

    Raises:
        AssertionError: it never was; the message has `what` and the last answer.
    """
    end = time.monotonic() + within
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {what or condition}; last answer: {answer!r}")
        time.sleep(PAUSE)


async def until_async(condition: Callable[[], Awaitable[T]], what: str = "", *, within: float = PATIENCE) -> T:
    """As `until`, for a condition that has to be awaited."""
    end = time.monotonic() + within
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {within:g} s: {what or condition}; last answer: {answer!r}")
        await asyncio.sleep(PAUSE)
