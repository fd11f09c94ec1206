"""What brings an alias to its target: copies first, as many as the active model has, then the switch."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.registry.transitions import Blocked, Living, Load, Orders, Step, Switch, Wait, grounds, next_step
from mesh.core.units import Millis

INFO = ModelInfo("test")
OLD, NEW = ModelId("old"), ModelId("new")
MOVING = AliasRecord(OLD, NEW)
OURS = InstanceRecord(endpoint="127.0.0.1:1")
LIVING = Living(
    PodId("me"),
    {
        **{PodId(name): OURS for name in ("a", "b", "c")},
        PodId("java"): InstanceRecord(),
        PodId("leaving"): OURS.with_(shutting_down=True),
    },
)


def pods(names: Iterable[str]) -> dict[PodId, Millis]:
    return {PodId(name): Millis(1) for name in names}


def holders(*names: str) -> frozenset[PodId]:
    return frozenset(pods(names))


def model(copies: str = "", ready: str = "", failed: str = "") -> ModelRecord:
    return ModelRecord(INFO, copies=pods(f"{copies} {ready}".split()), ready=pods(ready.split()), failed=pods(failed.split()))


def step(old: ModelRecord | None, new: ModelRecord | None, orders: Orders = Orders()) -> Step:  # noqa: B008  # frozen
    models = {name: record for name, record in ((OLD, old), (NEW, new)) if record is not None}
    return next_step(MOVING, models, LIVING, orders)


NONE_LEFT = Orders(more=False)


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (model(ready="a"), model(), Load()),
        (model(ready="a"), model(copies="b"), Load()),
        (model(ready="a"), model(ready="b"), Switch()),
        (model(ready="me"), model(ready="me"), Switch()),
        (model(ready="a b"), model(ready="c"), Load(holders("c"))),
        (model(copies="a b"), model(ready="a c"), Switch()),
        (model(ready="a b"), model(ready="a", copies="b"), Wait()),
        (model(ready="a b c"), model(ready="a", copies="b"), Load(holders("a", "b"))),
        (model(), model(), Load()),
        (model(), model(ready="a"), Switch()),
        (None, model(), Switch()),
        (model(ready="a"), None, Wait()),
    ],
    ids=[
        "cold target",
        "target loads",
        "as many",
        "on one pod",
        "one is fewer than two",
        "copies that load count as wanted",
        "the second loads",
        "a third is wanted while the second loads",
        "evicted: the old one loads on demand",
        "evicted, the new one serves",
        "the old one is gone",
        "the new one is gone",
    ],
)
def test_as_many_copies_then_the_switch(old: ModelRecord | None, new: ModelRecord | None, wanted: Step) -> None:
    assert step(old, new) == wanted


@pytest.mark.parametrize("pod", ["gone", "java", "leaving"])
def test_a_copy_on_a_pod_that_serves_no_call_or_is_about_to_go_does_not_count(pod: str) -> None:
    assert step(model(ready=f"a {pod}"), model(ready="b")) == Switch()
    assert step(model(ready="a"), model(ready=pod)) == Load()


def test_one_copy_is_ordered_at_a_time_until_it_shows() -> None:
    assert step(model(ready="a"), model(), Orders((holders(),))) == Wait()
    one = Orders((holders("a"),))
    assert step(model(ready="a b c"), model(ready="a"), one) == Wait()
    assert step(model(ready="a b c"), model(ready="a", copies="b"), one) == Load(holders("a", "b"))
    assert step(model(ready="a b"), model(ready="a", copies="b"), one) == Wait()


def test_without_room_for_as_many_calls_go_to_what_there_is() -> None:
    assert step(model(ready="a b c"), model(ready="a"), NONE_LEFT) == Switch(2)
    assert step(model(ready="a b c"), model(ready="a", copies="b"), NONE_LEFT) == Wait()
    assert step(model(ready="a b c"), model(ready="a"), Orders((holders("a"),), more=False)) == Wait()


def test_a_target_of_which_no_copy_can_be_had_blocks() -> None:
    assert step(model(ready="a"), model(failed="b"), NONE_LEFT) == Blocked()
    assert step(model(), model(failed="b"), NONE_LEFT) == Blocked()


def test_where_neither_has_a_copy_nor_finds_room_calls_go_to_the_target_which_loads_on_demand() -> None:
    no_room = Orders(more=False, no_room=True)
    assert step(model(), model(), no_room) == Switch()
    assert step(model(ready="a"), model(), no_room) == Blocked()
    assert step(model(copies="gone"), model(), no_room) == Blocked()
    assert step(model(), model(failed="b"), no_room) == Blocked()
    assert step(model(), model(), NONE_LEFT) == Blocked()


def test_a_copy_that_served_counts_though_the_record_does_not_show_it() -> None:
    assert step(model(ready="a"), model(), Orders(proven=True)) == Switch()
    assert step(model(ready="a b"), model(), Orders(proven=True)) == Load()


def test_a_model_that_cannot_be_loaded_gives_way_unless_the_target_failed_too() -> None:
    assert step(model(failed="a"), model()) == Switch(1)
    assert step(model(failed="a", copies="gone"), model()) == Switch(1)
    assert step(model(failed="a", copies="b"), model()) == Load()
    assert step(model(failed="a"), model(failed="b"), NONE_LEFT) == Blocked()


def test_a_blocked_transition_is_tried_again_when_failures_pods_or_copies_change() -> None:
    def now(new: ModelRecord | None, living: Living = LIVING, old: ModelRecord | None = None) -> object:
        models = {OLD: old or model(ready="a"), **({NEW: new} if new else {})}
        return grounds(MOVING, models, living)

    blocked = now(model(failed="a b"))
    assert blocked == now(model(failed="a b").with_(last_used=Millis(7)))
    assert blocked != now(model(failed="a"))
    assert blocked == now(model(failed="a b", copies="c"))
    assert blocked != now(model(failed="a b", copies="c", ready="c"))
    assert blocked != now(None)
    assert blocked != now(model(failed="a b"), old=model(failed="c"))
    assert blocked != now(model(failed="a b"), Living(PodId("me"), {**LIVING.instances, PodId("d"): OURS}))
    assert blocked == now(model(failed="a b"), Living(PodId("me"), {**LIVING.instances, PodId("a"): OURS.with_(rpm=7)}))
