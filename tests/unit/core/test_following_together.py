"""All holders of one model decide for themselves, each at ticks of its own: together they give it what it needs, soon, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.ids import ModelId
from mesh.core.scaling.scale_up import SHARE, ScaleUp
from mesh.core.units import Millis

INTERVAL = 10_000
LOADING = 1_500
"""ms of a load; copies that load show at once."""
THRESHOLD = 1_000
AT_REST = ScaleUp(ModelId("m"), Millis(0), Millis(INTERVAL), 0, THRESHOLD, 0, 0, Millis(0), (), 0, 0, (), 0, 0)


@dataclass
class Hot:
    """A model that gets `total` calls a minute from the time 0 on, first held by pod 0 since long ago.

    Attributes:
        phases: of each pod's ticks.
        since: pod -> when its copy serves, in the future for one that loads.
    """

    total: int
    phases: list[int]
    since: dict[int, int] = field(default_factory=lambda: {0: -1_000_000})

    def calls(self, pod: int, start: int, end: int) -> float:
        """Calls that came to a pod's copy in between; those that serve take equal parts."""
        start = max(0, start, self.since[pod])
        edges = sorted({start, end, *(at for at in self.since.values() if start < at < end)})
        return sum(
            self.total * (until - begin) / 60_000 / sum(at <= begin for at in self.since.values()) for begin, until in pairwise(edges)
        )

    def tick(self, pod: int, now: int) -> None:
        """What that pod decides, carried out at once."""
        others = [at for other, at in self.since.items() if other != pod]
        ready = tuple(Millis(at) for at in others if at <= now)
        free = [other for other in range(len(self.phases)) if other not in self.since]
        rpm = int(self.calls(pod, now - INTERVAL, now) * 60_000 / INTERVAL)
        decided = replace(
            AT_REST,
            now=Millis(now),
            rpm=rpm,
            began=Millis(self.since[pod]),
            ready=ready,
            coming=len(others) - len(ready),
            places=len(free),
            subset=len(self.phases),
        )
        for other in free[: decided.verdict().copies]:
            self.since[other] = now + LOADING

    def live(self, first: int, last: int) -> None:
        """Ticks of pod 0 by their numbers, and those of the others meanwhile."""
        due = sorted((phase + number * INTERVAL, pod) for pod, phase in enumerate(self.phases) for number in range(last + 1))
        begin, end = self.phases[0] + (first - 2) * INTERVAL, self.phases[0] + (last - 1) * INTERVAL
        for now, pod in due:
            if begin < now <= end and self.since.get(pod, now) < now:
                self.tick(pod, now)


phases = st.lists(st.integers(1, INTERVAL), min_size=3, max_size=24)
totals = st.builds(lambda copies, rest: copies * THRESHOLD + rest, st.integers(0, 12), st.integers(50, THRESHOLD - 50))
"""Not at the edge of one copy more: rates are whole numbers."""


@given(totals, phases)
def test_a_model_that_becomes_hot_has_what_it_needs_after_three_ticks_and_never_more(total: int, phases: list[int]) -> None:
    hot = Hot(total, phases)
    needed = min(total // THRESHOLD + 1, len(phases))
    hot.live(1, 3)
    assert min(needed, 1 + max(2, len(phases) // SHARE)) <= len(hot.since) <= needed
    hot.live(4, 30)
    assert len(hot.since) == needed
    before = dict(hot.since)
    hot.live(31, 60)
    assert hot.since == before, "under a load that stays nothing changes any more"
