"""The latest calls and loads of this pod, kept only while somebody asks for them: `mesh trace record` does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any

from mesh.core.errors import Code
from mesh.core.policy import SECOND
from mesh.core.units import Millis
from mesh.telemetry.metrics import Metrics

KEPT = 50_000
"""Entries that wait for the next question, about 10 MB; with a question a second that is room for more calls than a pod answers."""

PAGE = 5_000
"""Entries of one answer: a page costs the event loop a few milliseconds."""

LEASE = Millis(60 * SECOND)
"""Nobody asked for so long: nothing is kept any more."""

_NO_ACCESS = frozenset({Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED})
"""How calls end that are of no model that there is."""


class Accesses:
    """A bounded ring of what happened; each entry has a number, from 1.

    Args:
        metrics: tells of calls and loads while somebody asks.
    """

    def __init__(self, now: Callable[[], Millis], metrics: Metrics) -> None:
        self._now, self._metrics = now, metrics
        self._ring: deque[tuple[str, Millis, str, float]] = deque(maxlen=KEPT)
        self._last = 0
        self._asked = Millis(0)

    def page(self, after: int = 0) -> dict[str, Any]:
        """What came after the entry of that number, and the number to ask with next. The first question begins the keeping.

        Each entry is a list: `call`, when it began by this pod's clock (`now_ms`), its model, and how long it took in ms; `load` and
        `size` have ms and bytes in the last place. `lost` entries made room for later ones before anybody asked.
        """
        self._asked = self._now()
        self._metrics.listener = self
        if after > self._last:
            # Of an earlier life of this pod.
            after = 0
        first = self._last - len(self._ring)
        entries = list(islice(self._ring, max(0, after - first), max(0, after - first) + PAGE))
        reached = max(after, first) + len(entries)
        lost = max(0, first - after) if after else 0
        return {"now_ms": self._asked, "entries": entries, "next": reached, "more": reached < self._last, "lost": lost}

    def called(self, model: str, code: Code, ms: float) -> None:
        """A call that came in here ended."""
        if model and code not in _NO_ACCESS:
            now = self._now()
            self._note("call", Millis(now - round(ms)), model, ms)

    def loaded(self, model: str, ms: float) -> None:
        """A model was loaded here."""
        self._note("load", self._now(), model, ms)

    def sized(self, model: str, size: int) -> None:
        """A model that was loaded here takes so many bytes."""
        self._note("size", self._now(), model, size)

    def _note(self, kind: str, at: Millis, model: str, value: float) -> None:
        if self._now() - self._asked > LEASE:
            self._metrics.listener = None
            self._ring.clear()
            return
        self._ring.append((kind, at, model, round(value, 3)))
        self._last += 1
