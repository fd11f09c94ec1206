"""Why a model is not loaded again: it failed on several pods lately, or here and the pause is not over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mesh.core.errors import Malformed
from mesh.core.explaining.decisions import Candidate
from mesh.core.explaining.recorded import from_json, to_json
from mesh.core.policy import MAX_LOAD_FAILURES
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis

NAME = "failed-loads"
"""What the JSON calls the function."""

REFUSED, LOADS = "refused", "loads"

_TEXT = 300
"""Letters of a failure's text that are kept."""


@dataclass(frozen=True, slots=True)
class FailedLoads:
    """What a refusal to load a model goes by.

    Attributes:
        failed: pods where it failed, when, and the text.
        known: pods where it failed under this very call.
        window: ms for which a failure counts.
        limit: failures that count with which no pod tries again.
        until: before this time the pod here does not try again; 0 if it did not fail here.
    """

    failed: tuple[tuple[str, int, str], ...]
    known: tuple[str, ...]
    now: Millis
    window: Millis
    limit: int = MAX_LOAD_FAILURES
    until: Millis = Millis(0)

    @classmethod
    def of(cls, record: ModelRecord, known: Sequence[str], now: Millis, window: Millis, until: Millis = Millis(0)) -> FailedLoads:
        """From a model's record."""
        failed = sorted(record.failed.items(), key=lambda entry: -entry[1])
        texts = record.failures
        return cls(tuple((pod, at, texts.get(pod, "")[:_TEXT]) for pod, at in failed), tuple(sorted(known)), now, window, until=until)

    @classmethod
    def from_json(cls, data: Any) -> FailedLoads:
        """Reads `inputs()`.

        Raises:
            Malformed: something is missing or of another type.
        """
        found = from_json(cls, data)
        raw: Any = found
        if not all(isinstance(entry, tuple) and len(entry) == 3 and isinstance(entry[1], int) for entry in raw.failed):
            raise Malformed("failures of a model are a pod, a time and a text each")
        return found

    @property
    def counted(self) -> frozenset[str]:
        """Pods whose failure counts."""
        return frozenset(self.known) | {pod for pod, at, _ in self.failed if at > self.now - self.window}

    def again(self) -> str:
        """`REFUSED` or `LOADS`."""
        return REFUSED if len(self.counted) >= self.limit or self.now < self.until else LOADS

    def free_at(self) -> Millis:
        """From when on a call has it loaded again, found by deciding again at later times; 0 if now."""
        if self.again() == LOADS:
            return Millis(0)
        lone = replace(self, known=())
        times = sorted({self.until, *(Millis(at + self.window) for _, at, _ in self.failed)})
        return next((at for at in times if at > self.now and replace(lone, now=at).again() == LOADS), Millis(0))

    def candidates(self) -> Sequence[Candidate]:
        """The pods where it failed."""
        counted, listed = self.counted, []
        for pod, at, text in self.failed:
            score: dict[str, object] = {"failed_at_ms": at, "counts": pod in counted}
            listed.append(Candidate(pod, False, score, text or "the load failed there"))
        told = {pod for pod, _, _ in self.failed}
        return listed + [
            Candidate(pod, False, {"counts": True}, "the load failed there under this call") for pod in self.known if pod not in told
        ]

    def would_change(self) -> Sequence[str]:
        """From when on it is tried again, and what ends the refusal at once."""
        if self.again() == LOADS:
            return ()
        said = ["the failure being forgotten: repair what the message names, then apply the document again"]
        free = self.free_at()
        if free > self.now:
            said.append(f"time: {-(-(free - self.now) // 1000)} s later a call has it loaded again")
        return said

    def inputs(self) -> dict[str, object]:
        """As JSON; times in epoch milliseconds."""
        return to_json(NAME, self)
