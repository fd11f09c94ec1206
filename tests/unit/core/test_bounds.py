"""Bounds on copies follow aliases to the models that they point at, and travel as JSON."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import NO_BOUNDS, AliasRecord, Bounds, alias_from_json, alias_to_json
from mesh.core.scaling.bounds import BoundsOfModels, bounds_from_json, bounds_to_json, merged, told

A, B = AliasId("a"), AliasId("b")
M1, M2, M3 = ModelId("m1"), ModelId("m2"), ModelId("m3")

ONE = Bounds(1)

counts = st.integers(0, 5)
some_bounds = st.builds(
    lambda least, more, pinned, preload: Bounds(least, more and least + more, pinned, preload), counts, counts, st.booleans(), st.booleans()
)


def pointing(model: ModelId, bounds: Bounds = ONE, target: ModelId | None = None) -> AliasRecord:
    return AliasRecord(model, target or model, bounds=bounds)


def test_a_model_has_the_bounds_of_the_alias_that_points_at_it() -> None:
    models = BoundsOfModels()
    assert models.alias_changed(A, pointing(M1, Bounds(2, 3))) == {M1}
    assert (models.of(M1), models.of(M2)) == (Bounds(2, 3), NO_BOUNDS)
    assert models.alias_changed(A, pointing(M2, Bounds(2, 3))) == {M1, M2}
    assert (models.of(M1), models.of(M2)) == (NO_BOUNDS, Bounds(2, 3))
    assert models.alias_changed(A, None) == {M2}
    assert models.bounded == {}


def test_while_an_alias_moves_both_models_are_bounded_and_only_the_active_one_is_kept() -> None:
    models = BoundsOfModels()
    models.alias_changed(A, pointing(M1, Bounds(2), M2))
    assert (models.of(M1), models.of(M2)) == (Bounds(2), Bounds(2))
    assert (models.kept(M1), models.kept(M2)) == (Bounds(2), NO_BOUNDS)


def test_a_model_of_two_aliases_keeps_what_either_asks_for() -> None:
    models = BoundsOfModels()
    models.alias_changed(A, pointing(M1, Bounds(1, 2, pinned=True)))
    models.alias_changed(B, pointing(M1, Bounds(3, 4)))
    assert models.of(M1) == Bounds(3, 4, pinned=True)
    models.alias_changed(B, pointing(M1, NO_BOUNDS))
    assert models.of(M1) == Bounds(1, 2, pinned=True), "an alias without bounds asks for nothing"
    assert models.alias_changed(B, pointing(M3, NO_BOUNDS)) == frozenset()


@given(some_bounds, some_bounds)
def test_merging_takes_no_side(left: Bounds, right: Bounds) -> None:
    both = merged(left, right)
    assert both == merged(right, left)
    assert both.least == max(left.least, right.least)
    assert both.most == 0 or both.most >= both.least


@given(some_bounds)
def test_bounds_come_back_from_json_and_from_the_record(bounds: Bounds) -> None:
    assert bounds_from_json(bounds_to_json(bounds)) == bounds
    record = pointing(M1, bounds)
    assert alias_from_json(alias_to_json(record)) == record


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([1], "are an object with minCopies, maxCopies, pinned, preload, not [1]"),
        ({"min": 1}, "have no min; they have minCopies"),
        ({"minCopies": "1"}, "minCopies has to be a whole number, not '1'"),
        ({"minCopies": True}, "minCopies has to be a whole number, not True"),
        ({"pinned": 1}, "pinned has to be true or false, not 1"),
        ({"minCopies": -1}, "the minimum of -1 copies has to be from 0 to"),
        ({"minCopies": 3, "maxCopies": 2}, "the minimum of 3 copies is greater than the maximum of 2"),
    ],
)
def test_bounds_that_cannot_be_are_refused(data: Any, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        bounds_from_json(data)
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (NO_BOUNDS, ""),
        (Bounds(1, 4), "min 1, max 4"),
        (Bounds(2), "min 2"),
        (Bounds(0, 3), "max 3"),
        (Bounds(1, 0, True, True), "min 1, pinned, preload"),
    ],
)
def test_bounds_are_told_in_a_few_words(bounds: Bounds, words: str) -> None:
    assert told(bounds) == words
