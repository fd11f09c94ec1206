"""An alias moves from one model to the next without a call noticing, and counts references without losing one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Conflict, Malformed, MeshError, Referenced, Unknown
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.policy import AGE_ON_LOAD, AGE_ON_REGISTER
from mesh.core.registry.aliases import DeleteAlias, EndTransition, ReadAlias, SetAlias, TryAgain
from mesh.core.registry.edits import ReadModel
from mesh.core.registry.records import AliasRecord, Bounds, ModelInfo, ModelRecord
from mesh.core.units import Millis
from tests.unit.core.records import Tables

A = AliasId("a")
INFO = ModelInfo("sklearn", "path")
NOW = Millis(10**12)
POD = PodId("pod")


def point(tables: Tables, target: str, *, info: ModelInfo | None = INFO, **options: Any) -> MeshError | None:
    return tables.apply(SetAlias(A, ModelId(target), NOW, info=info, auto_delete=True, **options))


def loaded(tables: Tables, model: str, *, ready: bool = True, copies: int = 1) -> None:
    pods = {PodId(f"pod{number}"): Millis(1) for number in range(copies)}
    tables.models[model] = tables.models[model].with_(copies=pods, ready=pods if ready else {})


def refs(tables: Tables) -> dict[str, int]:
    return {name: record.refs for name, record in tables.models.items()}


def test_a_new_alias_points_at_its_model_at_once() -> None:
    tables = Tables()
    assert point(tables, "m1", owner="isvc") is None
    alias = tables.aliases["a"]
    assert (alias.active, alias.target, alias.owner, alias.in_transition) == ("m1", "m1", "isvc", False)
    assert refs(tables) == {"m1": 1}


def test_a_new_model_counts_as_used_an_hour_ago_if_it_is_to_be_loaded_else_six() -> None:
    tables = Tables()
    point(tables, "m1", load_now=True)
    assert tables.models["m1"].last_used == NOW - AGE_ON_LOAD
    other = Tables()
    point(other, "m1")
    assert other.models["m1"].last_used == NOW - AGE_ON_REGISTER


def test_without_a_copy_of_the_active_model_the_alias_switches_at_once_and_the_old_model_goes() -> None:
    tables = Tables()
    point(tables, "m1")
    point(tables, "m2")
    assert tables.aliases["a"].active == "m2"
    assert refs(tables) == {"m2": 1}


def test_while_the_active_model_serves_the_alias_waits_for_its_target() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1")
    point(tables, "m2")
    assert (tables.aliases["a"].active, tables.aliases["a"].target) == ("m1", "m2")
    assert refs(tables) == {"m1": 1, "m2": 1}


def test_a_target_inherits_how_recently_the_active_model_was_used() -> None:
    tables = Tables()
    point(tables, "m1")
    tables.models["m1"] = tables.models["m1"].with_(last_used=Millis(77))
    point(tables, "m2")
    assert tables.models["m2"].last_used == 77


def test_a_target_that_serves_as_widely_as_the_active_model_is_switched_to_at_once() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1", copies=2)
    tables.models["m2"] = ModelRecord(INFO)
    loaded(tables, "m2", copies=1)
    point(tables, "m2")
    assert tables.aliases["a"].active == "m1", "one copy is fewer than two"
    elsewhere = {PodId("pod1"): Millis(1), PodId("pod2"): Millis(1)}
    tables.models["m2"] = tables.models["m2"].with_(copies=elsewhere, ready=elsewhere)
    point(tables, "m1")
    point(tables, "m2", live=frozenset({PodId("pod0"), PodId("pod1")}))
    assert tables.aliases["a"].active == "m1", "a copy on a pod that is gone does not count"
    point(tables, "m1")
    point(tables, "m2", live=frozenset({PodId("pod0"), PodId("pod1"), PodId("pod2")}))
    assert tables.aliases["a"].active == "m2"
    assert refs(tables) == {"m2": 1}


def test_copies_of_the_active_model_on_pods_that_are_gone_hold_up_no_switch() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1", copies=2)
    tables.models["m2"] = ModelRecord(INFO)
    loaded(tables, "m2", copies=1)
    point(tables, "m2", load_now=True, live=frozenset({PodId("pod0")}))
    assert tables.aliases["a"].active == "m2", "one lives of each"
    tables.models["m2"] = tables.models["m2"].with_(copies={PodId("pod9"): Millis(1)})
    point(tables, "m1", live=frozenset({PodId("pod1")}))
    assert tables.aliases["a"].active == "m1", "nobody serves the active one, and nothing is to be loaded now"


# Bounds on copies


def test_bounds_are_kept_with_the_alias_and_changed_in_place() -> None:
    tables = Tables()
    bounds = Bounds(1, 4, pinned=True)
    point(tables, "m1", bounds=bounds)
    loaded(tables, "m1")
    models = dict(tables.models)
    assert tables.aliases["a"].bounds == bounds
    point(tables, "m1")
    assert tables.aliases["a"].bounds == bounds, "who says nothing of them leaves them"
    point(tables, "m1", bounds=Bounds(2))
    assert (tables.aliases["a"].bounds, tables.models) == (Bounds(2), models)
    point(tables, "m1", bounds=Bounds())
    assert tables.aliases["a"].bounds == Bounds()


def test_bounds_stay_when_the_alias_moves_unless_others_come_with_the_target() -> None:
    tables = Tables()
    point(tables, "m1", bounds=Bounds(2))
    loaded(tables, "m1")
    point(tables, "m2")
    assert tables.aliases["a"].bounds == Bounds(2)
    point(tables, "m3", bounds=Bounds(3))
    assert tables.aliases["a"].bounds == Bounds(3)
    tables.apply(EndTransition(A, ModelId("m1"), ModelId("m3"), loaded=True))
    assert (tables.aliases["a"].active, tables.aliases["a"].bounds) == ("m3", Bounds(3))


def test_bounds_of_another_owners_alias_are_not_changed() -> None:
    tables = Tables()
    point(tables, "m1", owner="isvc", bounds=Bounds(1))
    assert isinstance(point(tables, "m1", owner="other", bounds=Bounds(2)), Conflict)
    assert tables.aliases["a"].bounds == Bounds(1)


def test_an_evicted_model_keeps_its_place_until_the_target_that_is_to_be_loaded_now_serves() -> None:
    tables = Tables()
    point(tables, "m1")
    point(tables, "m2", load_now=True)
    assert (tables.aliases["a"].active, tables.aliases["a"].target) == ("m1", "m2")


def test_a_model_that_failed_to_load_keeps_no_place() -> None:
    tables = Tables()
    point(tables, "m1")
    tables.models["m1"] = tables.models["m1"].with_(failed={POD: NOW}, failures={POD: "broken"})
    point(tables, "m2", load_now=True)
    assert tables.aliases["a"].active == "m2"
    assert refs(tables) == {"m2": 1}


def test_force_switches_at_once() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1")
    point(tables, "m2", force=True)
    assert tables.aliases["a"].active == "m2"
    assert refs(tables) == {"m2": 1}


def test_force_on_a_pending_target_leaks_no_reference() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1")
    point(tables, "m2")
    point(tables, "m2", force=True)
    assert refs(tables) == {"m2": 1}


def test_setting_the_pending_target_again_joins_the_transition() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1")
    point(tables, "m2")
    before = dict(tables.models)
    assert point(tables, "m2") is None
    assert tables.models == before


def test_going_back_to_the_active_model_drops_the_pending_target() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1")
    point(tables, "m2")
    point(tables, "m1")
    assert (tables.aliases["a"].active, tables.aliases["a"].target) == ("m1", "m1")
    assert refs(tables) == {"m1": 1}


def test_a_superseded_target_goes() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1", copies=2)
    point(tables, "m2")
    loaded(tables, "m2")
    point(tables, "m3")
    assert refs(tables) == {"m1": 1, "m3": 1}


def test_a_model_that_was_not_made_by_an_alias_survives_it() -> None:
    tables = Tables()
    tables.apply(SetAlias(A, ModelId("kept"), NOW, info=INFO))
    tables.apply(DeleteAlias(A))
    assert refs(tables) == {"kept": 0}


def test_a_transition_ends_with_the_target_active_and_the_old_model_gone() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1")
    point(tables, "m2")
    tables.apply(EndTransition(A, ModelId("m1"), ModelId("m2"), loaded=True))
    assert tables.aliases["a"].active == "m2"
    assert refs(tables) == {"m2": 1}


def test_a_target_that_does_not_load_leaves_the_old_one_serving() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1")
    point(tables, "m2")
    failed = EndTransition(A, ModelId("m1"), ModelId("m2"), loaded=False, cause="no such file")
    tables.apply(failed)
    tables.apply(failed)
    alias = tables.aliases["a"]
    assert (alias.active, alias.failed, alias.cause) == ("m1", True, "no such file")
    assert refs(tables) == {"m1": 1, "m2": 1}
    point(tables, "m3")
    alias = tables.aliases["a"]
    assert (alias.target, alias.failed, alias.cause) == ("m3", False, "")


def test_who_tries_again_forgets_the_failures_of_all_pods() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1")
    point(tables, "m2")
    pods = {POD: NOW, PodId("other"): NOW}
    tables.models["m2"] = tables.models["m2"].with_(failed=pods, failures=dict.fromkeys(pods, "broken"))
    tables.apply(EndTransition(A, ModelId("m1"), ModelId("m2"), loaded=False, cause="broken"))
    tables.apply(TryAgain(A, ModelId("m2")))
    alias, model = tables.aliases["a"], tables.models["m2"]
    assert (alias.failed, alias.cause, model.failed, model.failures) == (False, "", {}, {})
    before = dict(tables.models), dict(tables.aliases)
    assert tables.apply(TryAgain(A, ModelId("m1"))) is None
    assert tables.apply(TryAgain(AliasId("none"), ModelId("none"))) is None
    assert before == (tables.models, tables.aliases)


def test_reading_changes_nothing_and_knows_what_there_is() -> None:
    tables = Tables()
    assert tables.apply(ReadAlias(A)) is None
    assert isinstance(tables.apply(ReadModel(ModelId("m1"))), Unknown)
    assert (tables.models, tables.aliases) == ({}, {})
    point(tables, "m1")
    assert tables.apply(ReadModel(ModelId("m1"))) is None


def test_a_transition_that_was_superseded_or_whose_alias_is_gone_ends_without_effect() -> None:
    tables = Tables()
    assert tables.apply(EndTransition(A, ModelId("m1"), ModelId("m2"), loaded=True)) is None
    point(tables, "m1")
    tables.apply(EndTransition(A, ModelId("m0"), ModelId("m2"), loaded=True))
    assert tables.aliases["a"].active == "m1"


def test_deleting_an_alias_deletes_what_it_made() -> None:
    tables = Tables()
    point(tables, "m1")
    loaded(tables, "m1")
    point(tables, "m2")
    assert tables.apply(DeleteAlias(A)) is None
    assert (tables.aliases, tables.models) == ({}, {})
    assert tables.apply(DeleteAlias(A)) is None


def test_only_the_owner_deletes() -> None:
    tables = Tables()
    point(tables, "m1", owner="isvc")
    tables.apply(DeleteAlias(A, "ksp"))
    assert "a" in tables.aliases
    tables.apply(DeleteAlias(A, "isvc"))
    assert tables.aliases == {}


def test_another_owner_is_refused_in_the_pinned_words() -> None:
    tables = Tables()
    point(tables, "m1", owner="owner1")
    assert point(tables, "m1") is None
    refusal = point(tables, "m2", owner="owner2")
    assert isinstance(refusal, Conflict)
    assert str(refusal) == 'vmodel a already exists with different owner "owner1"'


def test_an_alias_without_an_owner_gets_the_default_one() -> None:
    tables = Tables()
    point(tables, "m1", default_owner="ksp")
    assert tables.aliases["a"].owner == "ksp"


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"info": None}, Unknown, "Target model m1 not found"),
        ({"update_only": True}, Unknown, "vmodel a not found"),
        ({"expected": ModelId("m0")}, Referenced, "vmodel a not found"),
        ({"info": ModelInfo("")}, Malformed, "must provide non-empty model type"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], kind: type[MeshError], text: str) -> None:
    refusal = point(Tables(), "m1", **options)
    assert isinstance(refusal, kind)
    assert str(refusal) == text


def test_an_expected_target_that_is_requested_may_be_absent() -> None:
    assert point(Tables(), "m1", expected=ModelId("m1")) is None


def test_another_target_than_expected_is_refused() -> None:
    tables = Tables()
    point(tables, "m1")
    refusal = point(tables, "m2", expected=ModelId("m0"))
    assert isinstance(refusal, Referenced)
    assert str(refusal) == "Existing target model m1 does not match expected m0"
    assert point(tables, "m2", expected=ModelId("m1")) is None


def test_a_model_with_other_attributes_is_a_conflict() -> None:
    tables = Tables()
    point(tables, "m1")
    refusal = point(tables, "m1", info=ModelInfo("other"))
    assert isinstance(refusal, Conflict)
    assert str(refusal) == "Model m1 already exists with different attribute values"


@given(st.lists(st.tuples(st.sampled_from(["m1", "m2", "m3"]), st.sampled_from(["set", "force", "end", "fail", "load", "delete"]))))
def test_references_are_what_the_alias_points_at_whatever_happens(steps: list[tuple[str, str]]) -> None:
    tables = Tables()
    for model, step in steps:
        alias = tables.aliases.get("a")
        if step in ("set", "force"):
            point(tables, model, force=step == "force")
        elif step == "load" and model in tables.models:
            loaded(tables, model)
        elif step == "delete":
            tables.apply(DeleteAlias(A))
        elif alias:
            tables.apply(EndTransition(A, alias.active, alias.target, loaded=step == "end"))
        alias = tables.aliases.get("a")
        assert refs(tables) == (dict.fromkeys((alias.active, alias.target), 1) if alias else {})


def test_models_that_are_gone_already_do_not_hold_up_their_alias() -> None:
    tables = Tables()
    tables.aliases["a"] = AliasRecord(ModelId("lost"), ModelId("lost"))
    assert point(tables, "m1") is None
    assert refs(tables) == {"m1": 1}
    tables.aliases["a"] = AliasRecord(ModelId("m1"), ModelId("lost"))
    tables.apply(EndTransition(A, ModelId("m1"), ModelId("lost"), loaded=True))
    assert tables.aliases["a"].active == "lost"
    tables.aliases["a"] = AliasRecord(ModelId("lost"), ModelId("lost"))
    tables.apply(SetAlias(A, ModelId("m2"), NOW, info=INFO))
    tables.aliases["b"] = AliasRecord(ModelId("m2"), ModelId("m2"))
    tables.models.clear()
    tables.apply(EndTransition(A, ModelId("m2"), ModelId("m2"), loaded=True))
