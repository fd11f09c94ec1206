"""Times in which etcd does not answer: since when, why, and who looks whether it is back."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from mesh.core.errors import StoreUnavailable
from mesh.core.units import Millis
from mesh.store.registry import Trouble

log = logging.getLogger(__name__)

FIRST_LOOK = 0.05
LAST_LOOK = 0.5
"""Seconds between two looks at an etcd that is away, at first and in the end: one small read, however many calls want it."""

Look = Callable[[], Awaitable[bool]]
"""Whether etcd answers; bounded in time."""


class Outage:
    """One etcd that answers, or is away.

    Who finds that it does not answer says so, once; from then on one task looks for it, and nobody else asks it in vain.

    Args:
        where: the etcd, for messages.
        look: asked while it is away.
    """

    def __init__(self, where: str, look: Look) -> None:
        self._where, self._look = where, look
        self._since = Millis(0)
        self._details = self._advice = ""
        self._looking: asyncio.Task[None] | None = None
        self._ended = float("-inf")

    @property
    def trouble(self) -> Trouble | None:
        """What there is to tell; None while etcd answers, as far as is known."""
        return Trouble(self._since, self._told()) if self._looking else None

    def lately(self, within: float) -> bool:
        """Whether etcd is away, or was so many seconds ago."""
        return self._looking is not None or time.monotonic() - self._ended < within

    def error(self) -> StoreUnavailable:
        """For a caller whose wish needs etcd."""
        return StoreUnavailable(self._told())

    def begin(self, since: float, details: str, advice: str) -> None:
        """Etcd did not answer.

        Args:
            since: epoch seconds from which on it is known not to.
            details: how it did not.
            advice: what to do.
        """
        self._details, self._advice = details, advice
        if self._looking is None:
            log.warning("%s does not answer: %s; %s", self._where, details, advice)
            self._since = Millis(int(since * 1000))
            self._looking = asyncio.get_running_loop().create_task(self._await_return(), name="looking for etcd")

    def end(self) -> None:
        """Etcd answered."""
        if self._looking is not None:
            self._looking.cancel()
            self._over()

    async def over(self, within: float) -> bool:
        """Waits for its return, so many seconds at most; whether it is back."""
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=within)
        return self._looking is None

    async def close(self) -> None:
        """Ends the looking."""
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()
            await asyncio.wait([looking])

    async def _await_return(self) -> None:
        pause = FIRST_LOOK
        while not await self._look():
            await asyncio.sleep(random.uniform(0.5, 1) * pause)
            pause = min(LAST_LOOK, 2 * pause)
        self._over()

    def _over(self) -> None:
        log.warning("%s answers again, after %.0f s", self._where, time.time() - self._since / 1000)
        self._looking = None
        self._ended = time.monotonic()

    def _told(self) -> str:
        since = datetime.fromtimestamp(self._since / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        seconds = max(0.0, time.time() - self._since / 1000)
        return (
            f"{self._where} does not answer ({self._details}; since {since}, {seconds:.0f} s); {self._advice}; "
            "the request can be repeated when it answers again"
        )
