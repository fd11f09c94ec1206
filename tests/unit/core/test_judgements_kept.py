"""A judged rollout in a record of the registry, and its judgements among the decisions of a pod."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.explaining.replay import evidence_from_json
from mesh.core.traffic.betting import Wealth
from mesh.core.traffic.judgement import Judgement
from mesh.core.traffic.judging import judge
from mesh.core.traffic.plan import Plan
from mesh.core.traffic.standing import Ending, Standing, What
from mesh.core.traffic.ticks import BUCKETS, Counts, Memory
from mesh.core.units import Millis
from tests.unit.core.versions import BEGIN, KNOWN, PLAN, did, tick

# The record


pasts = st.builds(
    lambda failed, first, times, more: Memory(sum(times) + more, failed, first if times else 0, tuple(times)),
    st.integers(0, 9_999),
    st.integers(0, 60),
    st.lists(st.integers(1, 99), max_size=60),
    st.integers(0, 99),
)
wealths = st.tuples(*[st.builds(Wealth, st.tuples(*[st.floats(0, 1e300)] * 4), st.integers(0, 10**9))] * 3)
standings = st.builds(
    Standing,
    *[st.integers(0, 10**13).map(Millis)] * 2,
    *[st.integers(0, 3)],
    *[st.integers(0, 10**9)] * 4,
    *[pasts] * 2,
    *[wealths] * 2,
    st.sampled_from(Ending),
    st.text(max_size=20),
)


@given(standings)
def test_a_standing_is_read_as_it_was_written(standing: Standing) -> None:
    assert Standing.from_json(json.loads(json.dumps(standing.to_json()))) == standing


def test_another_pod_takes_over_anywhere() -> None:
    ours = theirs = KNOWN
    for number in range(2, 40):
        both = tick(number, did(300, number % 4), did(100, number % 2))
        ours, said = judge(PLAN, ours, both)
        theirs, told = judge(Plan.from_json(PLAN.to_json()), Standing.from_json(json.loads(json.dumps(theirs.to_json()))), both)
        assert (theirs, told) == (ours, said)


def test_a_standing_stays_below_two_kilobytes() -> None:
    """With calls in all buckets, numbers as long as they get, and the longest cause."""
    wide = Counts(10**9 * BUCKETS, 10**9, (10**9,) * BUCKETS)
    standing = KNOWN
    for number in range(2, 9):
        standing, _ = judge(replace(PLAN, limit_calls=10**15), standing, tick(10**8 + number, wide, wide))
    standing, _ = judge(PLAN, standing, tick(10**9, wide, wide, crashed="long " * 1_000))
    parts = [1.2345678901234567e-300] * 4
    rows = tuple(Wealth(tuple(parts), 10**12) for _ in What)
    written = json.dumps(replace(standing, harm=rows, safe=rows).to_json(), separators=(",", ":"))
    assert len(written) < 2_048


@pytest.mark.parametrize(
    "wrong",
    [None, [], {"step": "x"}, {"ending": "soon"}, {"harm": []}, {"safe": [[1, 2]]}, {"harm": [[0, -1, 0, 0, 0]] * 3}, {"stable": [1]}],
)
def test_what_is_no_standing_is_refused(wrong: object) -> None:
    with pytest.raises(Malformed):
        Standing.from_json({**BEGIN.to_json(), **wrong} if isinstance(wrong, dict) else wrong)


def test_what_a_standing_lacks_is_named() -> None:
    data = BEGIN.to_json()
    del data["looked"]
    with pytest.raises(Malformed, match="looked"):
        Standing.from_json(data)


# Made again


@pytest.mark.parametrize(
    ("canary", "sign", "outcome", "changes"),
    [
        (did(20), "", "go on", "evidence that it is not worse by 5 points in failures"),
        (did(90, 80), "", "roll back", "evidence of less than 300 to 1, or more that is tolerated"),
        (did(9), "no such file", "roll back", "that it had not been so: it cannot be loaded: no such file"),
        (did(2_000, 20), "", "promote", "evidence of less than 100 to 1 for any of these, or a longer hold"),
    ],
)
def test_a_judgement_can_be_made_again_from_what_is_recorded(canary: Counts, sign: str, outcome: str, changes: str) -> None:
    plan = replace(PLAN, hold_ms=0)
    made = Judgement(plan, KNOWN, tick(2, did(4_000, 40), canary, unloadable=sign))
    read = evidence_from_json(json.loads(json.dumps(made.inputs())))
    assert read == made
    assert made.again() == outcome
    assert any(change.startswith(changes) for change in made.would_change())
    assert made.reason() == judge(plan, KNOWN, made.tick)[1].words
    first, second = made.candidates()
    assert {first.name, second.name} == {"canary", "stable"}
    assert first.chosen == (outcome != "go on")
    assert not second.chosen
    assert first.score["calls"] in (canary.calls, 4_000)


def test_inputs_that_make_no_sense_are_refused() -> None:
    inputs = Judgement(PLAN, KNOWN, tick(2, did(4))).inputs()
    for name in ("plan", "standing", "tick"):
        with pytest.raises(Malformed, match=name):
            evidence_from_json({key: value for key, value in inputs.items() if key != name})
