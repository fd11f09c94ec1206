"""A new pod that cannot load models is not let into service."""

from __future__ import annotations

import pytest

from mesh.core.bootstrap import OLD_FAILURE, Bootstrap
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.records import ModelInfo, ModelRecord
from mesh.core.units import Millis

NOW = Millis(10_000_000_000)
END = Millis(NOW + 180_000)
TIMEOUT = Millis(30_000)
FRESH = ModelRecord(ModelInfo("test", "path", "key"))
NEW = PodId("new")


def held(pod: str = "old", *, since: int = 60_000) -> ModelRecord:
    return FRESH.with_(copies={PodId(pod): Millis(NOW - since)})


class Trial:
    """A pod's first minutes; every model is another one unless it is named."""

    def __init__(self) -> None:
        self.pod = Bootstrap(NEW, END, TIMEOUT)
        self._count = 0

    def failed(self, count: int, record: ModelRecord | None = FRESH, *, loading: int = 0, at: Millis = NOW) -> str:
        for _ in range(count):
            self.pod.load_failed(self._name(), record, loading, at)
        return self.pod.verdict

    def succeeded(self, count: int) -> None:
        for _ in range(count):
            self.pod.load_succeeded(self._name(), NOW)

    def _name(self) -> ModelId:
        self._count += 1
        return ModelId(f"m{self._count}")


@pytest.fixture
def trial() -> Trial:
    return Trial()


# Models that others hold


def test_three_models_that_another_pod_holds_condemn(trial: Trial) -> None:
    assert not trial.failed(2, held())
    assert trial.failed(1, held()) == "3 models that other pods hold failed to load here"


@pytest.mark.parametrize("record", [FRESH, held(since=29_999), held("new")], ids=["nobody", "just begun", "this pod itself"])
def test_others_count_only_if_they_have_held_it_for_the_load_timeout(trial: Trial, record: ModelRecord) -> None:
    assert not trial.failed(20, record)


# A share of all


def test_more_than_half_of_more_than_twenty_condemn(trial: Trial) -> None:
    trial.succeeded(10)
    assert not trial.failed(10)
    assert trial.failed(1) == "11 of the first 21 loads failed here"


def test_half_is_not_more_than_half(trial: Trial) -> None:
    trial.succeeded(11)
    assert not trial.failed(11)


def test_loads_that_go_on_count_as_loads(trial: Trial) -> None:
    assert not trial.failed(11, loading=11)
    assert trial.failed(1, loading=9) == "12 of the first 21 loads failed here"


# What does not count


def test_a_model_that_failed_long_ago_is_broken_anyway(trial: Trial) -> None:
    broken = held().with_(failed={PodId("old"): Millis(NOW - OLD_FAILURE)})
    assert not trial.failed(30, broken)
    assert trial.failed(3, held().with_(failed={PodId("old"): Millis(NOW - OLD_FAILURE + 1)}))


def test_a_model_that_is_gone_says_nothing(trial: Trial) -> None:
    assert not trial.failed(30, None)


def test_after_the_probation_nothing_counts(trial: Trial) -> None:
    assert not trial.failed(30, held(), at=END)
    trial.pod.load_succeeded(ModelId("late"), END)
    trial.succeeded(9)
    assert not trial.failed(11), "twenty loads; a late success would have made them twenty-one"


def test_one_model_counts_once_however_often_it_is_tried(trial: Trial) -> None:
    for _ in range(30):
        trial.pod.load_failed(ModelId("broken"), held(), 0, NOW)
    assert not trial.pod.verdict


def test_a_second_try_that_succeeds_makes_good_the_first(trial: Trial) -> None:
    trial.failed(2, held())
    trial.pod.load_succeeded(ModelId("m1"), NOW)
    assert not trial.failed(1, held())
    assert trial.failed(1, held())


def test_a_verdict_stands(trial: Trial) -> None:
    said = trial.failed(3, held())
    trial.succeeded(100)
    assert trial.failed(1, held()) == said
