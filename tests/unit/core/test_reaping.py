"""What dead pods leave behind is forgotten seconds after they went; what lives, or may only be cut off, is not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.explaining.recorded import from_json
from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.mentions import Mentions, named
from mesh.core.registry.reaping import GRACE, GRACE_OF_MANY, TOGETHER, Absence, Absences, ForgetPods, in_parts, without
from mesh.core.registry.records import ModelInfo, ModelRecord
from mesh.core.routing.tries import out_of_tries
from mesh.core.units import Millis
from tests.unit.core.records import Tables

INFO = ModelInfo("test")
NOW = Millis(10**12)
A, B, C, D = map(PodId, "abcd")
M, N = ModelId("m"), ModelId("n")


def later(by: int) -> Millis:
    return Millis(NOW + by)


def on(*pods: PodId, failed: tuple[PodId, ...] = ()) -> ModelRecord:
    at = dict.fromkeys(pods, NOW)
    return ModelRecord(INFO, at, at, dict.fromkeys(failed, NOW), dict.fromkeys(failed, "broken"))


# When


def test_a_pod_is_forgotten_when_it_has_been_gone_for_the_grace() -> None:
    absences = Absences()
    assert absences.look({A, B}, {A, C}, NOW) == []
    assert absences.look({A, B}, {A, C}, later(GRACE - 1)) == []
    (absence,) = absences.look({A, B}, {A, C}, later(GRACE))
    assert (absence.pod, absence.since, absence.again()) == (B, NOW, "forget")


def test_a_pod_that_came_back_begins_anew() -> None:
    absences = Absences()
    absences.look({B}, {A}, NOW)
    absences.look({B}, {A, B}, later(GRACE // 2))
    absences.look({B}, {A}, later(GRACE))
    assert absences.look({B}, {A}, later(2 * GRACE - 1)) == []
    assert absences.look({B}, {A}, later(2 * GRACE))


def test_who_could_not_see_for_a_while_begins_anew_with_all() -> None:
    absences = Absences()
    absences.look({B}, {A}, NOW)
    absences.forget()
    assert absences.look({B}, {A}, later(GRACE)) == []


def test_where_half_of_the_pods_are_gone_at_once_they_get_longer() -> None:
    absences = Absences()
    absences.look({A, B, C, D}, {A, D}, NOW)
    assert absences.look({A, B, C, D}, {A, D}, later(GRACE)) == []
    assert [absence.pod for absence in absences.look({A, B, C, D}, {A, D}, later(GRACE_OF_MANY))] == [B, C]


def test_of_two_pods_one_is_no_crowd() -> None:
    absence = Absence(B, NOW, later(GRACE), gone=1, living=1)
    assert (absence.grace, absence.again()) == (GRACE, "forget")


def test_the_decision_can_be_made_again_from_what_was_recorded() -> None:
    absence = Absence(B, NOW, later(GRACE), gone=1, living=3)
    again = from_json(Absence, absence.inputs())
    assert (again, again.again()) == (absence, "forget")
    (candidate,) = absence.candidates()
    assert (candidate.name, candidate.chosen, candidate.score) == (B, True, {"gone_ms": GRACE, "grace_ms": GRACE})
    assert "had come back within 3 s" in absence.would_change()[0]


# What


def tables(*living: PodId, **models: ModelRecord) -> Tables:
    made = Tables()
    made.models.update(models)
    made.instances.update(dict.fromkeys(living, InstanceRecord()))
    return made


def test_copies_and_failures_of_a_dead_pod_go_and_those_of_others_stay() -> None:
    records = tables(A, m=on(A, B, failed=(C,)), n=on(A, failed=(B,)))
    assert records.apply(ForgetPods((M, N, ModelId("unregistered")), frozenset({B, C}))) is None
    assert records.models == {"m": on(A), "n": on(A)}


def test_a_pod_that_is_back_in_this_very_moment_keeps_what_it_has() -> None:
    records = tables(A, B, m=on(A, B))
    records.apply(ForgetPods((M,), frozenset({B})))
    assert records.models == {"m": on(A, B)}


def test_a_router_of_another_kind_lives_by_its_record_like_any_other() -> None:
    records = tables(m=on(B))
    records.instances[B] = InstanceRecord(endpoint="")
    records.apply(ForgetPods((M,), frozenset({B})))
    assert records.models == {"m": on(B)}


def test_failures_of_dead_pods_count_no_more_toward_a_models_tries() -> None:
    record = on(failed=(A, B, C))
    assert out_of_tries(record, Millis(NOW - 1)) is not None
    assert out_of_tries(without(record, {B}), Millis(NOW - 1)) is None


def test_many_models_are_written_a_few_at_a_time() -> None:
    models = [ModelId(f"{number:03}") for number in range(2 * TOGETHER + 1)]
    parts = list(in_parts(models))
    assert [len(part) for part in parts] == [TOGETHER, TOGETHER, 1]
    assert [model for part in parts for model in part] == models


# Who is named where

pods = st.sets(st.sampled_from((A, B, C, D))).map(tuple)
some_records = st.none() | st.builds(lambda copies, failed: on(*copies, failed=failed), pods, pods)


@given(st.lists(st.tuples(st.sampled_from((M, N)), some_records)))
def test_the_index_of_who_is_named_agrees_with_the_records(changes: list[tuple[ModelId, ModelRecord | None]]) -> None:
    mentions = Mentions({})
    records: dict[ModelId, ModelRecord | None] = {}
    for model, record in changes:
        records[model] = record
        mentions.model_changed(model, record)
    there = {model: record for model, record in records.items() if record is not None}
    assert mentions.pods == {pod for record in there.values() for pod in named(record)}
    for pod in (A, B, C, D):
        assert mentions.of(pod) == {model for model, record in there.items() if pod in named(record)}
    assert Mentions(there).pods == mentions.pods
