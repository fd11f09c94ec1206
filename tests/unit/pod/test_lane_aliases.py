"""The express lane's aliases: few are told, and what the lane makes of a name is never anything but what Python makes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import AliasRecord
from mesh.core.routing.express import target_of
from mesh.pod.lane_aliases import Aliases, Told

A, B, C = map(ModelId, "abc")
NAMES = [*"abc", "x", "y"]


def record(target: str, active: str = "") -> AliasRecord:
    """In transition if it leads elsewhere than it is to."""
    return AliasRecord(ModelId(target), ModelId(active or target), "")


class Pod:
    """Records, what is resident, and the lane's table as it was told."""

    def __init__(self) -> None:
        self.records: dict[AliasId, AliasRecord] = {}
        self.resident: set[ModelId] = set()
        self.table: dict[AliasId, ModelId | None] = {}
        registry: Any = SimpleNamespace(aliases=self.records)
        self.aliases = Aliases(registry, self.resident, self.told)

    def told(self, told: Told) -> None:
        self.table.update(told.aliases)
        for alias in told.no_aliases:
            del self.table[alias]

    def come(self, *models: str) -> None:
        for model in map(ModelId, models):
            self.resident.add(model)
            self.told(self.aliases.came(model))

    def go(self, model: str) -> None:
        self.resident.discard(ModelId(model))
        self.told(self.aliases.went(ModelId(model)))

    def set(self, name: str, new: AliasRecord | None) -> None:
        alias = AliasId(name)
        if new is None:
            self.records.pop(alias, None)
        else:
            self.records[alias] = new
        self.aliases.changed(alias, new)

    def call(self, *names: str) -> None:
        for name in names:
            self.aliases.used(AliasId(name))

    def straight(self, name: str) -> ModelId | None:
        """Where the lane brings a call that names either (`lane/src/table.rs: find`); None: to Python."""
        alias = AliasId(name)
        found = self.table[alias] if alias in self.table else ModelId(name)
        return found if found in self.resident else None

    def meant(self, name: str) -> ModelId | None:
        """What the name means, where that is resident."""
        known = self.records.get(AliasId(name))
        found = ModelId(name) if known is None else target_of(known)
        return found if found in self.resident else None


@pytest.fixture
def pod() -> Pod:
    return Pod()


def test_an_alias_is_told_when_it_is_called_by_and_its_model_is_here(pod: Pod) -> None:
    for name, target in (("x", "a"), ("y", "b")):
        pod.set(name, record(target))
    pod.come("a")
    assert pod.table == {}
    pod.call("x", "y", "nobody")
    assert pod.table == {"x": A}


def test_a_switched_alias_is_pythons_meanwhile_and_leads_to_its_new_model_then(pod: Pod) -> None:
    pod.set("x", record("a"))
    pod.come("a", "b")
    pod.call("x")
    pod.set("x", record("b", "a"))
    assert pod.straight("x") is None
    pod.set("x", record("b"))
    assert pod.straight("x") == B
    pod.set("x", record("c"))
    assert pod.table == {}


def test_an_alias_goes_with_its_model(pod: Pod) -> None:
    pod.set("x", record("a"))
    pod.come("a")
    pod.call("x")
    pod.go("a")
    assert pod.table == {}
    pod.come("a")
    assert pod.straight("x") is None
    pod.call("x")
    assert pod.straight("x") == A


def test_an_alias_with_the_name_of_a_model_is_told_with_it(pod: Pod) -> None:
    pod.set("a", record("b"))
    pod.come("a")
    assert pod.straight("a") is None
    pod.come("b")
    assert pod.straight("a") == B
    pod.set("a", None)
    assert pod.straight("a") == A
    pod.set("a", record("c"))
    assert pod.straight("a") is None
    pod.go("a")
    assert pod.table == {}


CHANGES = st.one_of(
    st.tuples(st.just("come"), st.sampled_from("abc")),
    st.tuples(st.just("go"), st.sampled_from("abc")),
    st.tuples(st.just("call"), st.sampled_from(NAMES)),
    st.tuples(st.just("set"), st.sampled_from(NAMES), st.none() | st.builds(record, st.sampled_from("abc"), st.sampled_from("abc"))),
)


@given(st.lists(CHANGES, max_size=40))
def test_the_lane_never_takes_a_name_for_another_model(changes: list[tuple[Any, ...]]) -> None:
    pod = Pod()
    for what, *arguments in changes:
        getattr(pod, what)(*arguments)
        for name in NAMES:
            assert pod.straight(name) in (None, pod.meant(name)), name
        assert all(target is None or target in pod.resident or ModelId(alias) in pod.resident for alias, target in pod.table.items())
        pod.call(*NAMES)
        assert {name: pod.straight(name) for name in NAMES} == {name: pod.meant(name) for name in NAMES}
