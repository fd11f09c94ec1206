"""A service keeps its last versions: numbered for good, each with a reference on its model, the canary with its share of the calls."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mesh.core.errors import Conflict, Malformed, MeshError, Unknown
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.registry.aliases import CorrectReferences, DeleteAlias, EndTransition, SetAlias
from mesh.core.registry.records import AliasRecord, Bounds, ModelInfo, ModelRecord, alias_from_json, alias_to_json
from mesh.core.registry.references import GRACE, References
from mesh.core.routing.express import lead_of, models_of
from mesh.core.routing.names import Aliases, Models, resolve_name, versioned
from mesh.core.scaling.bounds import BoundsOfModels
from mesh.core.traffic.policy import NO_POLICY, Policy, Version, canary
from mesh.core.traffic.reading import Reader
from mesh.core.traffic.versions import SetPolicy, Standing, newest, standing, version_named, versions_of, weighted
from mesh.core.units import Millis
from tests.unit.core.records import Tables

A = AliasId("a")
INFO = ModelInfo("mt:sklearn", "path")
M1, M2, M3, M4, M5 = (ModelId(f"m{number}") for number in range(1, 6))


class Service:
    """One service whose models are loaded at once."""

    def __init__(self, *models: ModelId, keep: int = 3) -> None:
        self.tables, self.now, self.keep = Tables(), 0, keep
        for model in models:
            assert self.point(model) is None
            self.settle()

    def point(self, model: ModelId, **options: Any) -> MeshError | None:
        self.now += 1
        return self.tables.apply(SetAlias(A, model, Millis(self.now), info=INFO, auto_delete=True, keep=self.keep, **options))

    def settle(self) -> None:
        """All models load, and a transition ends."""
        for name, record in self.tables.models.items():
            self.tables.models[name] = record.with_(copies={PodId("p"): Millis(1)}, ready={PodId("p"): Millis(1)})
        self.tables.apply(EndTransition(A, self.record.active, self.record.target, loaded=True))

    def policy(self, data: Any, **options: Any) -> MeshError | None:
        return self.tables.apply(SetPolicy(A, Reader(lambda _: None).policy(data), **options))

    def named(self, name: str) -> ModelId:
        """The model that calls by this name go to."""
        return resolve_name(name, cast(Aliases, self.tables.aliases), cast(Models, self.tables.models))

    @property
    def record(self) -> AliasRecord:
        return self.tables.aliases[A]

    def versions(self) -> dict[int, str]:
        return {one.number: one.model for one in versions_of(self.record)}

    def refs(self) -> dict[str, int]:
        return {name: record.refs for name, record in self.tables.models.items()}


def test_a_service_of_one_model_has_it_as_version_1_and_writes_nothing_of_it() -> None:
    service = Service(M1)
    assert service.versions() == {1: M1}
    assert alias_to_json(service.record) == {"amid": M1, "tmid": M1}


def test_each_new_model_is_a_version_and_the_last_ones_are_kept() -> None:
    service = Service(M1, M2, M3)
    assert service.versions() == {1: M1, 2: M2, 3: M3}
    assert service.record.versions == (Version(1, M1), Version(2, M2, Millis(2)), Version(3, M3, Millis(3)))
    assert service.refs() == {M1: 1, M2: 1, M3: 1}
    service.point(M4)
    assert service.versions() == {2: M2, 3: M3, 4: M4}
    assert service.refs() == {M2: 1, M3: 1, M4: 1}


def test_a_service_that_keeps_none_loses_its_old_model_as_ever() -> None:
    service = Service(M1, M2, keep=0)
    assert service.record.versions == ()
    assert service.refs() == {M2: 1}


def test_going_back_to_a_version_makes_no_new_one() -> None:
    service = Service(M1, M2)
    service.point(M1)
    service.settle()
    assert (service.record.active, service.versions(), newest(service.record)) == (M1, {1: M1, 2: M2}, M2)


def test_a_caller_that_says_nothing_of_versions_leaves_those_that_there_are() -> None:
    service = Service(M1, M2, keep=2)
    service.keep = 0
    service.point(M3)
    service.settle()
    assert service.versions() == {1: M1, 2: M2, 3: M3}


def test_a_service_that_is_deleted_lets_all_its_versions_go() -> None:
    service = Service(M1, M2, M3)
    service.tables.apply(DeleteAlias(A))
    assert service.refs() == {}


def test_a_canary_shares_calls_and_the_stable_version_stays() -> None:
    service = Service(M1)
    assert service.point(M2, canary=5) is None
    record = service.record
    assert (record.active, record.target, record.canary, service.versions()) == (M1, M1, 5, {1: M1, 2: M2})
    assert record.traffic == Policy(default=canary(5))
    assert weighted(record) == {M2}
    assert service.refs() == {M1: 1, M2: 1}
    assert models_of(lead_of(record, None)) == {M1, M2}, "the lane shares such calls"


def test_a_canarys_share_can_be_changed_and_taken_away() -> None:
    service = Service(M1)
    service.point(M2, canary=5)
    service.point(M2, canary=50)
    assert service.record.canary == 50
    service.point(M2, canary=0)
    assert (service.record.canary, service.record.traffic, service.versions()) == (0, NO_POLICY, {1: M1, 2: M2})
    assert not weighted(service.record)
    before = service.record
    service.point(M2, canary=0)
    assert service.record is before


def test_an_older_version_can_be_the_canary_and_keeps_its_number() -> None:
    service = Service(M1, M2, M3)
    service.point(M1, canary=10)
    assert weighted(service.record) == {M1}
    assert service.versions() == {1: M1, 2: M2, 3: M3}
    before = service.record
    service.point(M1, canary=10)
    assert service.record is before
    service.point(M4, canary=10)
    assert weighted(service.record) == {M4}
    assert service.versions() == {1: M1, 3: M3, 4: M4}


def test_versions_are_told_by_number_with_what_they_get() -> None:
    service = Service(M1, M2, M3)
    service.point(M1, canary=10)
    assert standing(service.record) == [
        Standing(Version(1, M1), 10, stable=False, next=False),
        Standing(Version(2, M2, Millis(2)), 0, stable=False, next=False),
        Standing(Version(3, M3, Millis(3)), 90, stable=True, next=False),
    ]


def test_a_canary_is_promoted_when_it_can_serve_all_and_shares_until_then() -> None:
    service = Service(M1)
    service.point(M2, canary=50)
    service.tables.models[M2] = service.tables.models[M2].with_(copies={}, ready={})
    service.tables.models[M1] = service.tables.models[M1].with_(copies={PodId("p"): Millis(1)})
    service.point(M2)
    assert (service.record.active, service.record.target, service.record.canary) == (M1, M2, 50)
    service.settle()
    assert (service.record.active, service.record.canary, service.versions()) == (M2, 0, {1: M1, 2: M2})


def test_a_canary_that_serves_already_is_promoted_at_once() -> None:
    service = Service(M1)
    service.point(M2, canary=50)
    for model in (M1, M2):
        service.tables.models[model] = service.tables.models[model].with_(copies={PodId("p"): Millis(1)}, ready={PodId("p"): Millis(1)})
    service.point(M2)
    assert (service.record.active, service.record.in_transition, service.record.canary) == (M2, False, 0)


def test_asking_for_the_stable_version_again_ends_the_canary() -> None:
    service = Service(M1)
    service.point(M2, canary=50)
    service.point(M1)
    assert (service.record.active, service.record.canary, service.versions()) == (M1, 0, {1: M1, 2: M2})


def test_a_canary_of_the_model_that_serves_already_is_none() -> None:
    service = Service(M1)
    service.point(M1, canary=10)
    assert (service.record.canary, service.record.versions) == (0, ())


def test_a_first_model_cannot_be_a_canary() -> None:
    service = Service()
    service.point(M1, canary=10)
    assert (service.record.active, service.record.canary) == (M1, 0)


def test_a_canary_in_the_midst_of_a_transition_takes_its_place() -> None:
    service = Service(M1)
    service.tables.models[M1] = service.tables.models[M1].with_(copies={PodId("p"): Millis(1)})
    service.point(M2)
    assert service.record.in_transition
    service.point(M2, canary=10, bounds=Bounds(2))
    assert (service.record.target, service.record.canary, service.record.bounds, service.refs()) == (M1, 10, Bounds(2), {M1: 1, M2: 1})


def test_a_version_that_a_policy_names_by_number_is_kept() -> None:
    service = Service(M1, M2, M3)
    assert service.policy({"rules": [{"match": [{"headers": {"a": "b"}}], "to": [{"version": 1}]}]}) is None
    service.point(M4)
    service.settle()
    assert service.versions() == {1: M1, 3: M3, 4: M4}
    service.point(M5)
    assert service.versions() == {1: M1, 4: M4, 5: M5}


def test_a_policy_is_written_with_the_service_and_taken_back() -> None:
    service = Service(M1, M2)
    service.policy({"default": {"to": [{"version": 1}]}})
    assert weighted(service.record) == {M1}
    before = service.record
    service.policy({"default": {"to": [{"version": 1}]}})
    assert service.record is before
    service.policy({})
    assert (service.record.policy, lead_of(service.record, None)) == (NO_POLICY, M2)


def told(service: Service) -> list[tuple[int, int, bool, bool]]:
    return [(one.version.number, one.percent, one.stable, one.next) for one in standing(service.record)]


def test_each_version_tells_its_share_and_what_it_is() -> None:
    service = Service(M1)
    assert told(service) == [(1, 100, True, False)]
    service.point(M2, canary=10)
    assert told(service) == [(1, 90, True, False), (2, 10, False, False)]
    service.tables.models[M1] = service.tables.models[M1].with_(copies={PodId("p"): Millis(1)})
    service.point(M2)
    assert told(service) == [(1, 90, True, False), (2, 10, False, True)]
    service.settle()
    service.policy({"default": {"to": [{"version": 1, "weight": 30}, {"version": "canary", "weight": 30}, {"version": 2, "weight": 40}]}})
    assert told(service) == [(1, 60, False, False), (2, 40, True, False)]


def test_a_share_of_a_version_that_there_is_not_is_the_stable_ones() -> None:
    service = Service(M1)
    service.policy({"default": {"to": [{"version": "canary", "weight": 30}, {"version": "stable", "weight": 70}]}})
    assert told(service) == [(1, 100, True, False)]


def test_a_policy_that_cannot_be_is_refused() -> None:
    service = Service(M1, M2)
    refusal = service.policy({"rules": [{"match": [{"percent": 1}], "to": [{"version": 7}]}]})
    assert isinstance(refusal, Malformed)
    assert refusal.message == "rules[0].to[0].version: service a keeps no version 7; it keeps 1, 2"
    service.point(M3, canary=10)
    refusal = service.policy({"default": {"to": [{"version": 1}]}})
    assert isinstance(refusal, Conflict)
    assert refusal.message == "default: the canary of service a has 10 % by canaryTrafficPercent; promote or abort it first"
    assert isinstance(service.policy({}, owner="somebody"), Conflict)
    assert isinstance(Service().policy({}), Unknown)


def test_versions_and_policy_survive_in_the_record_and_unknown_policies_too() -> None:
    service = Service(M1, M2)
    service.policy({"rules": [{"match": [{"percent": 10}], "to": [{"version": 1}]}]})
    service.point(M3, canary=20)
    data = alias_to_json(service.record)
    assert alias_from_json(data) == service.record
    assert data["canary"] == 20
    newer = {**data, "traffic": {"rules": [], "magic": True}}
    read = alias_from_json(newer)
    assert read.policy == NO_POLICY
    assert alias_to_json(read) == newer
    assert alias_from_json({**data, "canary": 1000}).canary == 100
    with pytest.raises(Malformed):
        alias_from_json({**data, "versions": [{"n": "x"}]})


def test_a_policy_takes_the_place_of_one_that_could_not_be_read() -> None:
    service = Service(M1, M2)
    service.tables.aliases[A] = service.record.with_(unknown={"traffic": {"magic": True}})
    service.policy({"default": {"to": [{"version": 1}]}})
    assert alias_to_json(service.record)["traffic"] == {"default": {"to": [{"version": 1, "weight": 100}]}}


@pytest.mark.parametrize(
    ("name", "read"),
    [("a@3", (A, 3)), ("a@b@12", ("a@b", 12)), ("a@", None), ("@3", None), ("a@x", None), ("a", None), ("a@1234567890", None)],
)
def test_a_version_is_addressed_by_name_and_number(name: str, read: object) -> None:
    assert versioned(name) == read


def test_a_version_that_is_kept_is_found_by_its_number() -> None:
    service = Service(M1, M2)
    assert version_named(service.record, 2) == M2
    assert service.named("a@1") == M1
    with pytest.raises(Unknown, match="model not found: a keeps no version 9; it keeps 1, 2"):
        service.named("a@9")
    with pytest.raises(Unknown, match="there is neither an alias nor a model named 'b@1'"):
        service.named("b@1")
    service.tables.models["a@1"] = ModelRecord(INFO)
    assert service.named("a@1") == "a@1", "a model of that very name comes first"


def test_a_version_whose_model_is_gone_is_told_so() -> None:
    service = Service(M1, M2)
    del service.tables.models[M1]
    with pytest.raises(MeshError, match="Model m1 of version 1 of vmodel a not found"):
        service.named("a@1")


def test_a_version_that_shares_calls_is_kept_loaded_and_others_age_out() -> None:
    service, bounds = Service(M1, M2), BoundsOfModels()
    service.point(M3, canary=10)
    bounds.alias_changed(A, service.record)
    assert (bounds.of(M3), bounds.kept(M3)) == (Bounds(1), Bounds(1))
    assert bounds.of(M1) == bounds.of(M2) == Bounds()
    service.point(M3, canary=10, bounds=Bounds(2, 4, pinned=True))
    assert bounds.alias_changed(A, service.record) == {M2, M3}
    assert (bounds.kept(M2), bounds.kept(M3)) == (Bounds(2, 4, pinned=True), Bounds(1))
    service.point(M3, canary=0)
    assert bounds.alias_changed(A, service.record) == {M2, M3}
    assert bounds.of(M3) == Bounds()
    assert bounds.alias_changed(A, None) == {M2}


def test_references_of_versions_are_counted_and_set_right() -> None:
    service = Service(M1, M2)
    references = References(cast(Models, service.tables.models))
    references.alias_changed(A, service.record, Millis(0))
    assert not list(references.corrections(GRACE))
    service.tables.models[M1] = service.tables.models[M1].with_(refs=4)
    references.model_changed(M1, Millis(0))
    assert list(references.corrections(GRACE)) == [CorrectReferences(M1, 4, frozenset({A}))]
    service.tables.apply(CorrectReferences(M1, 4, frozenset({A})))
    assert service.refs() == {M1: 1, M2: 1}
