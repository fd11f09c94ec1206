"""Simulated rollouts end as the documents promise: three hundred of each kind that everybody asks about, fewer of those at the edges.

`python -m tests.simulation.rollouts --rollouts 10000` plays more; its figures stand in docs/rollouts.md.
"""

from __future__ import annotations

from collections import Counter

import pytest

from mesh.core.traffic.plan import Plan
from tests.simulation.rollouts import KINDS, OTHERS, Kind, play, row, wilson

RIGHT = {"rolled back": "promoted", "promoted": "rolled back"}


def endings(kind: Kind, rollouts: int, plan: Plan | None = None) -> Counter[str]:
    return Counter(play(kind, f"test of {kind.name} {number}", plan).ending for number in range(rollouts))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_verdicts_are_right(kind: Kind) -> None:
    ended = endings(kind, 300)
    assert ended[kind.bound] <= 3
    assert ended[RIGHT[kind.bound]] >= 297


@pytest.mark.parametrize("kind", OTHERS, ids=lambda kind: kind.name)
def test_verdicts_at_the_edges_are_right(kind: Kind) -> None:
    """Where callers stay with a version a rollout takes as many times the calls."""
    rollouts = 30 // kind.alike
    ended = endings(kind, rollouts)
    assert ended[kind.bound] == 0
    assert ended[RIGHT[kind.bound]] >= rollouts - 2


def test_without_calls_enough_a_rollout_is_held() -> None:
    plan = Plan(hold_ms=0, hold_calls=0, limit_ms=60_000)
    assert endings(KINDS[0], 20, plan)["promoted"] == 0
    assert endings(KINDS[0], 20, plan)["held"] == 20


def test_a_line_of_the_table_tells_the_share_that_is_wrong() -> None:
    ends = [play(KINDS[3], f"{number}") for number in range(3)]
    assert row(KINDS[3], ends).startswith("| cannot be loaded | 3 | 0 | 3 | 0 | ")
    assert "| promoted: 0.00% (0.00% to 56.15%) | 1 % |" in row(KINDS[3], ends)
    low, high = wilson(50, 100)
    assert (round(low, 3), round(high, 3)) == (0.404, 0.596)
