"""Copies go when they are not needed: not sooner, never the last, never below what users want, and one at a time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed, NotHere
from mesh.core.explaining.recorded import from_json, to_json
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.records import ModelRecord
from mesh.core.scaling.rates import ScalingRules
from mesh.core.scaling.scale_down import GiveBackCopy, ScaleDown, ages
from mesh.core.scaling.scale_up import ScaleUp
from mesh.core.units import Millis
from tests.unit.core.records import Tables
from tests.unit.core.stage import INFO

NOW = Millis(1_700_000_000_000)
MINUTES = 60_000
HOURS = 60 * MINUTES
OF_FOUR = ScaleDown(
    *(ModelId("m"), NOW, Millis(NOW - 5_000), Millis(0), 100, 1_000, 0),
    *(3, 4, Millis(NOW - HOURS), Millis(0), 0, 0),
    *(False, 50, Millis(2 * HOURS)),
    *ages(ScalingRules()),
)
OF_TWO = replace(OF_FOUR, others=1, copies=2, rpm=0, last_used=Millis(NOW - 2 * HOURS), last_place=True)


def case(inputs: ScaleDown) -> tuple[int, str]:
    verdict = inputs.verdict()
    assert from_json(ScaleDown, inputs.inputs()) == inputs
    assert (inputs.again(), inputs.candidates()[0].name) == (str(verdict.copies), str(verdict.copies))
    assert inputs.would_change()
    return verdict.copies, verdict.case


def test_a_copy_added_for_load_goes_when_the_load_is_gone_whether_or_not_there_is_room() -> None:
    assert case(OF_FOUR) == (1, "fewer")
    assert case(replace(OF_FOUR, free_percent=1)) == (1, "fewer")
    assert OF_FOUR.keep == 2


def test_the_last_copy_and_those_of_a_minimum_stay() -> None:
    assert case(replace(OF_TWO, others=0, copies=1)) == (0, "")
    assert case(replace(OF_FOUR, least=4)) == (0, "minimum")
    assert case(replace(OF_FOUR, least=3)) == (1, "fewer")
    assert replace(OF_FOUR, least=3).keep == 3


def test_copies_beyond_the_maximum_go_though_they_are_used() -> None:
    busy = replace(OF_FOUR, rpm=900, waiting=9, newest=NOW)
    assert case(replace(busy, most=3)) == (1, "surplus")
    assert replace(busy, most=3).keep == 3
    assert case(replace(busy, most=4)) == (0, "needed")
    assert case(replace(busy, others=2, most=3)) == (0, "needed"), "three are to remain that serve; one still loads"
    assert replace(OF_TWO, most=1).keep == 1


def test_a_copy_stays_whose_calls_would_bring_the_others_near_the_threshold() -> None:
    assert case(replace(OF_FOUR, rpm=562)) == (1, "fewer")
    assert case(replace(OF_FOUR, rpm=563)) == (0, "needed"), "four times 563 on three copies is more than three quarters of the threshold"
    assert case(replace(OF_FOUR, others=99, copies=100, rpm=667)) == (0, "needed")
    assert case(replace(OF_FOUR, rpm=99_999, threshold=0)) == (1, "fewer"), "calls that take no time"


def test_a_copy_stays_on_which_calls_wait() -> None:
    assert case(replace(OF_FOUR, waiting=2)) == (0, "needed")
    assert case(replace(OF_FOUR, waiting=1)) == (1, "fewer")


def test_nothing_goes_soon_after_a_change() -> None:
    assert case(replace(OF_FOUR, last_unload=Millis(NOW - 79_000))) == (0, "went")
    assert case(replace(OF_FOUR, newest=Millis(NOW - 29 * MINUTES))) == (0, "young")


def test_a_copy_in_heavy_use_lately_stays_for_a_part_of_the_age_of_the_caches() -> None:
    assert case(replace(OF_FOUR, heavy_at=Millis(NOW - 9 * MINUTES))) == (0, "heavy")
    assert case(replace(OF_FOUR, heavy_at=Millis(NOW - 11 * MINUTES))) == (1, "fewer")
    old = replace(OF_FOUR, cache_age=Millis(20 * HOURS))
    assert case(replace(old, heavy_at=Millis(NOW - 35 * MINUTES))) == (0, "heavy"), "three percent of twenty hours"
    older = replace(OF_FOUR, cache_age=Millis(2_000 * HOURS))
    assert case(replace(older, heavy_at=Millis(NOW - 6 * HOURS))) == (1, "fewer"), "five hours at most"


def test_the_second_copy_goes_when_it_is_unused_for_long() -> None:
    assert case(OF_TWO) == (1, "fewer")
    assert case(replace(OF_TWO, last_used=Millis(NOW - 39 * MINUTES))) == (0, "used")
    tight = replace(OF_TWO, last_used=Millis(NOW - 13 * MINUTES), free_percent=5)
    assert case(tight) == (1, "fewer"), "a tenth of the age of the caches where room is short"
    assert case(replace(tight, free_percent=6)) == (0, "used")


def test_a_second_copy_goes_after_ten_hours_unless_it_was_in_heavy_use_lately() -> None:
    old = replace(OF_TWO, cache_age=Millis(200 * HOURS), last_used=Millis(NOW - 11 * HOURS))
    assert case(old) == (1, "fewer")
    assert case(replace(old, heavy_at=Millis(NOW - 12 * HOURS))) == (0, "used")
    assert case(replace(old, heavy_at=Millis(NOW - 41 * HOURS))) == (1, "fewer")


def test_of_two_the_one_on_the_pod_that_is_chosen_last_goes() -> None:
    assert case(replace(OF_TWO, last_place=False)) == (0, "other")


# Up and down together


@given(st.integers(0, 30_000), st.integers(1, 20), st.integers(0, 4), st.integers(0, 6), st.lists(st.integers(94, 106), max_size=30))
def test_a_model_under_constant_load_does_not_swing(total: int, threshold: int, least: int, most: int, noise: list[int]) -> None:
    """Ages aside: no copy is given back that the next tick would add again, whatever a few percent of noise do."""
    threshold *= 100
    most = most and max(most, least)
    copies, changes = 1, list[int]()
    for percent in [100] * 12 + noise:
        rpm = total * percent // 100 // copies
        ready = (Millis(NOW - HOURS),) * (copies - 1)
        up = ScaleUp(ModelId("m"), NOW, Millis(10_000), rpm, threshold, 0, 0, Millis(NOW - HOURS), ready, 0, 300, (), 300, most)
        down = replace(OF_FOUR, rpm=rpm, threshold=threshold, others=copies - 1, copies=copies, least=least, most=most)
        change = up.verdict().copies or -down.verdict().copies
        copies += change
        changes.append(change)
    assert sum(earlier * later < 0 for earlier, later in pairwise(changes)) == 0
    assert all(change >= 0 for change in changes), "what came for a load stays as long as the load does"
    assert not most or copies <= max(1, most)


# The record


def record(*pods: str, loading: tuple[str, ...] = ()) -> ModelRecord:
    copies = {PodId(pod): Millis(number) for number, pod in enumerate((*pods, *loading))}
    return ModelRecord(INFO, copies=copies, ready={PodId(pod): Millis(9) for pod in pods})


def give_back(pod: str, seen: str, keep: int = 1, wanted: int = 0) -> GiveBackCopy:
    pods = frozenset(map(PodId, seen))
    return GiveBackCopy(ModelId("m"), PodId(pod), Millis(wanted), NOW, NOW, pods, pods - {PodId(pod)}, keep)


def test_of_two_pods_that_give_back_at_the_same_time_one_does() -> None:
    tables = Tables()
    tables.models["m"] = record("a", "b")
    assert tables.apply(give_back("a", "ab")) is None
    refusal = tables.apply(give_back("b", "ab", wanted=1))
    assert isinstance(refusal, NotHere)
    assert tables.models["m"].copies == {"b": 1}
    assert tables.models["m"].last_unload == 0


def test_the_time_is_noted_if_several_remain() -> None:
    tables = Tables()
    tables.models["m"] = record("a", "b", "c", "d")
    assert tables.apply(give_back("a", "abcd", keep=2)) is None
    assert (tables.models["m"].last_unload, tables.models["m"].last_used) == (NOW, NOW)
    assert set(tables.models["m"].ready) == {"b", "c", "d"}


def test_copies_that_do_not_serve_do_not_make_up_for_one_that_does() -> None:
    tables = Tables()
    tables.models["m"] = record("a", loading=("b",))
    assert isinstance(tables.apply(give_back("a", "ab")), NotHere)
    tables.models["m"] = record("a", "b")
    gone = replace(give_back("a", "ab"), living=frozenset())
    assert isinstance(tables.apply(gone), NotHere)


def test_a_record_that_does_not_show_the_copy_is_left_alone() -> None:
    tables = Tables()
    assert isinstance(tables.apply(give_back("a", "ab")), NotHere)
    tables.models["m"] = record("a", "b")
    assert isinstance(tables.apply(give_back("a", "ab", wanted=77)), NotHere)


@pytest.mark.parametrize("data", [None, {}, {**to_json("x", OF_TWO), "rpm": "many"}, {**to_json("x", OF_TWO), "rpm": True}])
def test_inputs_that_were_not_recorded_are_named(data: object) -> None:
    with pytest.raises(Malformed, match="inputs"):
        from_json(ScaleDown, data)
