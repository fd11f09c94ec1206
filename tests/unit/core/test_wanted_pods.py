"""How many pods a runtime wants: more when it is short of something for a while, fewer after a long calm, never to and fro."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.core.policy import HOUR, SECOND
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.scaling.wanted_pods import (
    AGE,
    CALLS,
    CALM,
    PRESS,
    RPM,
    SETTLE,
    Aims,
    Figures,
    Inputs,
    Memory,
    Wanted,
    decide,
    figures,
    most,
    runtime_of,
    told,
)
from mesh.core.units import Millis, Units

MINUTE = Millis(60 * SECOND)
EMPTY = Figures(Units(1000), Units(0), Units(0), None, 0, 0, 0, 4)
QUIET = replace(EMPTY, used=Units(300), idle=Units(200), age=Millis(3 * HOUR), rpm=100, calls=10)
FULL = replace(QUIET, used=Units(950), idle=Units(0))


class Mesh:
    """Pods whose figures stay, asked every ten seconds; `follows` is an autoscaler that does at once what it is told."""

    def __init__(self, *pods: Figures) -> None:
        self.pods = list(pods)
        self.now = Millis(0)
        self.changing = False
        self.memory: Memory | None = None
        self.answers: list[Wanted] = []

    def ask(self) -> Wanted:
        answer = decide(Inputs(tuple(self.pods), self.changing, self.memory, self.now))
        self.memory = answer.memory
        self.answers.append(answer)
        return answer

    def for_(self, time: int, tick: int = 10 * SECOND) -> Wanted:
        """Asks until so many milliseconds are over."""
        end = self.now + time
        while self.now < end:
            self.now = Millis(self.now + tick)
            answer = self.ask()
        return answer


# More


def test_a_pod_more_than_there_is_when_the_full_cache_keeps_models_too_short_a_time() -> None:
    mesh = Mesh(*[replace(FULL, age=Millis(20 * MINUTE))] * 3)
    assert mesh.for_(SETTLE).pods == 3, "whatever came or went before this pod looked may still be settling"
    mesh.for_(SETTLE // PRESS)
    answer = next(one for one in mesh.answers if one.pods > 3)
    assert (answer.pods, answer.reason) == (4, "the full cache keeps a model 1200 s without a call, and is to keep it 1800 s")


def test_a_young_cache_with_room_is_no_reason() -> None:
    assert Mesh(*[replace(QUIET, age=Millis(10 * SECOND))] * 2).for_(SETTLE * 2).pods == 2


def test_calls_a_minute_calls_at_a_time_and_queued_loads_are_reasons_each() -> None:
    for pod, words in (
        (replace(QUIET, rpm=RPM + 1000), "9000 calls a minute a pod, with 8000 aimed at"),
        (replace(QUIET, calls=CALLS + 50), "8.5 calls run at a time on a pod, with 8 aimed at"),
        (replace(QUIET, loads=9), "18 loads are queued or run, and 8 can run at a time"),
    ):
        answer = Mesh(pod, pod).for_(SETTLE * 2)
        assert (answer.pods, answer.reason) == (3, f"a pod more is to come: {words}")


def test_a_burst_that_is_over_soon_adds_nothing() -> None:
    mesh = Mesh(QUIET, QUIET)
    mesh.for_(SETTLE)
    mesh.pods = [replace(QUIET, loads=40)] * 2
    assert "waiting whether that lasts" in mesh.for_(SETTLE // PRESS).reason
    mesh.pods = [QUIET, QUIET]
    assert mesh.for_(HOUR // 4).pods == 2


def test_a_step_is_a_quarter_of_the_pods_and_the_next_waits_until_the_new_ones_show_in_the_figures() -> None:
    busy = replace(QUIET, rpm=10 * RPM)
    mesh = Mesh(*[busy] * 8)
    assert mesh.for_(2 * SETTLE).pods == 10
    mesh.pods += [busy] * 2
    assert mesh.for_(SETTLE).pods == 10
    assert mesh.for_(SETTLE).pods == 12


def test_a_pod_that_died_stays_wanted() -> None:
    mesh = Mesh(*[QUIET] * 4)
    mesh.for_(SETTLE)
    mesh.pods.pop()
    assert mesh.for_(CALM - 10 * SECOND).pods == 4


# Fewer


def test_one_pod_fewer_after_a_long_calm_and_the_next_after_another() -> None:
    mesh = Mesh(*[QUIET] * 3)
    assert mesh.for_(CALM).pods == 3
    answer = mesh.for_(20 * SECOND)
    assert (answer.pods, mesh.answers[-2].reason) == (2, f"2 would have done for {CALM // SECOND} s")
    assert mesh.for_(CALM - 20 * SECOND).pods == 2
    assert mesh.answers[-1].reason == f"2 would do, and would have for {CALM // SECOND} s"
    assert mesh.for_(40 * SECOND).pods == 1
    assert mesh.for_(2 * CALM).pods == 1, "a runtime without a pod serves nobody"


def test_a_moment_of_load_begins_the_calm_anew() -> None:
    mesh = Mesh(QUIET, QUIET)
    mesh.for_(CALM - MINUTE)
    mesh.pods = [replace(QUIET, rpm=RPM), QUIET]
    mesh.for_(10 * SECOND)
    mesh.pods = [QUIET, QUIET]
    assert mesh.for_(CALM - MINUTE).pods == 2
    assert mesh.for_(2 * MINUTE).pods == 1


def test_what_stays_has_room_for_all_models_in_recent_use() -> None:
    for idle, wanted in ((550, 2), (560, 1)):
        pod = replace(QUIET, used=Units(960), idle=Units(idle), age=Millis(24 * HOUR))
        assert Mesh(pod, pod).for_(CALM + MINUTE).pods == wanted


def test_a_cache_that_would_turn_over_too_young_with_a_pod_less_keeps_it() -> None:
    for age, wanted in ((3 * AGE - 1, 2), (3 * AGE, 1)):
        pod = replace(FULL, idle=Units(950), age=Millis(age))
        assert Mesh(pod, pod).for_(CALM + MINUTE).pods == wanted


def test_fewer_pods_must_not_be_nearly_as_busy_as_would_add_one_again() -> None:
    for change in ({"rpm": RPM // 2 - 100}, {"calls": CALLS // 2 - 10}, {"loads": 4}):
        pod = replace(QUIET, **change)  # type: ignore[arg-type]
        assert Mesh(pod, pod).for_(CALM + MINUTE).pods == 2, change


# Neither


def test_nothing_changes_while_pods_leave_or_are_replaced_nor_soon_after() -> None:
    mesh = Mesh(*[replace(QUIET, rpm=2 * RPM)] * 2)
    mesh.changing = True
    answer = mesh.for_(HOUR)
    assert (answer.pods, answer.reason) == (2, "pods are being replaced, or leave: the number stays meanwhile")
    mesh.changing = False
    assert mesh.for_(SETTLE - 10 * SECOND).pods == 2
    assert mesh.for_(MINUTE).pods == 3


def test_a_pod_that_is_there_still_is_kept_at_once_if_it_is_needed_after_all() -> None:
    mesh = Mesh(QUIET, QUIET)
    assert mesh.for_(CALM + MINUTE).pods == 1
    mesh.pods = [replace(QUIET, rpm=RPM)] * 2
    assert mesh.for_(10 * SECOND).pods == 2


def test_why_a_number_that_nobody_follows_stays() -> None:
    mesh = Mesh(replace(QUIET, rpm=2 * RPM))
    assert mesh.for_(HOUR).reason.startswith("a pod more is to come: 16000 calls a minute")
    mesh.pods = [QUIET]
    assert mesh.for_(MINUTE).reason == "a pod more was wanted, and calm has to last"
    assert mesh.for_(CALM).pods == 1
    assert mesh.for_(MINUTE).reason == "enough, and not too many"


# For any figures

POD = st.builds(
    Figures,
    capacity=st.integers(100, 1000).map(Units),
    used=st.integers(0, 1000).map(Units),
    idle=st.integers(0, 1000).map(Units),
    age=st.integers(0, 10 * HOUR).map(Millis),
    rpm=st.integers(0, 4 * RPM),
    calls=st.integers(0, 4 * CALLS),
    loads=st.integers(0, 40),
    slots=st.integers(1, 8),
).map(lambda pod: replace(pod, used=min(pod.used, pod.capacity), idle=min(pod.idle, pod.used, pod.capacity)))
PODS = st.lists(POD, min_size=1, max_size=9)


def memories(now: int) -> st.SearchStrategy[Memory | None]:
    past = st.integers(0, now).map(Millis)
    return st.none() | st.builds(Memory, st.integers(1, 12), st.integers(1, 12), past, st.none() | past, st.none() | past)


NOW = Millis(10 * HOUR)


@given(PODS, memories(NOW), st.booleans())
def test_the_number_is_bounded_moves_by_steps_and_is_the_same_again(pods: list[Figures], memory: Memory | None, changing: bool) -> None:
    inputs = Inputs(tuple(pods), changing, memory, NOW)
    answer = decide(inputs)
    before = memory.wanted if memory else len(pods)
    assert max(1, before - 1) <= answer.pods <= max(before, most(len(pods)))
    assert answer == decide(inputs)
    if changing:
        assert answer.pods == before
    assert json.loads(json.dumps(told(answer, inputs)))["wanted"] == answer.pods


@given(PODS, memories(NOW), st.data())
def test_more_load_never_wants_fewer(pods: list[Figures], memory: Memory | None, data: st.DataObject) -> None:
    def worse(pod: Figures) -> Figures:
        used = data.draw(st.integers(pod.used, pod.capacity))
        return replace(
            pod,
            used=Units(used),
            idle=Units(data.draw(st.integers(0, pod.idle))),
            age=Millis(data.draw(st.integers(0, pod.age or 0))),
            rpm=pod.rpm + data.draw(st.integers(0, RPM)),
            calls=pod.calls + data.draw(st.integers(0, CALLS)),
            loads=pod.loads + data.draw(st.integers(0, 20)),
        )

    other = tuple(map(worse, pods))
    assert decide(Inputs(tuple(pods), False, memory, NOW)).pods <= decide(Inputs(other, False, memory, NOW)).pods


@given(PODS)
def test_constant_figures_lead_to_one_number_that_was_approached_from_one_side(pods: list[Figures]) -> None:
    mesh = Mesh(*pods)
    mesh.for_(6 * CALM, SETTLE)
    numbers = [answer.pods for answer in mesh.answers]
    assert numbers in (sorted(numbers), sorted(numbers, reverse=True))


@settings(max_examples=40)
@given(
    rpm=st.integers(0, 12 * RPM),
    calls=st.integers(0, 12 * CALLS),
    turnover=st.integers(1, 400),
    models=st.integers(0, 8000),
    start=st.integers(1, 16),
)
def test_a_followed_mesh_under_constant_load_comes_to_rest(rpm: int, calls: int, turnover: int, models: int, start: int) -> None:
    """The load is shared by however many pods there are; a cache's age grows with its size, `turnover` units a minute go through it."""
    mesh = Mesh()
    capacity, number = 1000, start
    sizes = []
    for _ in range(30):
        used = min(models, capacity * number * 95 // 100)
        age = Millis(capacity * number * MINUTE // turnover)
        pod = Figures(Units(capacity), Units(used // number), Units(0), age, rpm // number, calls // number, 0, 4)
        mesh.pods = [pod] * number
        number = mesh.for_(CALM + SETTLE, SETTLE).pods
        sizes.append(number)
    assert len(set(sizes[-8:])) == 1, sizes


# What it is made from


def test_a_pod_is_read_from_its_record() -> None:
    record = InstanceRecord(
        capacity=Units(100), used=Units(50), idle=Units(60), lru_time=Millis(1_000), rpm=7, calls=150, loads_in_progress=3, load_threads=0
    )
    assert figures(record, Millis(5_000)) == Figures(Units(100), Units(50), Units(50), Millis(4_000), 7, 150, 3, 1)
    assert figures(record.with_(lru_time=NEVER), Millis(5_000)).age is None
    assert figures(record.with_(lru_time=Millis(0)), Millis(5_000)).age is None, "a router that does not tell"
    assert figures(record.with_(lru_time=Millis(9_000)), Millis(5_000)).age == 0, "its clock is ahead"


def test_a_runtime_is_what_its_pods_labels_name() -> None:
    assert runtime_of(("mt:sklearn", "pv:v2", "rt:mlserver-1.x")) == "mlserver-1.x"
    assert runtime_of(("gpu", "large")) == "gpu,large"
    assert runtime_of(()) == ""


def test_an_operator_may_aim_otherwise() -> None:
    inputs = Inputs((QUIET,), False, Memory(1, 1, Millis(0), Millis(0)), Millis(10 * SECOND), Aims(rpm=50, settle=SECOND))
    assert decide(inputs).pods == 2
