"""The express lane's aliases: few are told, and what the lane makes of a name is never anything but what Python makes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.ids import AliasId, ModelId
from mesh.core.registry.records import AliasRecord, ModelInfo, ModelRecord
from mesh.core.routing.express import Lead, lead_of, models_of
from mesh.core.routing.sharing import Sharing
from mesh.core.traffic.policy import Comparison, Match, Policy, Rule, Text, Version, canary
from mesh.pod.lane_aliases import Aliases, Told

A, B, C = map(ModelId, "abc")
NAMES = [*"abc", "x", "y"]


def record(target: str, active: str = "") -> AliasRecord:
    """In transition if it leads elsewhere than it is to."""
    return AliasRecord(ModelId(target), ModelId(active or target), "")


def sharing(active: str, other: str, percent: int = 50, policy: Policy | None = None) -> AliasRecord:
    """With two versions, of which the other gets a share."""
    versions = Version(1, ModelId(active)), Version(2, ModelId(other))
    return record(active).with_(versions=versions, policy=policy or Policy(default=canary(percent)))


def by_format(active: str, other: str) -> AliasRecord:
    """The other version gets all calls if the stable one is of a format."""
    return sharing(active, other, policy=Policy((Rule("", (Match(format="sklearn"),), canary(100)),)))


class Pod:
    """Records, what is resident, and the lane's table as it was told."""

    def __init__(self) -> None:
        self.records: dict[AliasId, AliasRecord] = {}
        self.resident: set[ModelId] = set()
        self.table: dict[AliasId, Lead] = {}
        self.models = {model: ModelRecord(ModelInfo("mt:sklearn")) for model in (A, B, C)}
        registry: Any = SimpleNamespace(aliases=self.records, models=self.models)
        self.aliases = Aliases(registry, self.resident, self.told)

    def told(self, told: Told) -> None:
        self.table.update(told.aliases)
        self.table.update(told.shared)
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

    def straight(self, name: str) -> Lead:
        """Where the lane brings calls that name either (`lane/src/table.rs: find`); None: to Python."""
        alias = AliasId(name)
        return self._resident(self.table[alias] if alias in self.table else ModelId(name))

    def meant(self, name: str) -> Lead:
        """What the name means, where something of that is resident."""
        known = self.records.get(AliasId(name))
        if known is None:
            return self._resident(ModelId(name))
        stable = self.models.get(known.active)
        return self._resident(lead_of(known, stable.info if stable else None))

    def _resident(self, lead: Lead) -> Lead:
        return lead if models_of(lead) & self.resident else None


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


def shares(lead: Lead) -> dict[str, int]:
    """Of calls that no rule takes."""
    assert isinstance(lead, Sharing)
    return dict(lead.rest.shares)


def test_an_alias_that_shares_calls_is_told_as_long_as_one_of_its_models_is_here(pod: Pod) -> None:
    pod.set("x", sharing("a", "b", 30))
    pod.come("b")
    pod.call("x")
    assert shares(pod.straight("x")) == {"a": 70, "b": 30}
    pod.come("a")
    pod.go("b")
    assert shares(pod.straight("x")) == {"a": 70, "b": 30}
    pod.go("a")
    assert pod.table == {}


def test_other_shares_are_told_at_once(pod: Pod) -> None:
    pod.set("x", record("a"))
    pod.come("a", "b")
    pod.call("x")
    pod.set("x", sharing("a", "b", 30))
    assert shares(pod.straight("x")) == {"a": 70, "b": 30}
    pod.set("x", sharing("a", "b", 60))
    assert shares(pod.straight("x")) == {"a": 40, "b": 60}
    pod.set("x", sharing("b", "c", 60))
    assert shares(pod.straight("x")) == {"b": 40, "c": 60}
    pod.set("x", record("b"))
    assert pod.straight("x") == B
    pod.go("b")
    assert pod.table == {}


def test_one_whose_rules_need_more_than_headers_is_pythons(pod: Pod) -> None:
    body = Policy((Rule("", (Match(parameters=(Text("tier", Comparison.EXACT, "gold"),)),), canary(100)),))
    pod.set("x", sharing("a", "b"))
    pod.come("a", "b")
    pod.call("x")
    pod.set("x", sharing("a", "b", policy=body))
    assert pod.straight("x") is None
    pod.call("x")
    assert pod.straight("x") is None
    pod.set("x", sharing("a", "b"))
    assert pod.straight("x") is not None


def test_one_of_whose_model_nothing_is_known_is_told_once_something_is(pod: Pod) -> None:
    known = pod.models.pop(A)
    pod.set("b", by_format("a", "c"))
    pod.set("x", by_format("a", "c"))
    pod.come("b", "c")
    pod.call("x", "b")
    assert (pod.straight("x"), pod.straight("b")) == (None, None)
    pod.models[A] = known
    pod.call("x", "b")
    assert shares(pod.straight("x")) == shares(pod.straight("b")) == {"c": 100, "a": 0}


RECORDS = st.one_of(
    st.builds(record, st.sampled_from("abc"), st.sampled_from("abc")),
    st.builds(sharing, st.sampled_from("abc"), st.sampled_from("abc"), st.sampled_from([0, 10, 100])),
    st.builds(by_format, st.sampled_from("abc"), st.sampled_from("abc")),
)
CHANGES = st.one_of(
    st.tuples(st.just("come"), st.sampled_from("abc")),
    st.tuples(st.just("go"), st.sampled_from("abc")),
    st.tuples(st.just("call"), st.sampled_from(NAMES)),
    st.tuples(st.just("set"), st.sampled_from(NAMES), st.none() | RECORDS),
)


@given(st.lists(CHANGES, max_size=40))
def test_the_lane_never_takes_a_name_for_another_model(changes: list[tuple[Any, ...]]) -> None:
    pod = Pod()
    for what, *arguments in changes:
        getattr(pod, what)(*arguments)
        for name in NAMES:
            assert pod.straight(name) in (None, pod.meant(name)), name
        assert all(lead is None or models_of(lead) & pod.resident or ModelId(alias) in pod.resident for alias, lead in pod.table.items())
        pod.call(*NAMES)
        assert {name: pod.straight(name) for name in NAMES} == {name: pod.meant(name) for name in NAMES}
