"""Loads that failed here: remembered, tried again, expiring."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.core.cache.copies import Copy
from mesh.core.errors import LoadFailed
from mesh.core.ids import ModelId
from mesh.core.policy import FIRST_RETRY, Policy
from mesh.core.registry.records import ModelInfo
from mesh.core.timers import Timers
from mesh.core.units import Millis


@dataclass(frozen=True, slots=True)
class Failure:
    """The latest failed load of a model.

    Attributes:
        tries: failures in a row.
        retry_at: calls fail with this error until then.
        by_itself: whether the load is then tried again without being asked; past the longest pause only a call does it.
        info: what to load then.
        last_used: of the copy that failed.
    """

    info: ModelInfo
    last_used: Millis
    error: LoadFailed
    at: Millis
    tries: int
    retry_at: Millis
    by_itself: bool


class Failures:
    """Failures by model; bounded by the models that fail."""

    def __init__(self, policy: Policy) -> None:
        self._expiry = policy.failure_expiry
        self._failures: dict[ModelId, Failure] = {}
        self.timers: Timers[ModelId] = Timers()

    def record(self, copy: Copy, error: LoadFailed, now: Millis, *, alone: bool = True) -> Failure:
        """Notes one more failure. Where no other pod could take the model, the pause before the next try doubles up to the expiry."""
        model = copy.id.model
        before = self._failures.get(model)
        tries = before.tries + 1 if before else 1
        pause = min(FIRST_RETRY << min(tries - 1, 32), self._expiry) if alone else self._expiry
        failure = Failure(copy.info, copy.last_used, error, now, tries, Millis(now + pause), pause < self._expiry)
        self._failures[model] = failure
        self.timers.set(model, failure.retry_at)
        return failure

    def blocking(self, model: ModelId, now: Millis) -> Failure | None:
        """The failure that keeps a model from being loaded now."""
        failure = self._failures.get(model)
        return failure if failure and now < failure.retry_at else None

    def of(self, model: ModelId) -> Failure | None:
        """The latest failure of a model that did not load since."""
        return self._failures.get(model)

    def clear(self, model: ModelId) -> bool:
        """Forgets a model's failures; whether there was one."""
        self.timers.drop(model)
        return self._failures.pop(model, None) is not None

    def take_due(self, now: Millis) -> list[tuple[ModelId, Failure]]:
        """Failures whose pause is over, each once."""
        return [(model, self._failures[model]) for model in self.timers.take_due(now)]
