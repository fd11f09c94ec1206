"""What users pinned, or want so many copies of, is no victim; when nothing else is left, who wants room is told so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.cache.copies import Copy
from mesh.core.cache.eviction import Evictable, Eviction, victim_of
from mesh.core.cache.recency import Recency
from mesh.core.errors import Full, Malformed
from mesh.core.events import RuntimeForgot
from mesh.core.explaining.decisions import Kind
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.instructions import Outcome
from mesh.core.numbers import Numbers
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, Bounds, ModelRecord
from mesh.core.units import Millis, Units
from tests.unit.core.stage import HERE, INFO, START, Stage, copy_id, names

THERE = PodId("there")


def bounded(stage: Stage, model: str, bounds: Bounds) -> None:
    stage.pod.alias_changed(AliasId(f"alias-of-{model}"), AliasRecord(ModelId(model), ModelId(model), bounds=bounds))


def freed(stage: Stage, model: str) -> None:
    stage.pod.alias_changed(AliasId(f"alias-of-{model}"), None)


def three(capacity: int = 1000) -> Stage:
    return Stage(capacity=capacity, default=300, slots=1).holding(["a", "b", "c"])


def records(stage: Stage, **holders: dict[str, int]) -> None:
    """The models' records, as pod -> when its load ended; 0 is still loading."""
    models = {
        ModelId(model): ModelRecord(
            INFO,
            copies={PodId(pod): START for pod in pods},
            ready={PodId(pod): Millis(at) for pod, at in pods.items() if at},
        )
        for model, pods in holders.items()
    }
    stage.pod.models = models
    for model, record in models.items():
        copy = stage.pod.copy(model)
        stage.pod.record_changed(model, record.with_(copies={**record.copies, HERE: copy.created if copy else START}))


def test_a_pinned_model_stays_and_the_next_oldest_goes() -> None:
    stage = three()
    bounded(stage, "a", Bounds(pinned=True))
    stage.want("d")
    assert stage.evicted == ["b"]
    oldest = stage.pod.cache.recency.oldest()
    assert oldest is not None
    assert str(oldest.id) == "c#1", "the age of a cache is that of what may go"


def test_a_model_that_is_unpinned_is_the_oldest_again() -> None:
    stage = three()
    bounded(stage, "a", Bounds(pinned=True))
    assert str(stage.pod.cache.recency.oldest()).startswith("b#1")
    freed(stage, "a")
    stage.want("d")
    assert stage.evicted == ["a"]


def test_the_only_copy_of_a_model_with_a_minimum_stays_until_another_pod_serves_it() -> None:
    stage = three()
    bounded(stage, "a", Bounds(least=1))
    records(stage, a={"here": 1})
    assert stage.pod.kept(ModelId("a"))
    stage.pod.pod_changed(THERE, InstanceRecord(endpoint="there:1"))
    records(stage, a={"here": 1, "there": 0})
    assert stage.pod.kept(ModelId("a")), "the other one still loads"
    records(stage, a={"here": 1, "there": 2})
    assert not stage.pod.kept(ModelId("a"))
    stage.want("d")
    assert stage.evicted == ["a"]


def test_a_copy_on_a_pod_that_is_gone_counts_again_when_it_is_back() -> None:
    stage = three()
    bounded(stage, "a", Bounds(least=1))
    records(stage, a={"here": 1, "there": 2})
    assert str(stage.pod.cache.recency.oldest()).startswith("b#1")
    stage.pod.pod_changed(THERE, InstanceRecord(endpoint="there:1"))
    assert str(stage.pod.cache.recency.oldest()).startswith("a#1")
    stage.pod.pod_changed(THERE, InstanceRecord(endpoint="there:1", shutting_down=True))
    assert stage.pod.kept(ModelId("a")), "a pod that leaves takes its copy along"
    stage.pod.pod_changed(THERE, None)
    assert stage.pod.kept(ModelId("a"))


def test_a_model_with_bounds_but_without_a_minimum_or_a_record_may_go() -> None:
    stage = three()
    bounded(stage, "a", Bounds(most=3))
    bounded(stage, "b", Bounds(least=1))
    assert not stage.pod.kept(ModelId("a"))
    assert not stage.pod.kept(ModelId("b")), "there is no record of it: it was deleted"
    assert not stage.pod.kept(ModelId("c"))


def test_who_finds_only_pinned_models_is_told_how_many_there_are() -> None:
    stage = three()
    for model in "abc":
        bounded(stage, model, Bounds(pinned=True))
    stage.want("d")
    model, outcome, error = stage.released[-1]
    assert (model, outcome, type(error)) == ("d", Outcome.FAILED, Full)
    assert error is not None
    assert "3 models there are pinned or at their minimum" in str(error)
    assert error.elsewhere, "another pod may have room"
    assert stage.states() == {"a#1": "ready", "b#1": "ready", "c#1": "ready"}


def test_who_finds_pinned_models_and_one_that_is_still_coming_waits_for_that() -> None:
    stage = Stage(capacity=250, default=100, slots=3).holding(["a"])
    bounded(stage, "a", Bounds(pinned=True))
    assert stage.want("b") == ["load b#1"]
    assert stage.want("c") == []
    assert stage.states()["c#1"] == "claiming"
    stage.loaded("b#1")
    assert stage.leave_all("b") == ["unload b#1"]


def test_a_copy_laid_aside_is_forgotten_with_its_end() -> None:
    stage = three()
    bounded(stage, "a", Bounds(pinned=True))
    stage.pod.cache.recency.oldest()
    stage.tell(RuntimeForgot(copy_id("a#1")))
    assert stage.pod.cache.recency.kept == 0
    assert stage.pod.cache.recency.serving == 2


def test_an_eviction_tells_who_else_might_have_gone_and_is_made_again_alike() -> None:
    stage = Stage(capacity=100_000, default=6_000, slots=2).holding(names(15))
    stage.enter("m0")
    stage.copy("m0#1").last_used = START
    stage.want("m15")
    stage.want("m16")
    noted = [decision for decision in stage.pod.cache.decisions if decision.kind is Kind.EVICTION]
    assert [decision.outcome for decision in noted] == stage.evicted == ["m1", "m2"][: len(noted)]
    first, evidence = noted[0], noted[0].evidence
    assert isinstance(evidence, Eviction)
    assert first.reason.startswith("room for m15; used least recently, ")
    assert evidence.again() == first.outcome == "m1"
    assert [one.name for one in evidence.candidates()] == ["m1", "m0", "m2", "m3", "m4", "m5", "m6", "m7"]
    assert [one.why for one in evidence.candidates()][:3] == ["", "calls run on it", "it was used more recently"]
    assert any("pinned" in line for line in evidence.would_change())
    assert Eviction.from_json(evidence.inputs()) == evidence


def test_an_eviction_that_was_not_recorded_is_named() -> None:
    recorded = Eviction(ModelId("m"), START, (), 0, 0).inputs()
    with pytest.raises(Malformed, match="copies of an eviction"):
        Eviction.from_json({**recorded, "copies": [["m", 1]]})


def test_an_eviction_of_a_busy_copy_says_that_all_were() -> None:
    stage = three()
    for model in "abc":
        stage.enter(model)
    stage.want("d")
    (noted,) = stage.pod.cache.decisions
    assert noted.reason.endswith("1 calls run on it, but on all others too")


def test_no_copy_at_all_is_no_victim() -> None:
    nothing = Eviction(ModelId("m"), START, (), 0, 0)
    assert (nothing.again(), nothing.candidates(), nothing.would_change()) == ("", [], [])


copies = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.booleans()), min_size=1, max_size=12)


@given(copies, st.integers(0, 12))
def test_the_victim_is_what_the_rule_says_of_all_copies(drawn: list[tuple[int, int, bool]], spared: int) -> None:
    """The search by recency and the rule that decisions are made again by agree, whatever is kept."""
    kept = {f"m{number}" for number, (_, _, keep) in enumerate(drawn) if keep}
    recency = Recency(lambda model: model in kept)
    made = []
    for number, (used, calls, _) in enumerate(drawn):
        copy = Copy(copy_id(f"m{number}#1"), INFO, Units(1), Millis(used), START, START, calls=calls)
        copy.state = next(iter(Stage().holding(["x"]).copies())).state
        recency.add(copy)
        made.append(copy)
    out = made[spared] if spared < len(made) else None
    free = [Evictable.of(copy) for copy in made if copy.id.model not in kept and copy is not out]
    wanted, found = victim_of(free), recency.victim(out)
    assert (wanted and wanted.model) == (found and found.id.model)
    assert [copy.id.model for copy in recency.eldest(3)] == [
        copy.id.model for copy in sorted(made, key=lambda copy: (copy.last_used, copy.order)) if copy.id.model not in kept
    ][:3]


@given(st.lists(st.integers(0, 5), max_size=60))
def test_a_number_is_never_given_twice_though_few_are_remembered(wishes: list[int]) -> None:
    numbers = Numbers(remembered=2)
    given = [(model, numbers.next(ModelId(str(model)))) for model in wishes]
    assert len(set(given)) == len(given)
    assert len(numbers) <= 2
