"""What calls that are no plain hits leave in the book of decisions, and that it can be decided again by what stands there."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import count

import pytest

from mesh.core.errors import (
    DeadlineExceeded,
    LoadFailed,
    Malformed,
    Nowhere,
    Overloaded,
    PeerUnavailable,
    RuntimeDown,
    RuntimeUnavailable,
    Unknown,
)
from mesh.core.events import RuntimeLost
from mesh.core.explaining.decisions import Decision, Kind
from mesh.core.explaining.replay import READERS, evidence_from_json
from mesh.core.ids import PodId
from mesh.core.policy import MAX_ITERATIONS, MAX_LOCATIONS
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.attempts import GIVES_UP, GOES_ON, Attempt
from mesh.core.routing.dead_ends import DeadEnd
from mesh.core.routing.failed_loads import LOADS, REFUSED, FailedLoads
from mesh.core.routing.hops import Hop
from mesh.core.routing.hops import Kind as HopKind
from mesh.core.routing.joining import Joining
from mesh.core.routing.journey import Journey
from mesh.core.routing.steps import CALL, Forward, Purpose, Refuse, Serve, WaitFor
from mesh.core.units import Millis
from tests.unit.core.stage import HERE, INFO
from tests.unit.core.test_journey import EARLY, LATE, A, B, C, M, Mesh, first


@dataclass(frozen=True)
class Caller:
    """One that sends an id, or none."""

    id: str = ""

    def request_id(self) -> str:
        return self.id


class Noted(Mesh):
    """A mesh whose book is read, and which names requests r-1, r-2, …"""

    def __init__(self, *others: object, **options: object) -> None:
        super().__init__(*others, **options)  # type: ignore[arg-type]
        numbers = count(1)
        self.view = replace(self.view, new_id=lambda: f"r-{next(numbers)}")

    def call(self, caller: Caller | None = None, purpose: Purpose = CALL) -> Journey:
        return Journey(M, self.view, purpose, caller or Caller())

    @property
    def book(self) -> list[Decision]:
        return list(self.stage.pod.cache.decisions)

    @property
    def kinds(self) -> list[str]:
        return [decision.kind.value for decision in self.book]


def same_again(decision: Decision) -> bool:
    """Whether a decision comes out as it did, also by its inputs' JSON."""
    assert decision.evidence is not None
    read = evidence_from_json(json.loads(json.dumps(decision.evidence.inputs())))
    assert read is not None
    assert read == decision.evidence or read.inputs() == decision.evidence.inputs()
    assert read.candidates() == decision.evidence.candidates()
    return read.again() == decision.evidence.again() == decision.outcome


# Hits


def test_a_hit_leaves_nothing_and_has_no_id() -> None:
    mesh = Noted(A, record=ModelRecord(INFO, copies={A: EARLY}, ready={A: EARLY}))
    journey = mesh.call(Caller("sent"))
    step = mesh.next(journey)
    assert isinstance(step, Forward)
    assert (step.hop.request, journey.request, mesh.book) == ("", "", [])
    mesh.loads_here()
    mine = mesh.call()
    assert isinstance(mine.next(mesh.now, first), Serve | Forward)
    assert (mine.request, mesh.book) == ("", [])


# Placements, and calls that join them


def test_the_first_call_of_a_cold_model_is_noted_with_all_places_and_its_id_travels_on() -> None:
    mesh = Noted(A, B)
    journey = mesh.call()
    step = mesh.next(journey)
    (noted,) = mesh.book
    assert noted.kind is Kind.PLACEMENT
    assert (noted.request, journey.request) == ("r-1", "r-1")
    assert noted.reason == f"{noted.outcome} is one of 2 equally good among 3 places, and it was its turn (a call waits for it)"
    assert same_again(noted)
    assert {one.name for one in noted.evidence.candidates()} == {A, B, HERE}  # type: ignore[union-attr]
    assert isinstance(step, WaitFor) == (noted.outcome == HERE)
    assert isinstance(step, WaitFor) or step.hop.request == "r-1"  # type: ignore[union-attr]


def test_a_call_that_looks_again_at_the_load_that_it_began_does_not_say_so_twice() -> None:
    mesh = Noted()
    journey = mesh.call()
    assert isinstance(mesh.next(journey), WaitFor)
    mesh.stage.want("m")
    assert isinstance(mesh.next(journey), WaitFor)
    assert mesh.kinds == ["placement"]


def test_calls_that_follow_it_say_so_each_under_its_own_id() -> None:
    mesh = Noted(A)
    mesh.stage.pod.pods.intend(M, A, mesh.now)
    step = mesh.next(mesh.call(Caller("mine")))
    assert isinstance(step, Forward)
    assert step.hop.request == "mine"
    (noted,) = mesh.book
    assert (noted.kind, noted.outcome, noted.request) == (Kind.ROUTING, A, "mine")
    assert noted.reason == "follows an earlier call to a, which was chosen to load the model"
    assert same_again(noted)
    assert list(noted.evidence.would_change()) == ["a failing to load it, or showing its copy in the registry"]  # type: ignore[union-attr]
    assert [(one.name, one.chosen, one.score) for one in noted.evidence.candidates()] == [  # type: ignore[union-attr]
        (A, True, {"chosen_by": "an earlier call"})
    ]


def test_a_call_that_waits_for_a_copy_that_comes_says_where() -> None:
    elsewhere = Noted(A, record=ModelRecord(INFO, copies={A: EARLY}))
    mesh_step = elsewhere.next(elsewhere.call())
    assert isinstance(mesh_step, Forward)
    here = Noted()
    here.stage.want("m")
    here.has(copies={HERE: here.now})
    assert isinstance(here.next(here.call()), WaitFor)
    assert [one.reason for one in (*elsewhere.book, *here.book)] == [
        "waits for the copy that a loads already",
        f"waits for the copy that {HERE} loads already",
    ]
    assert all(same_again(one) for one in (*elsewhere.book, *here.book))


def test_of_several_copies_that_come_the_one_that_was_wanted_first_is_joined_and_the_others_are_named() -> None:
    mesh = Noted(A, B, record=ModelRecord(INFO, copies={A: LATE, B: EARLY}))
    step = mesh.next(mesh.call())
    assert isinstance(step, Forward)
    (noted,) = mesh.book
    assert (step.hop.dest, noted.outcome) == (B, B)
    assert same_again(noted)
    assert [(one.name, one.chosen, one.why) for one in noted.evidence.candidates()] == [  # type: ignore[union-attr]
        (B, True, ""),
        (A, False, "it was wanted later"),
    ]
    assert list(noted.evidence.would_change()) == ["a copy that serves already, or one that was wanted earlier"]  # type: ignore[union-attr]


def test_a_pod_that_was_chosen_by_another_says_by_whom_under_the_id_that_came_along() -> None:
    mesh = Noted(A)
    hop = Hop(HopKind.LOAD, M, A, HERE)
    assert isinstance(mesh.next(mesh.call(Caller("came"), Purpose(hop=hop))), WaitFor)
    assert isinstance(mesh.next(mesh.call(Caller(), Purpose(hop=hop))), WaitFor)
    assert [(one.reason, one.request) for one in mesh.book] == [
        (f"a chose {HERE} to load the model", "came"),
        (f"a chose {HERE} to load the model", ""),
    ]
    assert same_again(mesh.book[0])
    said = f"the call having come in on {HERE}: a decides for the calls that come in there"
    assert list(mesh.book[0].evidence.would_change()) == [said]  # type: ignore[union-attr]


def test_a_load_that_another_pod_chose_is_joined_here_even_if_others_come() -> None:
    chosen = Joining(HERE, sender="a", coming=(("a", 1), (HERE, 2)))
    assert chosen.again() == HERE
    assert [(one.name, one.why) for one in chosen.candidates()] == [(HERE, ""), ("a", "the pod that sent the call chose another")]
    with pytest.raises(Malformed, match="a pod and a time each"):
        Joining.from_json({**Joining(HERE).inputs(), "coming": [["a"]]})


def test_a_wish_that_no_call_made_has_no_id() -> None:
    mesh = Noted(A)
    journey = Journey(M, mesh.view, Purpose(urgent=False, enters=False))
    mesh.next(journey)
    (noted,) = mesh.book
    assert (noted.kind, noted.request, journey.request) == (Kind.PLACEMENT, "", "")
    assert noted.reason.endswith("(no call waits for it)")
    # Another one follows it, which nobody would ask for.
    mesh.next(Journey(M, mesh.view, Purpose(urgent=False, enters=False)))
    assert len(mesh.book) == 1
    passed_on = Journey(M, mesh.view, Purpose(hop=Hop(HopKind.LOAD, M, A, HERE, request="far"), enters=False))
    mesh.models.clear()
    passed_on.failed(mesh.next(passed_on), Unknown("gone"), mesh.now)
    assert mesh.book[-1].request == "far"


def test_an_id_is_cut_to_what_can_be_printed_and_typed() -> None:
    mesh = Noted()
    mesh.next(mesh.call(Caller("a b\n\x00é" + "x" * 500)))
    assert mesh.book[0].request == "ab" + "x" * 122


# Retries


def test_a_holder_that_fails_is_named_with_why_and_with_what_came_next() -> None:
    record = ModelRecord(INFO, copies={A: EARLY, B: LATE, C: LATE}, ready={A: EARLY, B: LATE})
    mesh = Noted(A, B, record=record)
    mesh.has()
    journey = mesh.call(Caller("r"))
    step = mesh.next(journey)
    assert isinstance(step, Forward)
    failed, following = step.hop.dest, ({A, B} - {step.hop.dest}).pop()
    assert journey.failed(step, PeerUnavailable("no answer"), mesh.now)
    onward = mesh.next(journey)
    assert isinstance(onward, Forward)
    assert (onward.hop.dest, onward.hop.request) == (following, "r")
    (noted,) = mesh.book
    assert (noted.kind, noted.outcome, noted.request) == (Kind.RETRY, GOES_ON, "r")
    assert noted.reason == f"pod {failed} did not serve it: no answer; next: the copy on {following}"
    assert same_again(noted)
    assert {one.name: (one.chosen, one.why) for one in noted.evidence.candidates()} == {  # type: ignore[union-attr]
        following: (True, ""),
        failed: (False, "it was tried and did not serve this call"),
        C: (False, "it is gone, or cannot be called"),
    }
    assert noted.evidence is not None
    assert noted.evidence.would_change() == ()


def test_a_load_that_fails_elsewhere_and_the_next_place_are_two_notes_and_one_story() -> None:
    mesh = Noted(A, B)
    mesh.stage.pod.pods.intend(M, A, mesh.now)
    journey = mesh.call()
    step = mesh.next(journey)
    assert journey.failed(step, LoadFailed("broken"), mesh.now)
    mesh.has(copies={A: EARLY})
    mesh.next(journey)
    assert mesh.kinds == ["routing", "placement", "retry"]
    assert {one.request for one in mesh.book} == {"r-1"}
    retry = mesh.book[-1]
    assert retry.reason.startswith("pod a did not serve it: broken; next: ")
    assert ("a", "the model failed to load there, or this call is not to go there") in retry.evidence.copies  # type: ignore[union-attr]
    assert any(one.chosen for one in retry.evidence.candidates())  # type: ignore[union-attr]


def test_copies_that_stand_otherwise_are_told_too() -> None:
    record = ModelRecord(INFO, copies={A: EARLY, B: LATE, C: LATE}, ready={A: EARLY})
    mesh = Noted(A, B, C, record=record)
    mesh.stage.pod.pods.fails(C)
    journey = mesh.call()
    step = mesh.next(journey)
    assert not journey.failed(step, DeadlineExceeded("too late"), mesh.now)
    (noted,) = mesh.book
    assert (noted.kind, noted.outcome, noted.reason) == (Kind.REFUSAL, GIVES_UP, "pod a did not serve it: too late")
    assert dict(noted.evidence.copies) == {  # type: ignore[union-attr]
        A: "it was tried and did not serve this call",
        B: "it is loading",
        C: "calls to it fail at present",
    }


def test_what_the_runtime_forgot_is_a_retry_here() -> None:
    mesh = Noted()
    mesh.loads_here()
    journey = mesh.call()
    assert isinstance(mesh.next(journey), Serve)
    assert journey.again()
    assert isinstance(mesh.next(journey), Serve)
    assert not journey.again()
    (noted,) = mesh.book
    said = f"the copy on {HERE} did not serve it: the model server does not know the model any more, or went down"
    assert (noted.kind, noted.reason) == (Kind.RETRY, f"{said}; next: the copy here, on {HERE}")
    assert same_again(noted)
    assert dict(noted.evidence.copies) == {HERE: "it serves"}  # type: ignore[union-attr]


def test_a_copy_here_that_fails_leads_to_a_load_or_to_nothing() -> None:
    mesh = Noted()
    mesh.loads_here()
    journey = mesh.call()
    step = mesh.next(journey)
    assert journey.failed(step, RuntimeUnavailable("down"), mesh.now)
    last = mesh.next(journey)
    assert isinstance(last, Refuse)
    assert not journey.failed(last, last.error, mesh.now)
    assert mesh.kinds == ["placement", "retry", "refusal"]
    assert mesh.book[1].reason.endswith("next: nothing is left to try (runtime)")
    assert mesh.book[0].outcome == ""
    assert mesh.book[0].reason == "no pod can take it: none of 1 is left to choose from (a call waits for it)"
    assert same_again(mesh.book[0])
    assert same_again(mesh.book[2]), "refused for want of a place"


# Refusals


def test_an_unknown_model_and_a_failed_wait_are_refusals() -> None:
    mesh = Noted()
    journey = mesh.call()
    step = mesh.next(journey)
    assert not journey.failed(step, DeadlineExceeded("not loaded in time"), mesh.now)
    mesh.models.clear()
    lost = mesh.call()
    refused = mesh.next(lost)
    assert isinstance(refused, Refuse)
    assert not lost.failed(refused, refused.error, mesh.now)
    (_, late, unknown) = mesh.book
    assert (late.kind, late.reason) == (Kind.REFUSAL, f"the load on {HERE} did not serve it: not loaded in time")
    assert (unknown.kind, unknown.outcome) == (Kind.REFUSAL, "unknown")
    assert same_again(unknown)
    assert list(unknown.evidence.would_change()) == [  # type: ignore[union-attr]
        "the model being registered: apply a document for it, or call registerModel"
    ]
    assert lost.request == "r-2"


def refused(mesh: Noted, journey: Journey) -> Decision:
    step = mesh.next(journey)
    assert isinstance(step, Refuse)
    assert not journey.failed(step, step.error, mesh.now)
    return mesh.book[-1]


def test_a_copy_that_is_not_here_any_more_is_a_refusal_to_the_pod_that_sent_the_call() -> None:
    mesh = Noted(A, B, record=ModelRecord(INFO, copies={B: EARLY}, ready={B: EARLY}))
    noted = refused(mesh, mesh.call(purpose=Purpose(hop=Hop(HopKind.HIT, M, A, HERE))))
    assert (noted.kind, noted.outcome, noted.reason) == (Kind.REFUSAL, "not-here", f"model m is not on pod {HERE}")
    assert same_again(noted)
    assert list(noted.evidence.would_change()) == [  # type: ignore[union-attr]
        "a copy here: a sent the call by a record that is older than this"
    ]
    assert [(one.name, one.why) for one in noted.evidence.candidates()] == [(B, "it serves")]  # type: ignore[union-attr]


def test_a_copy_whose_model_server_is_down_is_a_refusal_that_says_so() -> None:
    mesh = Noted(A)
    mesh.loads_here()
    mesh.stage.tell(RuntimeLost(down=True))
    noted = refused(mesh, mesh.call(purpose=Purpose(hop=Hop(HopKind.HIT, M, A, HERE))))
    assert noted.outcome == RuntimeDown.label
    assert same_again(noted)
    assert list(noted.evidence.would_change()) == ["the model server here being up"]  # type: ignore[union-attr]


def test_a_call_that_tried_often_enough_is_refused_with_its_number_of_steps() -> None:
    mesh = Noted(A, record=ModelRecord(INFO, copies={A: EARLY}, ready={A: EARLY}))
    journey = mesh.call()
    for _ in range(MAX_ITERATIONS):
        mesh.next(journey)
    noted = refused(mesh, journey)
    assert same_again(noted)
    assert list(noted.evidence.would_change()) == [f"an answer within {MAX_ITERATIONS} steps"]  # type: ignore[union-attr]


def test_a_model_with_many_copies_none_of_which_serves_is_refused_with_their_number() -> None:
    pods = [PodId(f"p{number}") for number in range(MAX_LOCATIONS)]
    mesh = Noted(*pods, record=ModelRecord(INFO, copies=dict.fromkeys(pods, EARLY), ready=dict.fromkeys(pods, EARLY)))
    for pod in pods:
        mesh.stage.pod.pods.fails(pod)
    noted = refused(mesh, mesh.call())
    assert same_again(noted)
    assert list(noted.evidence.would_change()) == [  # type: ignore[union-attr]
        f"fewer than {MAX_LOCATIONS} copies, none of which serves this call"
    ]


def test_a_dead_end_that_is_none_and_one_that_cannot_be_read() -> None:
    way = DeadEnd(registered=True, sender="", held=False, up=True, tried=0, reachable=0, latest="bug")
    assert (way.again(), list(way.would_change())) == ("goes on", [])
    with pytest.raises(Malformed, match="pairs of a pod and a text"):
        DeadEnd.from_json({**way.inputs(), "copies": [["a"]]})


def test_a_model_that_failed_on_three_pods_is_refused_by_these_failures() -> None:
    failed = {A: Millis(Mesh().now - 5_000), B: Millis(Mesh().now - 4_000), C: Millis(Mesh().now - 3_000)}
    mesh = Noted(A, B, C, record=ModelRecord(INFO, failed=failed, failures={A: "no such file"}))
    journey = mesh.call()
    step = mesh.next(journey)
    assert isinstance(step, Refuse)
    journey.failed(step, step.error, mesh.now)
    (noted,) = mesh.book
    assert (noted.kind, noted.outcome) == (Kind.REFUSAL, REFUSED)
    assert same_again(noted)
    window = mesh.stage.pod.cache.policy.failure_counts
    assert noted.evidence is not None
    assert noted.evidence.would_change()[1] == f"time: {(window - 5_000) // 1000} s later a call has it loaded again"
    assert [one.name for one in noted.evidence.candidates()] == [C, B, A]


def test_a_failure_here_alone_is_told_with_the_time_of_the_next_try() -> None:
    mesh = Noted()
    mesh.stage.want("m")
    mesh.stage.failed("m#1", "broken")
    mesh.has(failed={HERE: mesh.now}, failures={HERE: "broken"})
    journey = mesh.call()
    step = mesh.next(journey)
    assert isinstance(step, Refuse)
    journey.failed(step, step.error, mesh.now)
    assert mesh.book[-1].outcome == REFUSED
    assert same_again(mesh.book[-1])
    failure = mesh.stage.pod.cache.failures.of(M)
    assert failure is not None
    assert mesh.book[-1].evidence.free_at() == failure.retry_at  # type: ignore[union-attr]


def test_a_failure_that_another_pod_told_of_is_refused_without_grounds_of_ones_own() -> None:
    mesh = Noted()
    journey = mesh.call()
    journey.failed(Refuse(LoadFailed("there")), LoadFailed("there"), mesh.now)
    assert (mesh.book[0].outcome, mesh.book[0].evidence) == ("load", None)


# The decisions by themselves


def test_a_step_is_followed_by_another_unless_none_can_help() -> None:
    helps = Attempt("forward", "a", "peer", "no answer", elsewhere=True, handed_on=True, overloaded=0)
    assert helps.goes_on
    own = replace(helps, step="serve")
    assert own.would_change() == ["the call having come in here: the pod that sent it looks further itself"]
    busy = replace(helps, overloaded=2)
    assert busy.would_change() == ["no other pod being overloaded"]
    bad = replace(helps, elsewhere=False, error="deadline")
    assert bad.would_change() == ["an error that another pod may not have: one of kind 'deadline' would be the same everywhere"]
    assert replace(bad, overloaded=2).would_change() == []
    assert Attempt.of(Forward(Hop(HopKind.HIT, M, HERE, A), None), HERE, Nowhere("none"), handed_on=False, overloaded=0).goes_on
    assert not Attempt.of(Refuse(Overloaded("full")), HERE, Overloaded("full"), handed_on=True, overloaded=1).goes_on


def test_failures_count_for_a_while_and_those_of_this_call_until_it_ends() -> None:
    loads = FailedLoads((("a", 100, "x"), ("b", 200, "")), ("c", "a"), Millis(300), Millis(1_000))
    assert (loads.again(), loads.free_at(), sorted(loads.counted)) == (REFUSED, 1_100, ["a", "b", "c"])
    assert [(one.name, one.why) for one in loads.candidates()] == [
        ("a", "x"),
        ("b", "the load failed there"),
        ("c", "the load failed there under this call"),
    ]
    later = replace(loads, now=Millis(5_000), known=())
    assert (later.again(), later.free_at(), later.would_change()) == (LOADS, 0, ())
    hopeless = replace(loads, limit=0)
    assert (hopeless.free_at(), len(hopeless.would_change())) == (0, 1)


@pytest.mark.parametrize(
    "inputs",
    [
        {**Attempt("serve", "a", "x", "y", True, True, 0).inputs(), "copies": [["a"]]},
        {**FailedLoads((), (), Millis(0), Millis(0)).inputs(), "failed": [["a", "soon", ""]]},
        {**FailedLoads((), (), Millis(0), Millis(0)).inputs(), "now": "soon"},
    ],
)
def test_records_of_them_that_are_garbled_are_refused(inputs: dict[str, object]) -> None:
    with pytest.raises(Malformed):
        evidence_from_json(inputs)


def test_every_function_that_decides_has_a_reader() -> None:
    assert {"placement", "eviction", "scale-up", "scale-down", "attempt", "failed-loads", "minimum"} <= set(READERS)
