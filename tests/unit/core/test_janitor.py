"""What the registry missed of a pod's copies is found and put right, a part at a time; what is right is not written."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.cache.copies import SERVING
from mesh.core.events import ModelDeleted, PodLeaves, RecordDiffers, RuntimeLost
from mesh.core.explaining.recorded import from_json
from mesh.core.ids import ModelId, PodId
from mesh.core.policy import UNKNOWN_AGE
from mesh.core.registry.edits import ReadModel, RecordUse, SettleCopy
from mesh.core.registry.instances import NEVER
from mesh.core.registry.janitor import NONE, PART, SETTLED, STALE, Discrepancy, Janitor, Order, Repair, deleted
from mesh.core.registry.mentions import Mentions
from mesh.core.registry.records import ModelRecord
from mesh.core.units import Millis
from tests.unit.core.records import Tables
from tests.unit.core.stage import HERE, INFO, Stage

M, THERE = ModelId("m"), PodId("there")


class Rounds:
    """A pod on its stage, the registry as it shows, and a janitor that looks when a test says so."""

    def __init__(self, *models: str) -> None:
        self.stage = Stage().holding(list(models))
        self.records: dict[ModelId, ModelRecord] = {}
        self.mentions = Mentions({})
        self.janitor = Janitor(self.stage.pod, self.records, self.mentions, 0.5)
        for model in map(ModelId, models):
            self.shows(model, self.true(model))
        self.after = SETTLED

    def true(self, model: ModelId) -> ModelRecord:
        copy = self.stage.pod.copy(model)
        assert copy is not None
        return ModelRecord(INFO, {HERE: copy.created}, {HERE: copy.loaded_at}, last_used=copy.last_used)

    def shows(self, model: ModelId, record: ModelRecord | None) -> None:
        self.records.pop(model, None)
        if record is not None:
            self.records[model] = record
        self.mentions.model_changed(model, record)
        self.janitor.model_changed(model, record, self.stage.now)

    def look(self, *, leads: bool = False) -> list[Order]:
        parts = self.janitor.sweep(Millis(self.stage.now + self.after), leads=leads)
        return [order for part in parts for order in part]

    def repairs(self) -> list[ModelId]:
        found = [order.event for order in self.look() if isinstance(order, Repair)]
        return sorted(event.model for event in found if isinstance(event, RecordDiffers))


def test_what_is_right_is_not_written() -> None:
    rounds = Rounds("a", "b")
    rounds.shows(ModelId("c"), ModelRecord(INFO, {THERE: Millis(1)}))
    assert rounds.look(leads=True) == []


def test_a_copy_that_does_not_stand_in_its_record_or_stands_there_wrongly_is_written() -> None:
    rounds = Rounds("missing", "older", "loading", "right")
    rounds.shows(ModelId("missing"), ModelRecord(INFO))
    true = rounds.true(ModelId("older"))
    rounds.shows(ModelId("older"), true.with_(copies={HERE: Millis(1)}))
    rounds.shows(ModelId("loading"), rounds.true(ModelId("loading")).with_(ready={}))
    assert rounds.repairs() == ["loading", "missing", "older"]


def test_a_copy_that_just_changed_is_left_alone() -> None:
    rounds = Rounds("a")
    rounds.shows(ModelId("a"), ModelRecord(INFO))
    rounds.after = Millis(SETTLED - 1)
    assert rounds.look() == []
    assert all(copy.state in SERVING for copy in rounds.stage.pod.cache.current.values())


def test_copies_and_failures_that_are_none_are_taken_out() -> None:
    rounds = Rounds()
    rounds.shows(M, ModelRecord(INFO, {HERE: Millis(1), THERE: Millis(2)}))
    rounds.shows(ModelId("n"), ModelRecord(INFO, failed={HERE: Millis(1)}, failures={HERE: "broken"}))
    assert rounds.repairs() == ["m", "n"]
    rounds.stage.tell(RecordDiffers(M))
    tables = Tables()
    tables.models[M] = rounds.records[M]
    edit = rounds.stage.edits[-1]
    assert isinstance(edit, SettleCopy)
    assert tables.apply(edit) is None
    assert tables.models[M].copies == {THERE: 2}


def test_a_failure_that_stands_is_left_and_one_that_somebody_took_away_is_not_written_again() -> None:
    rounds = Rounds()
    rounds.stage.want("m")
    rounds.stage.failed("m#1")
    at = rounds.stage.now
    rounds.shows(M, ModelRecord(INFO, failed={HERE: at}))
    assert rounds.look() == []
    rounds.shows(M, ModelRecord(INFO))
    assert rounds.look() == []


def test_a_model_without_a_record_is_read_if_it_is_missing_twice() -> None:
    rounds = Rounds("m")
    rounds.shows(M, None)
    assert rounds.look() == [], "a reset of the store may have lost it, and it is being written again"
    assert rounds.look() == [ReadModel(M)]
    assert deleted(M) == ModelDeleted(M)
    rounds.shows(M, rounds.true(M))
    assert rounds.look() == []


def test_the_last_use_is_written_when_the_record_is_hours_behind() -> None:
    rounds = Rounds("m")
    record = rounds.true(M)
    used = record.last_used
    rounds.shows(M, record.with_(last_used=Millis(used - STALE)))
    assert rounds.look() == [], "another pod's janitor is not at it at the same moment"
    rounds.shows(M, record.with_(last_used=Millis(used - 2 * STALE)))
    (order,) = rounds.look()
    assert isinstance(order, RecordUse)
    assert (order.model, order.last_used) == (M, used)


def test_a_use_in_the_far_future_is_repaired_by_the_leader_and_the_run_goes_on() -> None:
    rounds = Rounds("a")
    rounds.shows(M, ModelRecord(INFO, last_used=NEVER))
    rounds.shows(ModelId("n"), ModelRecord(INFO, last_used=NEVER))
    rounds.shows(ModelId("a"), ModelRecord(INFO))
    assert [type(order) for order in rounds.look()] == [Repair]
    orders = rounds.look(leads=True)
    assert [type(order) for order in orders] == [RecordUse, RecordUse, Repair]
    tables = Tables()
    tables.models[M] = rounds.records[M]
    assert isinstance(orders[0], RecordUse)
    assert tables.apply(orders[0]) is None
    assert tables.models[M].last_used == rounds.stage.now + SETTLED - UNKNOWN_AGE
    rounds.shows(M, tables.models[M])
    rounds.shows(ModelId("n"), None)
    assert [type(order) for order in rounds.look(leads=True)] == [Repair]


def test_a_copy_wanted_as_if_used_in_the_far_future_counts_as_used_hours_ago() -> None:
    stage = Stage()
    stage.want("m", last_used=NEVER)
    copy = stage.pod.copy(M)
    assert copy is not None
    assert copy.last_used == stage.now - UNKNOWN_AGE


def test_a_use_is_recorded_if_it_is_later_or_the_recorded_one_says_nothing() -> None:
    now = Millis(10**12)
    tables = Tables()
    for recorded, becomes in ((now - 5, now), (now + 5, now + 5), (NEVER, now)):
        tables.models[M] = ModelRecord(INFO, last_used=Millis(recorded))
        assert tables.apply(RecordUse(M, now, now)) is None
        assert tables.models[M].last_used == becomes
    assert tables.apply(RecordUse(ModelId("gone"), now, now)) is None


def test_a_pod_that_leaves_or_whose_runtime_is_lost_looks_at_nothing() -> None:
    for event in (PodLeaves(), RuntimeLost(down=True)):
        rounds = Rounds("m")
        rounds.shows(M, ModelRecord(INFO))
        rounds.stage.tell(event)
        assert rounds.look() == []


def test_an_unregistered_copy_is_left_to_who_writes_it() -> None:
    rounds = Rounds("m")
    rounds.shows(M, rounds.true(M).with_(copies={}, ready={}))
    copy = rounds.stage.pod.copy(M)
    assert copy is not None
    copy.registered = False
    assert rounds.look() == []


def test_many_models_are_looked_at_in_parts() -> None:
    rounds = Rounds()
    for number in range(2 * PART + 1):
        rounds.shows(ModelId(f"{number:04}"), ModelRecord(INFO, {HERE: Millis(1)}))
    parts = list(rounds.janitor.sweep(rounds.stage.now, leads=False))
    assert [len(part) for part in parts] == [PART, PART, 1]


times = st.sampled_from((NONE, Millis(1), Millis(2)))


@given(times, times, st.booleans(), times, times, st.booleans())
def test_what_was_decided_can_be_decided_again(
    wanted: Millis, ready: Millis, failed: bool, true_wanted: Millis, true_ready: Millis, true_failed: bool
) -> None:
    found = Discrepancy(M, HERE, wanted, ready, failed, true_wanted, true_ready, true_failed)
    assert from_json(Discrepancy, found.inputs()) == found
    assert [candidate.chosen for candidate in found.candidates()] == [True, False]
    assert found.would_change()
    mended = replace(found, wanted=true_wanted, ready=true_ready, failed=failed and true_failed)
    assert mended.again() == "leave"
