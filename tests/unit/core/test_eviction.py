"""Memory is two sums: what is granted and what is leaving. The copy used longest ago makes room, only as much as is needed."""

from __future__ import annotations

from mesh.core.errors import RuntimeUnavailable
from mesh.core.events import LastCallEnded, ModelDeleted, RuntimeForgot, TimePassed
from mesh.core.ids import ModelId, PodId
from mesh.core.instructions import Outcome
from mesh.core.registry.instances import InstanceRecord
from mesh.core.units import Units
from tests.unit.core.stage import INFO, Stage, copy_id, names


def a_gibibyte() -> Stage:
    """The reference's worked example: 1 GiB, models of 50 MiB, six slots: a reserve of 75 MiB, 18 models."""
    return Stage(capacity=131_072, default=6_400, slots=6)


def test_the_reserve_is_the_references_figure() -> None:
    policy = a_gibibyte().pod.cache.policy
    assert (policy.reserve, policy.room) == (9_600, 121_472)


def test_eighteen_models_fit_and_none_is_evicted() -> None:
    stage = a_gibibyte().holding(names(18))
    assert stage.evicted == []
    assert stage.pod.cache.space.free == 121_472 - 18 * 6_400


def test_a_load_starts_beside_two_leaving_copies_and_waits_behind_three() -> None:
    stage = a_gibibyte().holding(names(18))
    assert stage.want("m18") == ["unload m0#1", "load m18#1"]
    assert stage.want("m19") == ["unload m1#1", "load m19#1"]
    assert stage.want("m20") == ["unload m2#1"]
    assert stage.unloaded("m0#1") == ["load m20#1"]
    assert stage.last_line("m20") == "claiming -> loading: there is room"
    assert stage.last_line("m1") == "ready -> unloading: evicted for m19, last used 16000 ms ago"


def test_the_oldest_is_evicted_whatever_the_order_of_loading() -> None:
    stage = Stage(capacity=1000, default=300, slots=2).holding(["a", "b", "c"])
    stage.later(1)
    stage.leave(stage.enter("a"))
    assert stage.want("d") == ["unload b#1"]
    assert stage.unloaded("b#1") == ["load d#1"]
    assert stage.evicted == ["b"]


def test_idle_copies_go_before_busy_ones() -> None:
    stage = Stage(capacity=1000, default=300, slots=1).holding(["a", "b", "c"])
    stage.enter("a")
    stage.enter("b")
    for name in "cba":  # the idle one is the least recently used of its kind, not of all
        stage.copy(f"{name}#1").last_used = stage.now
    assert stage.want("d") == ["unload c#1"]


def test_if_none_is_idle_the_one_whose_last_call_began_longest_ago_drains() -> None:
    stage = Stage(capacity=1000, default=300, slots=1).holding(["a", "b", "c"])
    calls = {}
    for name in "bca":
        stage.later(10)
        calls[name] = stage.enter(name)
    assert stage.want("d") == []
    assert stage.states()["b#1"] == "draining"
    assert stage.pod.enter(ModelId("b"), stage.now) is None
    assert stage.leave(calls["b"])[0] == "unload b#1"
    stage.unloaded("b#1")
    assert stage.states()["d#1"] == "loading"


def test_a_call_that_outlives_the_drain_limit_does_not_keep_the_memory() -> None:
    stage = Stage(capacity=1000, default=300, slots=1).holding(["a", "b", "c"])
    calls = [stage.enter(name) for name in "abc"]
    stage.want("d")
    due = stage.pod.next_due()
    assert due == stage.now + 120_000
    stage.later(120_000)
    assert stage.tell(TimePassed()) == ["end calls a#1", "unload a#1"]
    assert stage.leave(calls[0]) == []
    assert stage.tell(LastCallEnded(copy_id("a#1"))) == []


def test_those_who_waited_keep_a_new_copy_from_being_the_next_victim() -> None:
    """Fifty cold models in room for three: fifty loads, not one more."""
    stage = Stage(capacity=1000, default=300, slots=3)
    loads = [order for name in names(50) for order in stage.want(name)]
    for step in range(1000):
        if step >= len(loads):
            break
        kind, _, copy = loads[step].partition(" ")
        loads += stage.loaded(copy) if kind == "load" else stage.unloaded(copy)
        if kind == "load":
            loads += stage.leave_all(copy.partition("#")[0])
        stage.check()
    assert sum(order.startswith("load ") for order in loads) == 50
    assert sum(outcome is Outcome.ENTERED for _, outcome, _ in stage.released) == 50


def test_a_model_larger_than_predicted_evicts_others_not_itself() -> None:
    stage = Stage(capacity=1000, default=200, slots=2).holding(names(4))
    stage.later(5)
    assert stage.want("big") == ["unload m0#1", "load big#1"]
    assert stage.loaded("big#1", size=500) == ["unload m1#1"]
    assert stage.states()["big#1"] == "ready"
    assert stage.pod.cache.space.granted == 900


def test_a_model_larger_than_everything_stays_alone_and_says_so() -> None:
    stage = Stage(capacity=1000, default=200)
    stage.want("huge")
    stage.loaded("huge#1", size=2000)
    assert stage.states() == {"huge#1": "ready"}
    assert stage.last_line("huge").startswith("larger than all there is")


def test_a_background_load_displaces_nothing_that_was_used_more_recently() -> None:
    stage = Stage(capacity=1000, default=300).holding(["a", "b", "c"])
    old = stage.now - 60_000
    assert stage.want("d", urgent=False, last_used=old) == []
    model, outcome, error = stage.released[-1]
    assert (model, outcome, str(error)) == ("d", Outcome.FAILED, "Nowhere available to load")
    assert stage.evicted == []


def test_a_load_that_nobody_waits_for_spares_what_is_in_brisk_use() -> None:
    stage = Stage(capacity=1000, default=300).holding(["a", "b", "c"])
    stage.later(1000)
    assert stage.want("d", urgent=False, waits=False) == []
    assert stage.last_line("d") == "claiming -> gone: Cache churn threshold exceeded"
    stage.later(stage.pod.cache.policy.churn_age)
    assert stage.want("d", urgent=False, waits=False)[0] == "unload a#1"


def test_many_refused_background_loads_do_not_hold_up_each_other() -> None:
    stage = Stage(capacity=1000, default=300, slots=1).holding(["a", "b", "c"])
    stage.want("urgent")
    for name in names(3000):
        stage.want(name, urgent=False, waits=False, last_used=1)
    stage.unloaded("a#1")
    stage.loaded("urgent#1")
    assert not stage.pod.cache.queue
    assert stage.states() == {"b#1": "ready", "c#1": "ready", "urgent#1": "ready"}


def test_a_copy_that_the_runtime_forgot_is_cleared_and_loads_again_after_that() -> None:
    stage = Stage().holding(["m"])
    call = stage.enter("m")
    assert stage.tell(RuntimeForgot(copy_id("m#1"))) == ["unload m#1"]
    assert stage.leave(call) == []
    assert stage.want("m") == []
    assert stage.states() == {"m#2": "queued", "m#1": "unloading"}
    assert stage.tell(RuntimeForgot(copy_id("m#1"))) == []
    assert stage.unloaded("m#1") == ["load m#2"]


def test_a_draining_copy_that_the_runtime_forgot_is_unloaded_at_once() -> None:
    stage = Stage(capacity=1000, default=300, slots=1).holding(["a", "b", "c"])
    for name in "abc":
        stage.enter(name)
    stage.want("d")
    assert stage.tell(RuntimeForgot(copy_id("a#1"))) == ["unload a#1"]


def test_a_model_that_is_still_leaving_does_not_hold_up_the_claims_behind_it() -> None:
    stage = Stage(slots=2).holding(["m"])
    stage.tell(RuntimeForgot(copy_id("m#1")))
    stage.want("m")
    assert stage.want("other") == ["load other#1"]


def test_an_unload_that_fails_is_repeated_and_its_memory_stays_counted() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeForgot(copy_id("m#1")))
    stage.unload_failed("m#1")
    assert stage.pod.next_due() == stage.now + 1_000
    stage.later(1_000)
    assert stage.tell(TimePassed()) == ["unload m#1"]
    stage.unload_failed("m#1")
    assert stage.pod.next_due() == stage.now + 10_000
    assert stage.pod.cache.space.leaving == Units(100)


def test_an_unload_that_failed_for_good_is_tried_rarely() -> None:
    stage = Stage().holding(["m"])
    stage.tell(RuntimeForgot(copy_id("m#1")))
    for _ in range(90):
        stage.unload_failed("m#1")
        stage.later(10_000)
        assert stage.tell(TimePassed()) == ["unload m#1"] or stage.copy("m#1").tries == 90
    assert stage.copy("m#1").tries == 90
    due = stage.pod.next_due()
    assert due is not None
    assert due > stage.now + 10_000


def among_others(stage: Stage) -> Stage:
    stage.pod.pods.instance_changed(PodId("there"), InstanceRecord(endpoint="there:1"))
    return stage


def test_who_waits_for_room_that_unloads_do_not_give_back_is_sent_to_the_others() -> None:
    stage = among_others(Stage(capacity=250, default=100, slots=3).holding(["a", "b"]))
    stage.want("c")
    stage.want("d")
    assert stage.states() == {"a#1": "unloading", "b#1": "ready", "c#1": "claiming", "d#1": "claiming"}
    stage.tell(RuntimeForgot(copy_id("b#1")))
    stage.unload_failed("b#1")
    assert stage.released[2:] == [], "the other one may still be unloaded"
    stage.unload_failed("a#1")
    assert stage.states() == {"a#1": "unloading", "b#1": "unloading"}
    assert [(model, outcome, type(error)) for model, outcome, error in stage.released[2:]] == [
        ("c", Outcome.FAILED, RuntimeUnavailable),
        ("d", Outcome.FAILED, RuntimeUnavailable),
    ]
    assert str(stage.released[2][2]) == "pod here has no room for model c: its model server does not unload a, b"
    stage.unloaded("a#1")
    assert stage.want("c") == ["load c#2"]


def test_on_the_only_pod_a_claim_waits_for_unloads_that_fail() -> None:
    stage = Stage(capacity=250, default=100, slots=3).holding(["a", "b"])
    stage.want("c")
    stage.unload_failed("a#1")
    assert stage.states()["c#1"] == "claiming"


def test_a_model_whose_earlier_copy_is_not_unloaded_is_loaded_elsewhere() -> None:
    stage = among_others(Stage().holding(["m"]))
    stage.tell(RuntimeForgot(copy_id("m#1")))
    stage.want("m")
    stage.unload_failed("m#1")
    model, outcome, error = stage.released[-1]
    assert (model, outcome, type(error)) == ("m", Outcome.FAILED, RuntimeUnavailable)
    assert stage.states() == {"m#1": "unloading"}
    assert type(stage.pod.refusal(ModelId("m"), INFO)) is RuntimeUnavailable
    assert stage.pod.refusal(ModelId("other"), INFO) is None
    stage.unloaded("m#1")
    assert stage.pod.refusal(ModelId("m"), INFO) is None


def test_a_claim_waits_while_all_that_could_go_is_still_coming() -> None:
    stage = Stage(capacity=250, default=100, slots=3)
    assert [stage.want(name) for name in "abc"] == [["load a#1"], ["load b#1"], []]
    assert stage.states()["c#1"] == "claiming"
    stage.loaded("a#1")
    assert stage.states()["a#1"] == "draining"
    assert stage.leave_all("a") == ["unload a#1"]
    assert stage.unloaded("a#1") == ["load c#1"]


def test_the_oldest_is_told_without_evicting_it() -> None:
    stage = Stage().holding(["a", "b"])
    stage.later(1)
    stage.enter("a")
    oldest = stage.pod.cache.recency.oldest()
    assert oldest is not None
    assert str(oldest.id) == "b#1"
    assert Stage().pod.cache.recency.oldest() is None


def test_entries_of_copies_that_went_do_not_pile_up() -> None:
    stage = Stage(capacity=100_000, default=10)
    for name in names(500):
        stage.holding([name])
        stage.tell(ModelDeleted(ModelId(name)))
        stage.unloaded(f"{name}#1")
    assert len(stage.pod.cache.recency) <= 64
