"""`mesh get models` of ten thousand: pages put together are the whole, filtered or not, and nothing is looked at twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh.cli.client import Control
from mesh.cli.get import PAGE, Choice, models
from mesh.core.explaining.status import ModelStatus
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis
from mesh.pod.census import Census
from mesh.pod.facts import SCAN, Facts
from mesh.pod.management import Management
from tests.support.records import PutModel
from tests.unit.pod.bench import INFO, Bench

NAMES = [f"model-{number:05}" for number in range(10_000)]
THERE = PodId("there")


class Asked(Control):
    """The views of a pod, asked without a socket between."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.pages: list[dict[str, Any]] = []

    def get(self, path: str, **params: Any) -> Any:
        assert path == "models"
        self.pages.append(self._facts.models(**params))
        return self.pages[-1]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Every thousandth has a copy on another pod, and every other of these is ready; one has a copy on a pod that is lost."""
    made = Bench()
    for number, name in enumerate(NAMES):
        record = ModelRecord(INFO)
        if number % 1000 == 0:
            record = record.with_(copies={THERE: Millis(5)}, ready={THERE: Millis(6)} if number % 2000 == 0 else {})
        if number == 3:
            record = record.with_(copies={PodId("lost"): Millis(5)})
        assert await made.registry.change(PutModel(ModelId(name), record)) is None
    await made.registry.publish(THERE, InstanceRecord(endpoint="127.0.0.1:1"))
    yield made
    await made.stop()


@pytest.fixture
def asked(bench: Bench) -> Asked:
    return Asked(Facts(bench.conductor, bench.registry, bench.management, Census(bench.registry)))


def ids(found: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in found]


async def test_all_are_there_once_in_order(asked: Asked) -> None:
    assert ids(models(asked, Choice())) == NAMES
    assert len(asked.pages) == len(NAMES) / PAGE


async def test_filters_of_pod_state_and_text_look_at_each_model_once_at_most(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    status = Management.status

    def noted(self: Management, model: str) -> ModelStatus:
        looked.append(model)
        return status(self, model)

    monkeypatch.setattr(Management, "status", noted)
    thousands = NAMES[::1000]
    assert ids(models(asked, Choice(pod="there"))) == looked == thousands
    assert len(asked.pages) == len(NAMES) / SCAN
    looked.clear()
    assert ids(models(asked, Choice(state="LOADED"))) == thousands[::2]
    assert looked == NAMES
    assert ids(models(asked, Choice(state="LOADING", pod="there", contains="-07"))) == ["model-07000"]
    assert models(asked, Choice(pod="lost")) == models(asked, Choice(pod="nobody")) == []


async def test_copies_are_named_with_their_pod_and_state(bench: Bench, asked: Asked) -> None:
    found = {one["id"]: one["copies"] for one in models(asked, Choice(contains="000"))}
    assert [(copy["pod"], copy["state"]) for copy in found["model-01000"]] == [("there", "loading")]
    assert [(copy["pod"], copy["state"]) for copy in found["model-02000"]] == [("there", "ready")]
    await bench.serving("model-02000")
    (mine,) = models(asked, Choice(pod="here"))
    assert [(copy["pod"], copy["state"]) for copy in mine["copies"]] == [("here", "ready"), ("there", "ready")]


async def test_a_limit_ends_the_asking(asked: Asked) -> None:
    assert ids(models(asked, Choice(limit=PAGE + 1))) == NAMES[: PAGE + 1]
    assert [len(page["models"]) for page in asked.pages] == [PAGE, 1]


async def test_a_pods_own_copies_are_told_within_bounds(bench: Bench) -> None:
    facts = Facts(bench.conductor, bench.registry, bench.management, Census(bench.registry))
    for name in ("model-00010", "model-00020", "model-00030"):
        await bench.serving(name)

    def told(after: str = "", until: str = "") -> list[str]:
        return sorted(copy["model"] for copy in facts.copies(after, until)["copies"])

    assert told() == ["model-00010", "model-00020", "model-00030"]
    assert told("model-00010", "model-00020") == ["model-00020"]
