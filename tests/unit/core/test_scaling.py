"""One pod and the numbers of copies of what it holds: ticks, what it orders, what it writes down, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mesh.core.cache.copies import Copy
from mesh.core.errors import NotHere, StoreUnavailable
from mesh.core.events import CopySpared, EditDone, EditFailed, EditRefused, PodLeaves, RuntimeLost, RuntimeReturned
from mesh.core.explaining.decisions import Decision, Decisions, Kind
from mesh.core.ids import AliasId, ModelId, PodId
from mesh.core.instructions import Outcome
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import AliasRecord, Bounds, ModelRecord
from mesh.core.scaling.rates import ScalingRules
from mesh.core.scaling.scale_down import GiveBackCopy
from mesh.core.scaling.ticks import AddCopies, GiveBack, Order, Scaling
from mesh.core.units import Millis, Units
from tests.unit.core.stage import HERE, INFO, Stage, Straight, copy_id

HOUR = 3_600_000


class Mesh:
    """A pod `here` among others, with scaling; records of models are what stories make of them."""

    def __init__(self, others: int = 5, *, threshold: int = 600, limited: bool = False, capacity: int = 10_000, **rules: int) -> None:
        self.stage = Stage(capacity=capacity, default=100, slots=2)
        self.pod = self.stage.pod
        self.others = [PodId(f"p{number}") for number in range(others)]
        for pod in self.others:
            self.instance(pod)
        self.instance(HERE, count=9)
        self.records: dict[ModelId, ModelRecord] = {}
        self.pod.models = self.records
        self.rpm = 0
        spans = {name: Millis(value) for name, value in rules.items()}
        self.scaling = Scaling(self.pod, self.own, ScalingRules(**spans), lambda: threshold, self.stage.now, limited=limited)

    def own(self) -> InstanceRecord:
        return self.pod.figures(InstanceRecord(endpoint="here:1", rpm=self.rpm))

    def instance(self, pod: str, **figures: object) -> None:
        record = InstanceRecord(endpoint=f"{pod}:1", capacity=Units(10_000), load_threads=2)
        self.pod.pod_changed(PodId(pod), record.with_(**figures))

    def record(self, model: str, *pods: str, loading: Iterable[str] = (), failed: Iterable[str] = (), **fields: object) -> None:
        """Copies of `model` here, if it is here, and on other pods, that came an hour ago."""
        mine = self.pod.copy(ModelId(model))
        then = Millis(self.stage.now - HOUR)
        copies = {PodId(pod): then for pod in (*pods, *loading)} | ({HERE: mine.created} if mine else {})
        ready = {PodId(pod): then for pod in pods} | ({HERE: mine.loaded_at} if mine else {})
        record = ModelRecord(INFO, copies=copies, ready=ready, failed=dict.fromkeys(map(PodId, failed), then))
        self.records[ModelId(model)] = record.with_(**fields)
        self.pod.record_changed(ModelId(model), self.records[ModelId(model)])

    def holding(self, model: str, *pods: str, **more: object) -> Copy:
        self.stage.holding([model])
        self.stage.later(2 * HOUR)
        self.record(model, *pods, **more)  # type: ignore[arg-type] # as of `record`
        self.tick()
        self.pod.cache.decisions = Decisions()
        return self.stage.copy(f"{model}#1")

    def call(self, model: str, times: int) -> None:
        for _ in range(times):
            self.stage.leave(self.stage.enter(model))

    def tick(self, after: int = 10_000) -> list[Order]:
        self.stage.later(after)
        return [order for part in self.scaling.tick(self.stage.now) for order in part]

    def sweep(self) -> list[Order]:
        return [order for part in self.scaling.sweep(self.stage.now) for order in part]

    @property
    def noted(self) -> list[Decision]:
        found = list(self.pod.cache.decisions)
        for decision in found:
            assert decision.evidence is not None
            assert decision.evidence.again() == decision.outcome
        return found

    def bounded(self, model: str, bounds: Bounds) -> None:
        self.pod.alias_changed(AliasId("alias"), AliasRecord(ModelId(model), ModelId(model), bounds=bounds))


# More copies


def test_a_hot_model_gets_its_copies_at_the_next_tick() -> None:
    mesh = Mesh()
    mesh.holding("m")
    mesh.call("m", 250)
    assert mesh.tick() == [AddCopies(ModelId("m"), 2, frozenset({HERE}), Millis(mesh.stage.now + 20_000))]
    (noted,) = mesh.noted
    assert (noted.kind, noted.model, noted.outcome) == (Kind.SCALE_UP, "m", "2")
    assert noted.reason == "1500 calls a minute here, about 1500 in all, threshold 600 a copy: 2 more beside 1"


def test_calls_that_waited_for_the_load_count_as_well() -> None:
    mesh = Mesh(threshold=60)
    for _ in range(30):
        mesh.stage.want("m")
    mesh.stage.loaded("m#1")
    mesh.record("m")
    (order,) = mesh.tick()
    assert isinstance(order, AddCopies)


def test_a_tick_that_comes_at_once_again_is_passed_over_and_its_calls_count_at_the_next() -> None:
    mesh = Mesh()
    mesh.holding("m")
    mesh.call("m", 60)
    assert mesh.tick(5_999) == []
    mesh.call("m", 60)
    (order,) = mesh.tick(4_001)
    assert isinstance(order, AddCopies)


def test_only_models_in_use_are_looked_at_and_each_once() -> None:
    mesh = Mesh()
    mesh.holding("m")
    mesh.call("m", 5)
    assert len(mesh.pod.cache.used) == 1
    mesh.tick()
    assert mesh.pod.cache.used == []
    assert mesh.tick() == []


def test_many_models_are_looked_at_in_parts() -> None:
    mesh = Mesh(capacity=100_000)
    for number in range(600):
        mesh.stage.holding([f"m{number}"])
    mesh.stage.later(10_000)
    assert [len(part) for part in mesh.scaling.tick(mesh.stage.now)] == [0, 0]


def test_while_copies_are_ordered_and_until_they_show_no_more_are() -> None:
    mesh = Mesh()
    mesh.holding("m")
    mesh.call("m", 200)
    (order,) = mesh.tick()
    assert isinstance(order, AddCopies)
    assert order.copies == 2
    mesh.call("m", 150)
    assert mesh.tick() == [], "the order is being carried out"
    mesh.scaling.asked(ModelId("m"), [PodId("p0"), PodId("p1")], mesh.stage.now)
    mesh.call("m", 120)
    assert mesh.tick(9_999) == [], "both were asked just now"
    assert mesh.noted[-1].reason.endswith("its 3 copies suffice, 2 of them still load")
    mesh.record("m", loading=["p0"])
    mesh.call("m", 250)
    (again,) = mesh.tick()
    assert isinstance(again, AddCopies)
    assert mesh.noted[-1].evidence.inputs()["declined"] == ["p1"]  # type: ignore[union-attr] # checked by `noted`
    assert (again.copies, again.avoid) == (1, frozenset({HERE, *mesh.others[:2]})), "p1 had time and has none"


def test_a_pod_that_took_nothing_on_is_asked_again_a_minute_later() -> None:
    mesh = Mesh()
    mesh.holding("m")
    mesh.scaling.asked(ModelId("m"), [PodId("p1")], mesh.stage.now)
    mesh.scaling.asked(ModelId("m"), [], mesh.stage.now)
    mesh.tick(59_000)
    mesh.call("m", 100)
    (order,) = mesh.tick()
    assert isinstance(order, AddCopies)
    assert order.avoid == {HERE}


def test_pods_that_are_far_busier_or_failed_or_are_aside_get_none() -> None:
    mesh = Mesh(others=4)
    mesh.instance("p0", rpm=2_401)
    mesh.pod.pods.fails(PodId("p2"))
    mesh.holding("m", failed=["p1"])
    mesh.call("m", 500)
    (order,) = mesh.tick()
    assert isinstance(order, AddCopies)
    assert order.copies == 1, "p3 is left"
    assert order.avoid == {HERE, "p0"}
    mesh.rpm = 10_000
    mesh.scaling.asked(ModelId("m"), [], mesh.stage.now)
    mesh.call("m", 500)
    (order,) = mesh.tick()
    assert isinstance(order, AddCopies)
    assert order.copies == 2, "beside this one p0 is not busy"


def test_what_was_declined_is_written_down_once() -> None:
    mesh = Mesh()
    mesh.holding("m")
    mesh.bounded("m", Bounds(most=1))
    for _ in range(3):
        mesh.call("m", 500)
        assert mesh.tick() == []
    (noted,) = mesh.noted
    assert (noted.outcome, "maximum of 1" in noted.reason) == ("0", True)


def test_alone_or_without_a_record_nothing_is_decided() -> None:
    alone = Mesh(others=0)
    alone.holding("m")
    alone.call("m", 500)
    assert (alone.tick(), alone.noted) == ([], [])
    deleted = Mesh()
    deleted.holding("m")
    deleted.call("m", 500)
    deleted.records.clear()
    assert deleted.tick() == []


def test_a_pod_that_leaves_or_has_no_runtime_changes_nothing() -> None:
    mesh = Mesh()
    mesh.holding("m", "p0", "p1")
    mesh.call("m", 500)
    mesh.stage.tell(RuntimeLost(down=False))
    assert (mesh.tick(), mesh.sweep()) == ([], [])
    mesh.stage.tell(RuntimeReturned(emptied=False))
    assert mesh.tick() == [], "its calls are forgotten"
    mesh.stage.tell(PodLeaves())
    mesh.call("m", 500)
    assert (mesh.tick(), mesh.sweep()) == ([], [])


def test_a_copy_that_drains_asks_for_no_more() -> None:
    mesh = Mesh(capacity=250)
    mesh.holding("m")
    mesh.call("m", 500)
    mesh.stage.enter("m")
    mesh.stage.want("a")
    mesh.stage.want("b")
    assert mesh.stage.states()["m#1"] == "draining"
    assert mesh.tick() == []


def test_a_model_used_again_and_again_gets_a_second_copy() -> None:
    mesh = Mesh()
    mesh.holding("m")
    mesh.call("m", 1)
    assert mesh.tick() == []
    mesh.stage.later(500_000)
    mesh.call("m", 1)
    before = mesh.stage.now - 500_000
    assert mesh.tick() == [AddCopies(ModelId("m"), 1, frozenset({HERE}), Millis(before))]
    (noted,) = mesh.noted
    assert noted.reason == "it is used again and again: a second copy"


# Where the runtime takes only some calls at a time


def test_a_copy_that_is_busy_all_the_time_gets_company_and_one_with_quick_calls_does_not() -> None:
    mesh = Mesh(limited=True, threshold=600)
    copy = mesh.holding("m")
    copy.concurrency, copy.timed, copy.busy = 1, 100, 9_500.0
    mesh.call("m", 100)
    (order,) = mesh.tick()
    assert isinstance(order, AddCopies)
    assert order.copies == 1
    mesh.scaling.asked(ModelId("m"), [], mesh.stage.now)
    copy.timed, copy.busy = 100, 1_000.0
    mesh.call("m", 100)
    assert mesh.tick() == []


def test_few_timed_calls_are_judged_with_those_of_the_window_before() -> None:
    mesh = Mesh(limited=True, threshold=600)
    copy = mesh.holding("m")
    for calls, orders in ((5, 0), (5, 0), (95, 1)):
        copy.timed, copy.busy = 5, 500.0
        mesh.call("m", calls)
        assert len(mesh.tick()) == orders, calls


def test_calls_that_wait_count() -> None:
    mesh = Mesh(limited=True, threshold=600)
    copy = mesh.holding("m")
    copy.timed, copy.busy = 100, 10_000.0
    for _ in range(91):
        mesh.stage.enter("m")
    (order,) = mesh.tick()
    assert isinstance(order, AddCopies)
    assert "waiting" in mesh.noted[0].evidence.inputs()  # type: ignore[union-attr] # checked by `noted`


def test_calls_of_the_lane_that_wait_count_too() -> None:
    mesh = Mesh(limited=True, threshold=600)
    copy = mesh.holding("m")
    copy.account, copy.timed, copy.busy = Straight(calls=1, waiting=90), 100, 10_000.0
    mesh.call("m", 1)
    (order,) = mesh.tick()
    assert isinstance(order, AddCopies)


# Fewer copies


def test_copies_beyond_two_are_given_back_once_the_load_is_gone() -> None:
    mesh = Mesh()
    copy = mesh.holding("m", "p0", "p1")
    (order,) = mesh.sweep()
    assert isinstance(order, GiveBack)
    assert (order.copy, set(order.others)) == (copy.id, {"p0", "p1"})
    assert order.edit == GiveBackCopy(
        *(ModelId("m"), HERE, copy.created, copy.last_used, mesh.stage.now),
        *(frozenset({HERE, PodId("p0"), PodId("p1")}), frozenset({PodId("p0"), PodId("p1")}), 2),
    )
    (noted,) = mesh.noted
    assert (noted.kind, noted.outcome) == (Kind.SCALE_DOWN, "1")


def test_a_copy_that_is_used_is_kept() -> None:
    mesh = Mesh()
    mesh.holding("m", "p0", "p1")
    mesh.call("m", 60)
    mesh.tick()
    assert mesh.sweep() == []
    assert mesh.noted[-1].reason == "360 calls a minute here: the other 2 would be near the threshold of 600 without it"


def test_of_two_copies_the_one_on_the_fuller_pod_goes() -> None:
    mesh = Mesh()
    mesh.holding("m", "p0")
    (order,) = mesh.sweep()
    assert isinstance(order, GiveBack)
    mesh.instance("p0", count=10)
    assert mesh.sweep() == []
    mesh.pod.pod_changed(HERE, None)
    assert mesh.sweep() == [], "others do not see this pod"


def test_a_model_with_one_copy_is_not_looked_at() -> None:
    mesh = Mesh()
    mesh.holding("m")
    assert (mesh.sweep(), mesh.noted) == ([], [])


def test_one_run_gives_back_a_bounded_weight_the_longest_unused_first() -> None:
    mesh = Mesh(capacity=2_000)
    for model in "abc":
        mesh.holding(model, "p0", "p1")
    (order,) = mesh.sweep()
    assert isinstance(order, GiveBack)
    assert order.copy.model == "a"


def test_surplus_above_a_maximum_goes_at_the_next_tick() -> None:
    mesh = Mesh()
    mesh.holding("m", "p0", "p1")
    mesh.holding("n", "p0")
    mesh.bounded("m", Bounds(most=2))
    mesh.call("m", 500)
    (order,) = mesh.tick()
    assert isinstance(order, GiveBack)
    assert order.why == "3 copies are more than the maximum of 2"
    mesh.bounded("n", Bounds(most=2))
    assert mesh.tick() == []
    mesh.bounded("elsewhere", Bounds(most=2))
    mesh.stage.holding(["unregistered"])
    mesh.bounded("unregistered", Bounds(most=2))
    assert mesh.tick() == []


def test_of_many_bounded_models_those_here_are_looked_at() -> None:
    mesh = Mesh()
    mesh.holding("m", "p0", "p1")
    for number in range(5):
        alias = AliasId(f"a{number}")
        model = ModelId("m" if number == 4 else f"other-{number}")
        mesh.pod.alias_changed(alias, AliasRecord(model, model, bounds=Bounds(most=2)))
    (order,) = mesh.tick()
    assert isinstance(order, GiveBack)


def test_surplus_that_has_to_wait_is_not_written_down_by_each_tick() -> None:
    mesh = Mesh()
    mesh.holding("m", loading=["p0", "p1"])
    mesh.bounded("m", Bounds(most=2))
    assert (mesh.tick(), mesh.noted) == ([], [])


def test_a_copy_whose_record_does_not_show_it_is_not_given_back() -> None:
    mesh = Mesh()
    copy = mesh.holding("m", "p0", "p1")
    mesh.records[ModelId("m")] = mesh.records[ModelId("m")].with_(copies={PodId("p0"): Millis(1), PodId("p1"): Millis(1)})
    assert mesh.sweep() == []
    mesh.record("m", "p0", "p1")
    copy.registered = False
    assert mesh.sweep() == []


# A copy that the mesh can do without


def spared(stage: Stage) -> GiveBackCopy:
    copy = stage.copy("m#1")
    stage.registers = False
    edit = GiveBackCopy(ModelId("m"), HERE, copy.created, stage.now, stage.now, frozenset({HERE}), frozenset(), 1)
    assert stage.tell(CopySpared(copy.id, edit, "2 others suffice")) == []
    return edit


def test_a_copy_leaves_its_record_before_it_leaves_the_runtime() -> None:
    stage = Stage().holding(["m"])
    edit = spared(stage)
    assert stage.edits[-1] == edit
    assert stage.pod.settled(ModelId("m")) is None, "the record is not put right meanwhile"
    stage.tell(CopySpared(copy_id("m#1"), edit, "once more"))
    assert stage.edits.count(edit) == 1
    call = stage.enter("m")
    assert stage.tell(EditDone(copy_id("m#1"))) == []
    assert stage.states() == {"m#1": "draining"}
    assert stage.leave(call) == ["unload m#1"]
    assert [line.text for line in stage.pod.story(ModelId("m"))][-3] == "to be given back: 2 others suffice"


def test_a_copy_that_is_needed_after_all_stays_and_its_record_is_put_right() -> None:
    stage = Stage().holding(["m"])
    spared(stage)
    stage.tell(EditRefused(copy_id("m#1"), NotHere("copies came or went")))
    assert stage.states() == {"m#1": "ready"}
    assert stage.last_line("m") == "kept: copies came or went"
    assert type(stage.edits[-1]).__name__ == "SettleCopy"
    assert stage.pod.settled(ModelId("m")) is not None


def test_without_a_registry_a_copy_stays() -> None:
    stage = Stage().holding(["m"])
    spared(stage)
    stage.tell(EditFailed(copy_id("m#1"), StoreUnavailable("away")))
    assert stage.states() == {"m#1": "ready"}
    assert stage.pod.settled(ModelId("m")) is not None


# What was evicted


@pytest.mark.parametrize(
    ("change", "loaded"),
    [("nothing", True), ("young", False), ("elsewhere", False), ("full", False), ("alone", False), ("deleted", False), ("unknown", False)],
)
def test_an_evicted_model_is_loaded_where_there_is_room(change: str, loaded: bool) -> None:
    mesh = Mesh(others=0 if change == "alone" else 2, capacity=250)
    stage = mesh.stage
    stage.holding(["a", "b"])
    stage.later(0 if change == "young" else 100_000)
    mesh.record("a", *(["p0"] if change == "elsewhere" else []))
    if change == "full":
        for pod in mesh.others:
            mesh.instance(pod, used=Units(9_990))
    if change == "deleted":
        mesh.records.clear()
    stage.copy("a#1").registered = change != "unknown"
    stage.want("c")
    assert stage.evicted == ["a"]
    assert [order.model for order in stage.elsewhere] == (["a"] if loaded else [])
    assert all(outcome is Outcome.ENTERED for _, outcome, _ in stage.released)


def test_sums_over_the_pods_are_kept_for_a_second() -> None:
    mesh = Mesh(others=2)
    now = mesh.stage.now
    assert mesh.pod.subset("test", now).pods == 3
    mesh.instance("p9")
    assert mesh.pod.subset("test", Millis(now + 999)).pods == 3
    assert mesh.pod.subset("test", Millis(now + 1_000)).pods == 4
