"""How a judged rollout goes: its steps, how long each is held, and what counts as worse."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from mesh.core.errors import Malformed
from mesh.core.policy import HOUR, SECOND
from mesh.core.traffic.ticks import RATIO

STEPS = (5, 25, 50, 100)
"""Percent of the calls that the canary gets, one after the other."""

WRONG = 0.01
"""Chance of a wrong verdict, each of the two kinds."""

MOST = 10
"""Ten times slower: nobody has to be told a larger difference by comparison."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the user chose.

    Attributes:
        steps: percent, growing, the last is 100; all others compare both versions.
        hold_ms: a step lasts so long at least.
        hold_calls: and so many calls of the canary.
        settle_ms: after a step begins its calls count for nothing so long: copies are loaded, first calls warm them up, and of calls that
            have just begun only quick ones have ended. It is longer than calls take.
        limit_ms, limit_calls: of a step; what is not shown by then, of either kind, is told as a dead end.
        failures_tolerated, failures_found: shares of calls. Rolled back is a canary that is shown to fail by more than the first more
            often than the stable version, promoted one that is shown to fail by less than the second more often.
        slower_tolerated, slower_found: the same of latency, parts by which the canary is slower.
        alike: calls in a tick that may share their fate, and so are worth no more than one: 1 where a version is drawn for each call, more
            where a caller stays with a version.
        wrong_rollback: chance, over the whole rollout, that a canary within what is tolerated is rolled back by comparison.
        wrong_promotion: chance, at each step, that a canary beyond what is to be found passes it.
    """

    steps: tuple[int, ...] = STEPS
    hold_ms: int = 300 * SECOND
    hold_calls: int = 100
    settle_ms: int = 10 * SECOND
    limit_ms: int = 6 * HOUR
    limit_calls: int = 50_000
    failures_tolerated: float = 0.02
    failures_found: float = 0.05
    slower_tolerated: float = 0.14
    slower_found: float = 0.3
    alike: int = 1
    wrong_rollback: float = WRONG
    wrong_promotion: float = WRONG

    def __post_init__(self) -> None:
        """Checks it.

        Raises:
            Malformed: says what makes no sense, and what would.
        """
        steps = self.steps
        if len(steps) < 2 or steps[-1] != 100 or steps[0] < 1 or list(steps) != sorted(set(steps)):
            raise Malformed(
                f"steps of a rollout are growing percents that begin above 0 and end with 100, such as 5, 25, 50, 100; not {steps}"
            )
        if min(self.hold_ms, self.hold_calls, self.settle_ms) < 0:
            raise Malformed("what a step of a rollout is held for, and settles, is 0 or more")
        if self.alike < 1:
            raise Malformed("alike is a number of calls, 1 or more: as many as may share their fate")
        if self.limit_ms <= max(self.hold_ms, self.settle_ms) or self.limit_calls <= self.hold_calls:
            raise Malformed("the limits of a rollout's steps lie beyond what they are held for, and settle: limit_ms, limit_calls")
        if not 0 <= self.failures_tolerated < self.failures_found <= 0.5:
            raise Malformed(
                "failures_tolerated is 0 or more, failures_found larger and at most 0.5: shares of calls, 0.02 is two of a hundred"
            )
        if not 0 <= self.slower_tolerated < self.slower_found <= MOST or self.shift_tolerated >= self.shift_found:
            raise Malformed(
                f"slower_tolerated is 0 or more, slower_found larger and at most {MOST}: 0.3 is slower by three tenths. "
                f"Latencies are compared by factors of {RATIO:.4f}, so at least one power of it lies from the one to the other"
            )
        if not (0 < self.wrong_rollback <= 0.1 and 0 < self.wrong_promotion <= 0.1):
            raise Malformed("wrong_rollback and wrong_promotion are chances above 0 and up to 0.1")

    @property
    def shift_tolerated(self) -> int:
        """Buckets by which a canary's latency may be higher: what is tolerated, rounded up."""
        buckets = 0
        while RATIO**buckets < (1 + self.slower_tolerated) * _FROM:
            buckets += 1
        return buckets

    @property
    def shift_found(self) -> int:
        """Buckets by which it is to be found higher: rounded down."""
        buckets = 0
        while RATIO ** (buckets + 1) * _FROM <= 1 + self.slower_found:
            buckets += 1
        return buckets

    @property
    def factor_tolerated(self) -> float:
        """The factor of latency that is compared with."""
        return RATIO**self.shift_tolerated

    @property
    def factor_found(self) -> float:
        """The factor of latency that is compared with."""
        return RATIO**self.shift_found

    def to_json(self) -> dict[str, Any]:
        """By the names of the fields."""
        return {**asdict(self), "steps": list(self.steps)}

    @classmethod
    def from_json(cls, data: Any) -> Plan:
        """Reads `to_json()`; what is left out is as by default.

        Raises:
            Malformed: something unknown, of another type, or that makes no sense.
        """
        if not isinstance(data, dict):
            raise Malformed(f"the plan of a rollout is an object, not {data!r}")
        known = {field.name: field for field in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in data.items():
            if name not in known:
                raise Malformed(f"a rollout's plan has no {name}; it has {', '.join(known)}")
            values[name] = _read(name, value, type(known[name].default))
        return cls(**values)


_FROM = 1 - 1e-9
"""RATIO squared is 1.3 but for rounding."""


def _read(name: str, value: Any, kind: type) -> Any:
    if kind is tuple and isinstance(value, list) and all(type(each) is int for each in value):
        return tuple(value)
    if kind is int and type(value) is int:
        return value
    if kind is float and type(value) in (int, float):
        return float(value)
    raise Malformed(f"{name} of a rollout's plan is {value!r}, which is no {'list of numbers' if kind is tuple else kind.__name__}")
