"""A model that failed on several pods is not tried on further ones, whoever asks, until the failures are old."""

from __future__ import annotations

from mesh.core.errors import LoadFailed
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.edits import AddCopy
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.tries import latest_failure, out_of_tries
from mesh.core.units import Millis
from tests.unit.core.records import Tables
from tests.unit.core.stage import HERE, INFO

A, B, C = PodId("a"), PodId("b"), PodId("c")


def failed(*pods: PodId, since: int = 10) -> ModelRecord:
    return ModelRecord(
        INFO, failed={pod: Millis(since + n) for n, pod in enumerate(pods)}, failures={pod: f"broken on {pod}" for pod in pods}
    )


def test_two_failures_leave_one_more_try_and_three_none() -> None:
    assert out_of_tries(failed(A, B), Millis(0)) is None
    stop = out_of_tries(failed(A, B, C), Millis(0))
    assert isinstance(stop, LoadFailed)
    assert stop.message == "broken on c"


def test_old_failures_do_not_count() -> None:
    assert out_of_tries(failed(A, B, C), Millis(9)) is not None
    assert out_of_tries(failed(A, B, C), Millis(10)) is None


def test_what_is_known_counts_before_the_record_shows_it_and_once() -> None:
    assert out_of_tries(failed(A, B), Millis(0), {B}) is None
    assert out_of_tries(failed(A, B), Millis(0), {B, C}) is not None
    stop = out_of_tries(failed(), Millis(0), {A, B, C})
    assert stop is not None
    assert stop.message == "the load failed on pods a, b, c"


def test_a_failure_without_words_is_told_all_the_same() -> None:
    assert latest_failure(failed()) is None
    told = latest_failure(ModelRecord(INFO, failed={A: Millis(1)}))
    assert told is not None
    assert told.message == "the load failed on pod a"


def test_the_registry_refuses_one_more_copy_to_a_pod_that_did_not_see_the_third_failure() -> None:
    tables = Tables()
    tables.models[ModelId("m")] = failed(A, B, C)
    wish = AddCopy(ModelId("m"), HERE, Millis(20), Millis(20), frozenset(), Millis(0))
    refusal = tables.apply(wish)
    assert isinstance(refusal, LoadFailed)
    assert refusal.message == "broken on c"
    tables.models[ModelId("m")] = failed(A, B)
    assert tables.apply(wish) is None
