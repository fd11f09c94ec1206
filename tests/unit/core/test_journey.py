"""The way of a call: to the copy here, to a better one elsewhere, to the pod that loads; and what each failure does to it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mesh.core.errors import (
    DeadlineExceeded,
    Failed,
    Leaving,
    LoadFailed,
    MeshError,
    NoRuntime,
    NotHere,
    Nowhere,
    Outlived,
    Overloaded,
    PeerUnavailable,
    RuntimeDown,
    RuntimeUnavailable,
    Unknown,
)
from mesh.core.events import LoadWanted, RuntimeForgot, RuntimeLost
from mesh.core.ids import ModelId, PodId
from mesh.core.instructions import Outcome
from mesh.core.placement.constraints import Constraints
from mesh.core.placement.places import FEW
from mesh.core.registry.instances import InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.hops import Hop, Kind, Load
from mesh.core.routing.journey import Journey
from mesh.core.routing.steps import Forward, Purpose, Refuse, Serve, Step, View, WaitFor
from mesh.core.units import Millis, Units
from tests.unit.core.stage import HERE, INFO, Stage, copy_id

M, A, B, C = ModelId("m"), PodId("a"), PodId("b"), PodId("c")
EARLY, LATE = Millis(100), Millis(200)


def first(_: int) -> int:
    return 0


class Mesh:
    """A pod on its stage, others around it, and one model."""

    def __init__(self, *others: PodId, record: ModelRecord | None = None, labels: str = "") -> None:
        self.stage = Stage()
        self.models = {M: record or ModelRecord(INFO)}
        for pod in others:
            self.joins(pod)
        self.view = View(self.stage.pod, self.models, lambda: self.stage.pod.figures(self.figures("here:1")), lambda _: frozenset())
        if labels:
            self.stage.pod.constraints = Constraints.parse(f'{{"test": {{"required": ["{labels}"]}}}}')

    @property
    def now(self) -> Millis:
        return self.stage.now

    @staticmethod
    def figures(endpoint: str) -> InstanceRecord:
        return InstanceRecord(capacity=Units(1_000_000), load_threads=2, endpoint=endpoint)

    def joins(self, pod: PodId, *, endpoint: str = "somewhere:1", labels: Iterable[str] = (), leaving: bool = False) -> None:
        record = self.figures(endpoint).with_(labels=tuple(labels), shutting_down=leaving)
        self.stage.pod.pods.instance_changed(pod, record)

    def has(self, **fields: object) -> None:
        self.models[M] = self.models[M].with_(**fields)
        self.stage.pod.pods.model_changed(M, self.models[M])

    def loads_here(self) -> None:
        self.stage.want("m")
        self.stage.loaded("m#1")
        copy = self.stage.copy("m#1")
        assert copy is not None
        self.has(copies={**self.models[M].copies, HERE: copy.created}, ready={**self.models[M].ready, HERE: self.now})

    def journey(self, purpose: Purpose | None = None) -> Journey:
        return Journey(M, self.view, purpose or Purpose())

    def next(self, journey: Journey) -> Step:
        return journey.next(self.now, first)


def forwarded(step: Step) -> tuple[Kind, PodId]:
    assert isinstance(step, Forward), step
    return step.hop.kind, step.hop.dest


def refused(step: Step) -> MeshError:
    assert isinstance(step, Refuse), step
    return step.error


def asked(kind: Kind, **fields: object) -> Purpose:
    return Purpose(hop=Hop(kind, M, A, HERE, **fields))  # type: ignore[arg-type]


# Alone


def test_a_call_waits_for_a_cold_model_and_is_served_by_a_warm_one() -> None:
    mesh = Mesh()
    journey = mesh.journey()
    assert mesh.next(journey) == WaitFor(LoadWanted(M, INFO, mesh.now, urgent=True, waits=True, beside=frozenset()))
    mesh.loads_here()
    assert mesh.next(journey) == Serve(mesh.stage.copy("m#1"))


def test_a_call_for_an_unknown_model_is_refused() -> None:
    mesh = Mesh()
    mesh.models.clear()
    assert isinstance(refused(mesh.next(mesh.journey())), Unknown)


def test_a_call_gives_up_after_eight_rounds() -> None:
    mesh = Mesh()
    journey = mesh.journey()
    steps = [mesh.next(journey) for _ in range(9)]
    assert all(isinstance(step, WaitFor) for step in steps[:8])
    assert refused(steps[8]).message == "8 retry iterations exhausted for model m"


def test_reloading_a_forgotten_model_helps_a_call_once() -> None:
    journey = Mesh().journey()
    assert (journey.again(), journey.again()) == (True, False)


def test_a_pod_alone_waits_for_its_runtime_that_is_down() -> None:
    mesh = Mesh()
    mesh.loads_here()
    mesh.stage.tell(RuntimeLost(down=True))
    assert isinstance(mesh.next(mesh.journey()), WaitFor)


def test_a_failed_load_on_the_only_pod_is_what_callers_hear_until_it_may_be_tried_again() -> None:
    mesh = Mesh()
    mesh.stage.want("m")
    mesh.stage.failed("m#1", "broken")
    assert refused(mesh.next(mesh.journey())).message == "broken"


def test_an_end_that_is_no_step_ends_the_journey() -> None:
    assert Mesh().journey().failed(Refuse(Nowhere("no")), Nowhere("no"), Millis(0)) is False


# To copies that there are


def test_a_ready_copy_elsewhere_is_called_there() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    step = mesh.next(mesh.journey(Purpose(alias="nick")))
    assert step == Forward(Hop(Kind.HIT, M, HERE, A, "nick", mesh.now), (A, EARLY))


def test_of_ready_copies_the_less_busy_serves_and_of_equals_the_one_chosen_longer_ago() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={A: EARLY, B: EARLY}, ready={A: LATE, B: LATE})
    pods = mesh.stage.pod.pods
    assert forwarded(mesh.next(mesh.journey())) == (Kind.HIT, A)
    pods.began(A)
    assert forwarded(mesh.next(mesh.journey())) == (Kind.HIT, B)
    pods.began(B)
    pods.reported(B, Load(calls=5), mesh.now)
    assert forwarded(mesh.next(mesh.journey())) == (Kind.HIT, A)
    pods.ended(A)
    pods.ended(B)
    assert pods.calls(B, mesh.now) == 5
    pods.reported(B, Load(calls=0), mesh.now)
    assert forwarded(mesh.next(mesh.journey())) == (Kind.HIT, A)


def test_unbalanced_calls_spread_over_the_copy_here_and_those_elsewhere() -> None:
    mesh = Mesh(A)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    mesh.loads_here()
    pods, served = mesh.stage.pod.pods, []
    for _ in range(4):
        step = mesh.next(mesh.journey())
        served.append(HERE if isinstance(step, Serve) else forwarded(step)[1])
        pods.began(served[-1])
        pods.ended(served[-1])
    assert sorted(served) == [A, A, HERE, HERE]


def test_a_pod_that_leaves_serves_from_its_copy_only_while_there_is_no_other() -> None:
    mesh = Mesh(A)
    mesh.loads_here()
    mesh.stage.pod.leaving = True
    assert isinstance(mesh.next(mesh.journey()), Serve)
    mesh.has(copies={**mesh.models[M].copies, A: EARLY})
    assert isinstance(mesh.next(mesh.journey()), Serve)
    mesh.has(ready={**mesh.models[M].ready, A: LATE})
    assert [forwarded(mesh.next(mesh.journey())) for _ in range(2)] == [(Kind.HIT, A)] * 2


def test_a_caller_that_balances_by_itself_is_served_here_if_there_is_a_copy() -> None:
    mesh = Mesh(A)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    mesh.loads_here()
    mesh.stage.pod.pods.began(HERE)
    assert isinstance(mesh.next(mesh.journey(Purpose(balanced=True))), Serve)


def test_where_calls_stand_in_line_a_caller_that_balances_is_served_here_unless_another_copy_is_less_busy() -> None:
    mesh = Mesh(A)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    mesh.loads_here()
    mesh.stage.pod.limited = True
    pods = mesh.stage.pod.pods
    assert all(isinstance(mesh.next(mesh.journey(Purpose(balanced=True))), Serve) for _ in range(5))
    pods.began(HERE)
    assert forwarded(mesh.next(mesh.journey(Purpose(balanced=True)))) == (Kind.HIT, A)


def test_a_copy_on_which_a_call_was_tried_before_it_came_is_the_first_and_is_not_tried_again() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={A: EARLY, B: EARLY}, ready={A: LATE, B: LATE})
    mesh.loads_here()
    for pod in (A, B, HERE):
        journey = mesh.journey(Purpose(balanced=True, first=pod) if pod == HERE else Purpose(first=pod))
        step = mesh.next(journey)
        assert (HERE if isinstance(step, Serve) else forwarded(step)[1]) == pod
        assert journey.failed(step, PeerUnavailable("gone") if pod != HERE else RuntimeUnavailable("gone"), mesh.now)
        following = mesh.next(journey)
        assert (HERE if isinstance(following, Serve) else forwarded(following)[1]) != pod


def test_one_that_was_tried_where_there_is_no_copy_any_more_goes_its_usual_way() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    assert forwarded(mesh.next(mesh.journey(Purpose(first=B)))) == (Kind.HIT, A)


def test_of_copies_that_are_loading_the_first_one_is_waited_for() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={A: LATE, B: EARLY})
    assert forwarded(mesh.next(mesh.journey())) == (Kind.HIT, B)
    mesh.stage.want("m")
    mesh.has(copies={A: LATE, HERE: EARLY})
    mesh.stage.pod.copy(M).created = EARLY  # type: ignore[union-attr]
    assert isinstance(mesh.next(mesh.journey()), WaitFor)


def test_a_copy_here_that_the_record_does_not_show_is_used_all_the_same() -> None:
    mesh = Mesh(A)
    mesh.stage.want("m")
    mesh.stage.loaded("m#1")
    assert isinstance(mesh.next(mesh.journey()), Serve)
    mesh.has(copies={A: EARLY})
    assert isinstance(mesh.next(mesh.journey()), Serve)


def test_a_registration_of_this_pod_without_a_copy_does_not_keep_it_from_loading() -> None:
    mesh = Mesh()
    mesh.has(copies={HERE: EARLY}, ready={HERE: LATE})
    step = mesh.next(mesh.journey())
    assert isinstance(step, WaitFor)
    assert step.wanted.beside == frozenset({HERE})


def test_copies_of_dead_pods_and_of_routers_of_another_kind_do_not_count() -> None:
    mesh = Mesh()
    mesh.joins(B, endpoint="")
    mesh.has(copies={A: EARLY, B: EARLY}, ready={A: LATE})
    step = mesh.next(mesh.journey())
    assert isinstance(step, WaitFor)
    assert step.wanted.beside == frozenset({A, B})


def test_a_ready_copy_elsewhere_helps_while_the_runtime_here_is_down_and_without_one_it_is_loaded_elsewhere() -> None:
    mesh = Mesh(A)
    mesh.loads_here()
    mesh.stage.tell(RuntimeLost(down=True))
    assert forwarded(mesh.next(mesh.journey())) == (Kind.LOAD, A)
    mesh.has(copies={**mesh.models[M].copies, A: EARLY}, ready={A: LATE})
    assert forwarded(mesh.next(mesh.journey())) == (Kind.HIT, A)


def test_a_pod_whose_runtime_is_down_sends_calls_of_other_pods_back() -> None:
    mesh = Mesh(A)
    mesh.loads_here()
    mesh.stage.tell(RuntimeLost(down=True))
    for kind in Kind:
        error = refused(mesh.next(mesh.journey(asked(kind))))
        assert isinstance(error, RuntimeDown)
        assert "model server of pod here is down" in error.message


def test_a_pod_that_cannot_load_at_present_serves_what_it_has_and_sends_the_rest_back() -> None:
    mesh = Mesh(A)
    mesh.loads_here()
    mesh.stage.tell(RuntimeLost(down=False))
    assert mesh.next(mesh.journey(asked(Kind.HIT))) == Serve(mesh.stage.copy("m#1"))
    mesh = Mesh(A)
    mesh.stage.tell(RuntimeLost(down=False))
    assert isinstance(refused(mesh.next(mesh.journey(asked(Kind.LOAD)))), RuntimeDown)
    assert forwarded(mesh.next(mesh.journey())) == (Kind.LOAD, A)
    mesh.stage.want("m")
    assert isinstance(refused(mesh.next(mesh.journey(asked(Kind.HIT)))), RuntimeDown)


def test_a_call_looks_further_when_the_runtime_of_a_pod_is_down_and_in_the_end_waits_for_it() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    mesh.stage.want("m")
    mesh.stage.failed("m#1")
    journey = mesh.journey()
    assert forwarded(step := mesh.next(journey)) == (Kind.HIT, A)
    assert journey.failed(step, RuntimeDown("A is down"), mesh.now)
    assert forwarded(step := mesh.next(journey)) == (Kind.LOAD, B)
    assert journey.failed(step, LoadFailed("broken on B"), mesh.now)
    step = mesh.next(journey)
    assert isinstance(step, Forward)
    assert (step.hop.kind, step.hop.dest, step.hop.tried) == (Kind.HIT, A, frozenset({(A, EARLY)}))
    assert journey.failed(step, PeerUnavailable("A is gone, too"), mesh.now)
    assert refused(mesh.next(journey)).message == "broken on B"


def test_a_pod_that_is_asked_again_although_its_runtime_is_down_waits_for_it() -> None:
    mesh = Mesh(A)
    mesh.loads_here()
    mesh.stage.tell(RuntimeLost(down=True))
    copy = mesh.stage.copy("m#1")
    assert copy is not None
    assert isinstance(mesh.next(mesh.journey(asked(Kind.HIT, tried=frozenset({(HERE, copy.created)})))), WaitFor)
    assert isinstance(mesh.next(mesh.journey(asked(Kind.LOAD, avoid=frozenset({HERE})))), WaitFor)


def test_calls_that_wait_for_a_model_look_elsewhere_when_the_runtime_goes_down_and_come_back_if_there_is_nothing() -> None:
    mesh = Mesh(A)
    journey = mesh.journey()
    mesh.stage.pod.pods.intend(M, HERE, mesh.now)
    step = mesh.next(journey)
    assert isinstance(step, WaitFor)
    mesh.stage.want("m")
    mesh.stage.tell(RuntimeLost(down=True))
    model, outcome, error = mesh.stage.released[-1]
    assert (model, outcome) == ("m", Outcome.FAILED)
    assert isinstance(error, RuntimeDown)
    assert journey.failed(step, error, mesh.now)
    assert forwarded(step := mesh.next(journey)) == (Kind.LOAD, A)
    assert journey.failed(step, Leaving("A is leaving"), mesh.now)
    assert isinstance(mesh.next(journey), WaitFor)


def test_a_cold_model_waits_for_the_runtime_of_a_pod_alone() -> None:
    mesh = Mesh()
    mesh.stage.tell(RuntimeLost(down=True))
    assert isinstance(mesh.next(mesh.journey()), WaitFor)


def test_loading_a_model_that_is_ready_somewhere_marks_that_copy_as_used() -> None:
    mesh = Mesh(A)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    purpose = Purpose(enters=False, last_used=Millis(5), urgent=False)
    step = mesh.next(mesh.journey(purpose))
    assert isinstance(step, Forward)
    assert (step.hop.kind, step.hop.last_used, step.hop.urgent) == (Kind.HIT, 5, False)


def test_loading_a_model_that_is_ready_here_does_not_enter_it_as_a_call() -> None:
    mesh = Mesh()
    mesh.loads_here()
    assert isinstance(mesh.next(mesh.journey(Purpose(enters=False))), WaitFor)


def test_copies_on_pods_to_avoid_do_not_count_and_another_is_made() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    mesh.loads_here()
    assert forwarded(mesh.next(mesh.journey(Purpose(enters=False, avoid=frozenset({HERE, A}))))) == (Kind.LOAD, B)


# To copies to be made


def test_calls_follow_the_pod_chosen_first_until_the_registry_shows_its_copy() -> None:
    mesh = Mesh(A, B)
    pods = mesh.stage.pod.pods
    pods.intend(M, B, mesh.now)
    assert [forwarded(mesh.next(mesh.journey())) for _ in range(3)] == [(Kind.LOAD, B)] * 3
    mesh.has(copies={B: EARLY})
    assert pods.intended(M) is None
    assert forwarded(mesh.next(mesh.journey())) == (Kind.HIT, B)


def test_an_intention_for_a_pod_that_went_is_dropped() -> None:
    mesh = Mesh(A)
    mesh.stage.pod.pods.intend(M, B, mesh.now)
    assert isinstance(mesh.next(mesh.journey()), WaitFor | Forward)
    assert mesh.stage.pod.pods.intended(M) in (A, HERE)


def test_an_intention_for_this_pod_holds_too() -> None:
    mesh = Mesh(A)
    mesh.stage.pod.pods.intend(M, HERE, mesh.now)
    assert isinstance(mesh.next(mesh.journey()), WaitFor)


def test_a_load_that_fails_is_tried_on_other_pods_three_in_all_and_the_runtimes_word_is_the_answer() -> None:
    mesh = Mesh(A, B, C)
    journey = mesh.journey()
    tried = []
    for _ in range(3):
        step = mesh.next(journey)
        pod = HERE if isinstance(step, WaitFor) else forwarded(step)[1]
        tried.append(pod)
        mesh.has(failed={**mesh.models[M].failed, pod: mesh.now}, failures={pod: f"broken on {pod}"})
        assert journey.failed(step, LoadFailed(f"broken on {pod}"), mesh.now)
    assert len(set(tried)) == 3
    assert refused(mesh.next(journey)).message == f"broken on {tried[-1]}"


def test_failures_that_others_saw_stop_a_new_call_with_the_latest_of_them() -> None:
    mesh = Mesh(A, B, C)
    mesh.has(failed={A: mesh.now, B: Millis(mesh.now - 1), C: Millis(mesh.now - 2)}, failures={A: "latest", B: "b", C: "c"})
    assert refused(mesh.next(mesh.journey())).message == "latest"


def test_old_failures_do_not_stop_a_call_but_keep_it_from_those_pods() -> None:
    mesh = Mesh(A, B)
    old = Millis(mesh.now - mesh.stage.pod.cache.policy.failure_expiry)
    mesh.has(failed={A: old, B: old, C: old})
    assert isinstance(mesh.next(mesh.journey()), WaitFor)


def test_five_copies_that_do_not_serve_are_enough() -> None:
    five = [PodId(f"p{number}") for number in range(5)]
    mesh = Mesh(*five, A)
    mesh.has(copies=dict.fromkeys(five, EARLY), ready=dict.fromkeys(five, LATE))
    journey = mesh.journey()
    for _ in five:
        step = mesh.next(journey)
        assert forwarded(step)[0] is Kind.HIT
        assert journey.failed(step, PeerUnavailable("gone"), mesh.now)
    assert refused(mesh.next(journey)).message == "gone"
    new = mesh.journey(Purpose(hop=None))
    for pod in five:
        mesh.stage.pod.pods.fails(pod)
    assert refused(mesh.next(new)).message == "Failed to invoke model loaded in >=5 locations"


def test_a_type_that_no_pod_may_hold_is_refused_with_the_labels_it_needs() -> None:
    mesh = Mesh(A, labels="gpu")
    error = refused(mesh.next(mesh.journey()))
    assert isinstance(error, NoRuntime)
    assert "label requirements of type test: [gpu]" in error.message


def test_a_type_that_only_another_pod_may_hold_is_loaded_there() -> None:
    mesh = Mesh(labels="gpu")
    mesh.joins(A, labels=["gpu"])
    assert forwarded(mesh.next(mesh.journey())) == (Kind.LOAD, A)


def test_where_no_pod_is_left_the_last_error_is_the_answer() -> None:
    mesh = Mesh(A)
    mesh.stage.pod.leaving = True
    journey = mesh.journey()
    step = mesh.next(journey)
    assert forwarded(step) == (Kind.LOAD, A)
    assert journey.failed(step, PeerUnavailable("no answer"), mesh.now)
    assert refused(mesh.next(journey)).message == "no answer"


def test_a_pod_that_leaves_and_has_no_other_says_so() -> None:
    mesh = Mesh()
    mesh.stage.pod.leaving = True
    assert isinstance(refused(mesh.next(mesh.journey())), Leaving)


def test_pods_that_hold_it_but_may_not_be_used_leave_nowhere_to_load_it() -> None:
    mesh = Mesh()
    assert refused(mesh.next(mesh.journey(Purpose(avoid=frozenset({HERE}))))).message == "Nowhere available to load"


def test_a_holder_that_is_put_aside_is_better_than_none() -> None:
    mesh = Mesh(A)
    mesh.stage.pod.leaving = True
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    mesh.stage.pod.pods.fails(A)
    assert forwarded(mesh.next(mesh.journey())) == (Kind.HIT, A)


# What failures do


def test_a_holder_that_does_not_have_it_any_more_is_not_asked_again() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={A: EARLY, B: EARLY}, ready={A: LATE, B: LATE})
    journey = mesh.journey()
    step = mesh.next(journey)
    assert forwarded(step) == (Kind.HIT, A)
    assert journey.failed(step, NotHere("gone"), mesh.now)
    after = mesh.next(journey)
    assert isinstance(after, Forward)
    assert (after.hop.dest, after.hop.tried) == (B, frozenset({(A, EARLY)}))


def test_a_holder_that_lost_it_may_load_it_again_before_the_record_shows_that() -> None:
    mesh = Mesh(A, B)
    mesh.joins(A, labels=["x"])
    mesh.stage.pod.constraints = Constraints.parse('{"test": {"required": ["x"]}}')
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    journey = mesh.journey()
    assert journey.failed(mesh.next(journey), NotHere("gone"), mesh.now)
    assert forwarded(mesh.next(journey)) == (Kind.LOAD, A)


def test_a_holder_that_does_not_answer_is_not_to_load_it() -> None:
    mesh = Mesh(A)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    journey = mesh.journey()
    assert journey.failed(mesh.next(journey), PeerUnavailable("away"), mesh.now)
    assert isinstance(mesh.next(journey), WaitFor)


def test_what_went_wrong_is_told_rather_than_that_a_copy_is_gone() -> None:
    mesh = Mesh(A, B)
    mesh.view.pod.leaving = True
    mesh.has(copies={A: EARLY, B: EARLY}, ready={A: LATE, B: LATE})
    journey = mesh.journey(Purpose(avoid=frozenset({HERE})))
    assert journey.failed(mesh.next(journey), RuntimeUnavailable("out of order"), mesh.now)
    assert journey.failed(mesh.next(journey), NotHere("gone"), mesh.now)
    mesh.view.pods.instance_changed(B, None)
    assert refused(mesh.next(journey)).message == "out of order"


def test_a_copy_that_was_loaded_anew_is_another_holder() -> None:
    mesh = Mesh(A)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    journey = mesh.journey()
    assert journey.failed(mesh.next(journey), NotHere("gone"), mesh.now)
    mesh.has(copies={A: LATE}, ready={A: LATE})
    assert forwarded(mesh.next(journey)) == (Kind.HIT, A)


def test_a_copy_here_whose_runtime_does_not_answer_is_left_for_another() -> None:
    mesh = Mesh(A)
    mesh.loads_here()
    journey = mesh.journey()
    step = mesh.next(journey)
    assert journey.failed(step, RuntimeUnavailable("away"), mesh.now)
    assert forwarded(mesh.next(journey)) == (Kind.LOAD, A)


def test_a_call_that_a_leaving_copy_did_not_wait_for_is_not_made_a_second_time() -> None:
    mesh = Mesh(A)
    mesh.loads_here()
    journey = mesh.journey()
    assert journey.failed(mesh.next(journey), Outlived("took too long"), mesh.now) is False


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), Unknown("no such model"), Failed("whatever")])
def test_errors_that_no_other_pod_can_help_with_end_the_journey(error: MeshError) -> None:
    mesh = Mesh(A)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    journey = mesh.journey()
    assert journey.failed(mesh.next(journey), error, mesh.now) is False


def test_a_loader_with_nowhere_to_put_it_sends_the_call_elsewhere() -> None:
    mesh = Mesh(A)
    journey = mesh.journey()
    mesh.stage.pod.pods.intend(M, A, mesh.now)
    step = mesh.next(journey)
    assert journey.failed(step, Nowhere("Cache churn threshold exceeded"), mesh.now)
    assert mesh.stage.pod.pods.intended(M) is None
    assert isinstance(mesh.next(journey), WaitFor)


def test_the_second_copy_that_is_too_busy_is_the_last() -> None:
    mesh = Mesh(A, B, C)
    mesh.has(copies={A: EARLY, B: EARLY, C: EARLY}, ready={A: LATE, B: LATE, C: LATE})
    journey = mesh.journey()
    assert journey.failed(mesh.next(journey), Overloaded("busy"), mesh.now)
    assert not journey.failed(mesh.next(journey), Overloaded("busy"), mesh.now)


def test_a_load_error_is_told_rather_than_what_came_later() -> None:
    mesh = Mesh(A, B)
    mesh.stage.pod.leaving = True
    journey = mesh.journey()
    assert journey.failed(mesh.next(journey), LoadFailed("the model is broken"), mesh.now)
    assert journey.failed(mesh.next(journey), NotHere("gone"), mesh.now)
    assert refused(mesh.next(journey)).message == "the model is broken"


# Asked by another pod


def test_a_call_for_a_copy_that_is_not_here_is_sent_back() -> None:
    mesh = Mesh(A)
    mesh.has(copies={A: EARLY}, ready={A: LATE})
    error = refused(mesh.next(mesh.journey(asked(Kind.HIT))))
    assert isinstance(error, NotHere)
    assert error.message == "model m is not on pod here"


def test_a_call_for_a_copy_whose_load_just_failed_here_hears_so() -> None:
    mesh = Mesh(A)
    mesh.stage.want("m")
    mesh.stage.failed("m#1", "INTERNAL: broken")
    error = refused(mesh.next(mesh.journey(asked(Kind.HIT))))
    assert isinstance(error, LoadFailed)
    assert error.message == "INTERNAL: broken"


def test_a_model_that_failed_on_three_pods_is_loaded_by_no_further_one_whoever_asks() -> None:
    mesh = Mesh(A, B, C)
    now = mesh.now
    mesh.has(failed={A: now, B: now, C: now}, failures={C: "broken"})
    assert refused(mesh.next(mesh.journey(asked(Kind.LOAD)))).message
    assert isinstance(refused(mesh.next(mesh.journey())), LoadFailed)


def test_failures_that_a_call_met_count_before_the_record_shows_them() -> None:
    mesh = Mesh(A, B, C, PodId("d"))
    mesh.view.pod.leaving = True
    journey = mesh.journey()
    for _ in range(3):
        assert journey.failed(mesh.next(journey), LoadFailed("broken"), mesh.now)
    assert refused(mesh.next(journey)).message == "broken"


def test_a_call_for_a_copy_that_loads_here_waits_for_it_and_for_a_ready_one_is_served() -> None:
    mesh = Mesh(A)
    mesh.stage.want("m")
    journey = mesh.journey(asked(Kind.HIT))
    assert isinstance(mesh.next(journey), WaitFor)
    mesh.stage.loaded("m#1")
    step = mesh.next(journey)
    assert isinstance(step, Serve)
    assert journey.failed(step, RuntimeUnavailable("away"), mesh.now) is False


def test_a_copy_that_the_runtime_forgot_is_loaded_again_for_the_call_that_met_it() -> None:
    mesh = Mesh(A)
    mesh.loads_here()
    journey = mesh.journey(asked(Kind.HIT))
    assert isinstance(mesh.next(journey), Serve)
    assert journey.again()
    mesh.stage.tell(RuntimeForgot(copy_id("m#1")))
    assert isinstance(mesh.next(journey), WaitFor)


def test_a_copy_that_the_runtime_forgot_is_not_waited_for_while_another_one_serves() -> None:
    mesh = Mesh(A, B)
    mesh.loads_here()
    mesh.has(copies={HERE: EARLY, B: EARLY}, ready={HERE: EARLY, B: LATE})
    journey = mesh.journey(asked(Kind.HIT))
    assert isinstance(mesh.next(journey), Serve)
    assert journey.again()
    mesh.stage.tell(RuntimeForgot(copy_id("m#1")))
    assert isinstance(refused(mesh.next(journey)), NotHere), "the sender goes on to the other"


def test_a_call_to_load_a_model_loads_it_here_and_its_failure_goes_back() -> None:
    mesh = Mesh(A)
    journey = mesh.journey(asked(Kind.LOAD, last_used=EARLY))
    step = mesh.next(journey)
    assert isinstance(step, WaitFor)
    assert journey.failed(step, LoadFailed("broken"), mesh.now) is False


def test_a_call_to_load_what_another_pod_has_by_now_goes_on_to_that_one_and_if_that_fails_loads_it_here() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={B: EARLY})
    journey = mesh.journey(asked(Kind.LOAD))
    step = mesh.next(journey)
    assert forwarded(step) == (Kind.HIT, B)
    assert journey.failed(step, NotHere("gone"), mesh.now)
    assert isinstance(mesh.next(journey), WaitFor)


def test_a_call_to_load_a_model_that_is_here_is_served_here() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={B: EARLY}, ready={B: LATE})
    mesh.loads_here()
    assert isinstance(mesh.next(mesh.journey(asked(Kind.LOAD))), Serve)


def test_a_call_to_load_a_model_on_a_pod_that_leaves_is_sent_back() -> None:
    mesh = Mesh(A)
    mesh.stage.pod.leaving = True
    assert isinstance(refused(mesh.next(mesh.journey(asked(Kind.LOAD)))), Leaving)


def test_what_the_sender_tried_is_not_tried_again() -> None:
    mesh = Mesh(A, B)
    mesh.has(copies={B: EARLY}, ready={B: LATE})
    assert isinstance(mesh.next(mesh.journey(asked(Kind.LOAD, tried=frozenset({(B, EARLY)})))), WaitFor)


def test_in_a_large_mesh_a_cold_model_goes_to_one_of_the_best_and_to_others_if_these_do_not_answer() -> None:
    mesh = Mesh(*(PodId(f"pod-{number:02}") for number in range(FEW + 10)))
    best = PodId("pod-07")
    mesh.stage.pod.pods.instance_changed(best, mesh.figures("best:1").with_(capacity=Units(9_000_000)))
    assert forwarded(mesh.next(mesh.journey(Purpose(avoid=frozenset({HERE}))))) == (Kind.LOAD, best)
    mesh.stage.pod.pods.forget(M)
    for number in range(FEW + 10):
        mesh.stage.pod.pods.fails(PodId(f"pod-{number:02}"))
    kind, pod = forwarded(mesh.next(mesh.journey(Purpose(avoid=frozenset({HERE, best})))))
    assert kind is Kind.LOAD
    assert pod != best
