"""The repository index: aliases, and models without one, by name, in pages, with what a call would meet."""

from __future__ import annotations

import random

import pytest

from mesh.core.errors import Unknown
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import SetAlias
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis
from tests.support.records import PutModel
from tests.unit.pod.bench import INFO, Bench

NAMES = [f"model-{number:02}" for number in range(25)]


@pytest.fixture
async def full(bench: Bench) -> Bench:
    await bench.known(*random.Random(1).sample(NAMES, len(NAMES)))
    return bench


def names(bench: Bench, **asked: object) -> list[str]:
    return [listed.name for listed in bench.management.index(**asked)]  # type: ignore[arg-type]  # passed on as they come


async def point(bench: Bench, alias: str, model: str) -> None:
    await bench.management.set_alias(SetAlias(AliasId(alias), ModelId(model), Millis(1), info=INFO))


async def test_names_come_in_order(full: Bench) -> None:
    assert names(full) == NAMES


@pytest.mark.parametrize("size", [1, 7, 24, 25, 26, 1000])
async def test_pages_put_together_are_the_whole(full: Bench, size: int) -> None:
    found: list[str] = []
    while page := names(full, after=found[-1] if found else "", limit=size):
        assert len(page) <= size
        found += page
    assert found == NAMES


async def test_a_page_may_begin_after_a_name_that_is_gone(full: Bench) -> None:
    await full.management.unregister("model-03")
    assert names(full, after="model-03", limit=2) == ["model-04", "model-05"]
    assert names(full, after="model-99") == []


async def test_a_model_that_is_first_seen_with_a_copy_shows_at_once(full: Bench) -> None:
    assert "new" not in names(full)
    await full.registry.change(PutModel(ModelId("new"), ModelRecord(INFO, copies={PodId("other"): Millis(1)})))
    assert "new" in names(full)


async def test_an_alias_stands_for_its_model(full: Bench) -> None:
    await point(full, "a-service", "model-07")
    assert names(full) == ["a-service", *(name for name in NAMES if name != "model-07")]
    await full.management.delete_alias("a-service")
    assert names(full) == NAMES


async def test_what_comes_and_goes_shows_at_once(full: Bench) -> None:
    assert "new" not in names(full)
    await full.known("new")
    assert names(full)[-1] == "new"
    await full.management.unregister("new")
    assert names(full) == NAMES


async def test_each_line_tells_what_a_call_would_meet(bench: Bench) -> None:
    await bench.known("broken", "cold", "coming", "warm")
    copy = await bench.serving("warm")
    failing, coming = bench.call("broken"), bench.call("coming")
    await bench.loading("broken")
    bench.failed("broken", "no such file")
    with pytest.raises(Exception, match="no such file"):
        await failing
    await bench.loading("coming")
    assert [tuple(listed) for listed in bench.management.index()] == [
        ("broken", "", "UNAVAILABLE", "no such file"),
        ("cold", "", "READY", "not resident, will load on demand"),
        ("coming", "", "LOADING", "loading"),
        ("warm", "", "READY", ""),
    ]
    assert [bench.management.model_ready(name) for name in ("broken", "cold", "coming", "warm")] == [False, True, False, True]
    assert names(bench, ready=True) == ["cold", "warm"]
    assert names(bench, ready=True, limit=1, after="cold") == ["warm"]
    coming.cancel()
    bench.conductor.leave(copy)


async def test_asking_loads_nothing(full: Bench) -> None:
    full.management.index()
    full.management.model_ready("model-01")
    assert full.ordered == []


async def test_an_unknown_name_is_an_error(full: Bench) -> None:
    with pytest.raises(Unknown):
        full.management.model_ready("nobody")
