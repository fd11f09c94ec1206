"""A pod that did not answer is asked again: soon at first, then less and less often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.routing.probing import JITTER, LONGEST, probe_after


@pytest.mark.parametrize(("broke", "first"), [(True, 40), (False, 3000)])
def test_waits_grow_by_half_from_two_seconds_to_thirty(broke: bool, first: int) -> None:
    waits = [probe_after(failed, broke=broke, draw=0.0) for failed in range(10)]
    assert waits == [first, 2000, 3000, 4500, 6750, 10125, 15188, 22781, 30000, 30000]


@given(st.integers(0, 10_000), st.booleans(), st.floats(0, 1))
def test_a_draw_adds_at_most_a_tenth_and_never_takes_away(failed: int, broke: bool, draw: float) -> None:
    plain = probe_after(failed, broke=broke, draw=0.0)
    assert plain <= probe_after(failed, broke=broke, draw=draw) <= round(plain * (1 + JITTER))
    assert plain <= LONGEST


def test_pods_with_different_draws_ask_at_different_moments() -> None:
    assert len({probe_after(5, broke=True, draw=draw / 10) for draw in range(11)}) == 11
