"""The word for how a model is: what is resident, what will load, what fails until when, and what never will."""

from __future__ import annotations

import pytest

from mesh.core.explaining.status import CopyStatus, ModelState, ModelStatus, Standing, Word, standing
from mesh.core.ids import PodId
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.failed_loads import FailedLoads
from mesh.core.units import Millis
from tests.unit.core.stage import INFO

A, B = PodId("a"), PodId("b")
NOW, WINDOW = Millis(100_000), Millis(60_000)


def stands(
    state: ModelState, *, errors: tuple[str, ...] = (), copies: tuple[CopyStatus, ...] = (), until: int = 0, **failed: int
) -> Standing:
    record = ModelRecord(INFO, failed={PodId(pod): Millis(at) for pod, at in failed.items()})
    return standing(ModelStatus(state, errors, copies), FailedLoads.of(record, (), NOW, WINDOW, Millis(until)))


def said(found: Standing) -> str:
    return found.text(lambda at: f"<{at}>")


def test_a_model_with_a_copy_is_resident_since_its_oldest() -> None:
    copies = (
        CopyStatus(A, ModelState.LOADED, Millis(9)),
        CopyStatus(B, ModelState.LOADED, Millis(5)),
        CopyStatus(A, ModelState.LOADING, Millis(1)),
    )
    found = stands(ModelState.LOADED, copies=copies)
    assert (found.word, found.since, said(found)) == (Word.RESIDENT, 5, "resident")


def test_one_that_loads_says_since_when() -> None:
    found = stands(ModelState.LOADING, copies=(CopyStatus(A, ModelState.LOADING, Millis(7)),))
    assert said(found) == "loading since <7>"


def test_one_without_a_copy_will_load_and_is_no_failure() -> None:
    assert said(stands(ModelState.NOT_LOADED)) == "not resident, will load on demand"


def test_one_that_failed_says_when_it_is_tried_again_and_why_it_failed() -> None:
    assert said(stands(ModelState.LOADING_FAILED, errors=("", "no such file"), a=50_000, b=51_000)) == (
        "failing, retry with the next call: no such file"
    ), "two pods failed; others may do better"
    found = stands(ModelState.LOADING_FAILED, errors=("no such file",), a=50_000, b=51_000, c=52_000)
    assert said(found) == "failing, retry at <110000>: no such file", "the oldest failure counts no more then"
    assert said(stands(ModelState.LOADING_FAILED, until=120_000)) == "failing, retry at <120000>: a load failed"


def test_where_the_time_of_the_next_try_is_not_known_none_is_told() -> None:
    assert said(Standing(Word.FAILING, why="no such file")) == "failing: no such file"


def test_one_that_no_pod_can_hold_fails_for_good() -> None:
    assert said(stands(ModelState.LOADING_FAILED, errors=("no pod has the labels",))) == "failing for good: no pod has the labels"
    assert said(stands(ModelState.LOADING_FAILED)) == "failing for good: it cannot be loaded"


@pytest.mark.parametrize("state", [ModelState.NOT_FOUND, ModelState.UNKNOWN])
def test_of_others_nothing_is_known(state: ModelState) -> None:
    assert said(stands(state)) == "unknown"
