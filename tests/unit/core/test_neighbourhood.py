"""What a pod knows of the others: who answers, how busy they are, what was ordered of them."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.ids import ModelId, PodId
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.registry.records import ModelRecord
from mesh.core.routing.balancing import lighter
from mesh.core.routing.hops import Load
from mesh.core.routing.neighbourhood import INTENTION, WORD, Neighbourhood
from mesh.core.units import Millis, Units
from tests.unit.core.stage import HERE, INFO

M, A, B = ModelId("m"), PodId("a"), PodId("b")
NOW = Millis(1_000_000)
LIVING = InstanceRecord(endpoint="host:1")


def test_only_living_pods_with_an_endpoint_are_called_and_never_oneself() -> None:
    pods = Neighbourhood(HERE)
    for pod, record in ((HERE, LIVING), (A, LIVING), (B, InstanceRecord())):
        pods.instance_changed(pod, record)
    assert [pods.callable(pod) for pod in (HERE, A, B, PodId("x"))] == [False, True, False, False]
    assert [pod for pod, _ in pods.others()] == [A]
    pods.instance_changed(A, None)
    assert not pods.callable(A)
    assert (pods.instance(A), pods.instance(B)) == (None, InstanceRecord())


def test_a_pod_is_put_aside_until_it_answers_or_goes() -> None:
    pods = Neighbourhood(HERE)
    pods.instance_changed(A, LIVING)
    pods.fails(A)
    assert pods.aside(A)
    pods.answers(A)
    assert not pods.aside(A)
    pods.fails(A)
    pods.instance_changed(A, None)
    assert not pods.aside(A)


def test_load_is_ones_own_calls_and_those_of_others_when_the_pod_last_told() -> None:
    pods = Neighbourhood(HERE)
    assert (pods.calls(A, NOW), pods.turn(A)) == (0, 0)
    for _ in range(3):
        pods.began(A)
    assert pods.calls(A, NOW) == 3
    # Three of ours, one of which has just ended and brought the word, so two of the seven that run are ours.
    pods.reported(A, Load(calls=7), NOW)
    pods.ended(A)
    assert pods.calls(A, NOW) == 7
    pods.began(A)
    assert pods.calls(A, NOW) == 8
    pods.ended(B)
    pods.ended(A)
    pods.instance_changed(A, None)
    pods.ended(A)
    assert pods.calls(A, NOW) == 0


def test_a_word_of_much_load_is_not_believed_for_ever() -> None:
    pods = Neighbourhood(HERE)
    pods.began(A)
    pods.reported(A, Load(calls=7), NOW)
    assert pods.calls(A, Millis(NOW + WORD - 1)) == 8
    assert pods.calls(A, Millis(NOW + WORD)) == 1, "this pod knows of its own call without being told"


def test_an_intention_grows_old() -> None:
    pods = Neighbourhood(HERE)
    pods.intend(M, A, NOW)
    assert pods.intention(M, NOW) == A
    assert pods.ordered(A, NOW) == 1
    assert pods.intention(M, Millis(NOW + INTENTION + 1)) is None
    assert pods.ordered(A, NOW) == 0
    pods.forget(M)


def test_orders_of_calls_that_left_count_no_more_although_nobody_asks_for_their_models_again() -> None:
    pods = Neighbourhood(HERE)
    for number in range(3):
        pods.intend(ModelId(f"m{number}"), A, Millis(NOW + number))
    assert pods.ordered(A, Millis(NOW + INTENTION + 1)) == 2
    pods.intend(M, B, Millis(NOW + INTENTION + 2))
    assert (pods.ordered(A, Millis(NOW + INTENTION + 2)), pods.ordered(B, Millis(NOW + INTENTION + 2))) == (1, 1)
    later = Millis(NOW + 3 * INTENTION)
    assert (pods.ordered(A, later), pods.ordered(B, later)) == (0, 0)


def test_nothing_is_kept_of_pods_that_are_gone() -> None:
    pods = Neighbourhood(HERE)
    for number in range(100):
        pod = PodId(f"p{number}")
        pods.instance_changed(pod, LIVING)
        pods.intend(M, pod, NOW)
        pods.model_changed(M, ModelRecord(INFO, copies={pod: NOW}))
        pods.began(pod)
        pods.fails(pod)
        pods.instance_changed(pod, None)
        pods.reported(pod, Load(calls=1), NOW)
        pods.ended(pod)
    pods.model_changed(M, None)
    assert pods.lately(A, Millis(NOW + INTENTION + 1)) == 0
    assert {name: value for name, value in vars(pods).items() if isinstance(value, dict | set) and value} == {}


def test_what_was_ordered_lately_counts_for_a_while_whatever_came_of_it() -> None:
    pods = Neighbourhood(HERE)
    pods.intend(M, A, NOW)
    pods.model_changed(M, ModelRecord(INFO, copies={A: NOW}))
    pods.intend(ModelId("other"), A, Millis(NOW + 1))
    assert (pods.ordered(A, NOW), pods.lately(A, NOW)) == (1, 2)
    assert pods.lately(A, Millis(NOW + INTENTION + 1)) == 1
    assert pods.lately(A, Millis(NOW + INTENTION + 2)) == 0


def test_a_newer_intention_takes_the_place_of_an_older_one() -> None:
    pods = Neighbourhood(HERE)
    pods.intend(M, A, NOW)
    pods.intend(M, B, NOW)
    assert (pods.ordered(A, NOW), pods.ordered(B, NOW), pods.intended(M)) == (0, 1, B)


def test_copies_that_records_show_and_the_pod_has_not_told_of_are_counted_in_its_figures() -> None:
    pods = Neighbourhood(HERE)
    told = InstanceRecord(count=1, used=Units(100))
    for number in range(3):
        pods.model_changed(ModelId(f"m{number}"), ModelRecord(INFO, copies={A: NOW}))
    assert pods.figures(told, A, Units(10)) == told.with_(count=3, used=Units(120))
    assert pods.figures(told.with_(count=5), A, Units(10)) == told.with_(count=5)
    pods.model_changed(ModelId("m0"), ModelRecord(INFO, copies={B: NOW}))
    pods.model_changed(ModelId("m1"), None)
    assert pods.figures(told, A, Units(10)) == told


def test_the_age_of_a_cache_is_what_the_pod_told_last_in_its_record_or_with_an_answer() -> None:
    pods = Neighbourhood(HERE)
    told = InstanceRecord(lru_time=Millis(1000))
    pods.began(A)
    pods.reported(A, Load(lru_time=Millis(2000)), NOW)
    assert pods.figures(told, A, Units(10)).lru_time == 2000
    assert pods.figures(told.with_(lru_time=Millis(3000)), A, Units(10)).lru_time == 3000
    assert pods.figures(InstanceRecord(), A, Units(10)).lru_time == NEVER
    assert pods.figures(told, B, Units(10)).lru_time == 1000


def test_the_age_of_a_cache_is_told_by_ones_own_clock_however_far_the_other_is_off() -> None:
    for ahead in (3_600_000, -900_000, 0):
        pods = Neighbourhood(HERE)
        used = Millis(NOW - 50_000 + ahead)
        told = InstanceRecord(lru_time=Millis(used - 7))
        pods.began(A)
        pods.reported(A, Load(lru_time=used, at=Millis(NOW + ahead)), NOW)
        assert pods.figures(told, A, Units(10)).lru_time == NOW - 50_000
        assert pods.figures(InstanceRecord(), A, Units(10)).lru_time == NEVER
        pods.reported(A, Load(lru_time=used), Millis(NOW + 60_000))
        assert pods.figures(told, A, Units(10)).lru_time == NOW - 50_000, "a word without a time leaves what is known of the clock"


def test_an_intention_ends_when_the_copy_or_a_failure_is_recorded_or_the_model_goes() -> None:
    for record in (ModelRecord(INFO, copies={A: NOW}), ModelRecord(INFO, failed={A: NOW}), None):
        pods = Neighbourhood(HERE)
        pods.intend(M, A, NOW)
        pods.model_changed(M, ModelRecord(INFO, copies={B: NOW}))
        assert pods.intended(M) == A
        pods.model_changed(M, record)
        assert pods.intended(M) is None


def test_a_failure_of_this_pod_that_somebody_took_from_the_record_is_told_once() -> None:
    pods = Neighbourhood(HERE)
    failed = ModelRecord(INFO, failed={HERE: NOW})
    assert [pods.model_changed(M, record) for record in (failed, failed, ModelRecord(INFO), ModelRecord(INFO))] == [
        False,
        False,
        True,
        False,
    ]


def test_copies_are_counted_by_zone() -> None:
    pods = Neighbourhood(HERE)
    pods.instance_changed(A, InstanceRecord(zone="east"))
    pods.instance_changed(B, InstanceRecord(zone="west"))
    assert pods.zones(ModelRecord(INFO, copies={A: NOW, B: NOW, PodId("dead"): NOW})) == Counter(east=1, west=1)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.data())
def test_the_chosen_one_of_two_is_never_busier_than_the_other(loads: list[int], data: st.DataObject) -> None:
    pods = Neighbourhood(HERE)
    names = [PodId(f"p{number}") for number in range(len(loads))]
    for pod, load in zip(names, loads, strict=True):
        for _ in range(load):
            pods.began(pod)
    drawn: list[int] = []

    def draw(below: int) -> int:
        drawn.append(data.draw(st.integers(0, below - 1)))
        return drawn[-1]

    chosen = lighter(names, pods, NOW, draw)
    pair = {names[drawn[0]], names[(drawn[0] + 1 + drawn[1]) % len(names)]} if drawn else {names[0]}
    assert chosen in pair
    assert pods.calls(chosen, NOW) == min(pods.calls(pod, NOW) for pod in pair)


class Kept:
    """An account that somebody else keeps."""

    def __init__(self) -> None:
        self.own = self.turn = self.lru_time = self.behind = 0
        self.said: list[tuple[int, int, int, int]] = []

    def began(self) -> None:
        self.own += 1

    def ended(self) -> None:
        self.own -= 1

    def calls(self, now: int) -> int:
        return self.own + 100

    def reported(self, calls: int, lru_time: int, at: int, now: int) -> None:
        self.said.append((calls, lru_time, at, now))


def test_calls_may_be_counted_where_others_count_too_also_those_under_way() -> None:
    pods, kept = Neighbourhood(HERE), dict[PodId, Kept]()
    pods.began(A)
    pods.accounts(lambda pod: kept.setdefault(pod, Kept()))
    assert pods.account(A) is kept[A]
    pods.began(A)
    pods.began(B)
    assert (kept[A].own, kept[B].own, pods.calls(A, NOW)) == (2, 1, 102)
    pods.ended(A)
    pods.reported(A, Load(3, Millis(5), Millis(7)), NOW)
    assert (kept[A].own, kept[A].said) == (1, [(3, 5, 7, NOW)])


def test_whoever_watches_is_told_of_each_pod_that_may_be_called_otherwise_now() -> None:
    pods, told = Neighbourhood(HERE), list[PodId]()
    pods.watch = told.append
    pods.instance_changed(A, LIVING)
    pods.fails(A)
    pods.answers(A)
    pods.instance_changed(A, None)
    assert told == [A] * 4
