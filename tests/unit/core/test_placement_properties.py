"""What holds of every choice, whatever the pods' figures are."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.ids import PodId
from mesh.core.placement.choice import Choice, Place, Wish, choose
from mesh.core.placement.constraints import Constraints
from mesh.core.registry.instances import NEVER, InstanceRecord
from mesh.core.units import Millis, Units
from tests.unit.core.places import MODEL, NOW, a_place, ago, first

CONSTRAINTS = Constraints.parse(
    '{"a": {"required": ["x"], "preferred": ["y"]}, "b": {"required": ["y"]}, "_default": {"preferred": ["z"]}}'
)
OUTDATED = frozenset(PodId(f"pod-{n}") for n in (1, 4))

labels = st.sets(st.sampled_from("xyz")).map(lambda some: tuple(sorted(some)))
ages = st.one_of(st.just(NEVER), st.sampled_from([-5, 10, 30, 100, 3_000, 3_300, 7_200]).map(ago))
records = st.builds(
    InstanceRecord,
    version=st.sampled_from([0, 1, 2]),
    zone=st.sampled_from(["", "z1", "z2"]),
    labels=labels,
    lru_time=ages,
    count=st.integers(0, 40),
    capacity=st.integers(0, 40).map(lambda models: Units(models * MODEL)),
    used=st.integers(0, 40).map(lambda models: Units(models * MODEL)),
    load_threads=st.integers(0, 3),
    loads_in_progress=st.integers(0, 3),
    rpm=st.sampled_from([0, 90, 200, 700]),
    shutting_down=st.sampled_from([False, False, False, True]),
    endpoint=st.sampled_from(["10.0.0.1:8080", "10.0.0.1:8080", ""]),
)
meshes = st.lists(records, max_size=8).flatmap(
    lambda some: st.tuples(
        *(st.builds(Place, st.just(PodId(f"pod-{n}")), st.just(one), st.integers(0, 3), st.booleans()) for n, one in enumerate(some))
    )
)
wishes = st.builds(
    Wish,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from([-2, 0, 100, 10_000, 100_000]).map(ago),
    st.frozensets(st.integers(0, 8).map(lambda n: PodId(f"pod-{n}")), max_size=3),
    st.fixed_dictionaries({"": st.integers(0, 2), "z1": st.integers(0, 2)}),
    st.sampled_from([Units(1), MODEL, Units(3 * MODEL)]),
    st.sampled_from([PodId("pod-0"), PodId("elsewhere")]),
    st.booleans(),
)


def decide(
    places: Sequence[Place], wish: Wish, draw: Callable[[int], int] = first, *, outdated: frozenset[PodId] = OUTDATED, trace: bool = True
) -> Choice:
    return choose(places, wish, CONSTRAINTS, outdated, NOW, draw, trace=trace)


def possible(place: Place, wish: Wish) -> bool:
    record = place.record
    reachable = bool(record.endpoint) or place.pod == wish.me
    fits = set(CONSTRAINTS.needed(wish.model_type)) <= set(record.labels)
    return place.pod not in wish.holders and not record.shutting_down and reachable and fits


@given(meshes, wishes, st.integers(0, 7))
def test_a_place_is_found_if_there_is_a_possible_one_and_it_is_one(places: Sequence[Place], wish: Wish, number: int) -> None:
    choice = decide(places, wish, lambda count: number % count)
    candidates = {place.pod: place for place in places if possible(place, wish)}
    assert set(choice.shortlist) <= set(candidates)
    assert choice.pod in choice.shortlist if candidates else choice.pod is None


@given(meshes, wishes)
def test_a_last_resort_is_chosen_only_among_its_like(places: Sequence[Place], wish: Wish) -> None:
    chosen = {place.pod: place for place in places}.get(decide(places, wish).pod or PodId(""))
    candidates = [place for place in places if possible(place, wish)]
    if chosen is not None and chosen.aside:
        assert all(place.aside for place in candidates)
    if chosen is not None and chosen.pod in OUTDATED:
        alike = (place for place in candidates if place.aside == chosen.aside)
        large_enough = chosen.record.capacity >= wish.size
        assert all(place.pod in OUTDATED for place in alike if (place.record.capacity >= wish.size) == large_enough)


@given(meshes, wishes)
def test_every_place_is_drawn_from_or_has_its_reason(places: Sequence[Place], wish: Wish) -> None:
    choice = decide(places, wish)
    assert sorted([*choice.shortlist, *choice.rejected]) == [place.pod for place in places]
    assert decide(places, wish, trace=False) == replace(choice, rejected={})


@given(meshes, wishes, st.randoms(use_true_random=False))
def test_equal_places_in_any_order_give_the_same_choice(places: Sequence[Place], wish: Wish, rng: random.Random) -> None:
    assert decide(rng.sample(places, len(places)), wish) == decide(places, wish)


@given(meshes, wishes, st.data())
def test_a_pod_that_is_worse_in_all_changes_nothing_for_the_best(places: Sequence[Place], wish: Wish, data: st.DataObject) -> None:
    before = decide(places, wish)
    if before.pod is None:
        return
    model = data.draw(st.sampled_from([place for place in places if place.pod in before.shortlist]))
    like = model.record
    worse = like.with_(
        version=max(0, like.version - 1),
        count=like.count + 1,
        used=like.used + MODEL,
        rpm=like.rpm + 1,
        loads_in_progress=like.loads_in_progress + 1,
        lru_time=Millis(min(NEVER, like.lru_time + 1_000)),
        endpoint="10.0.0.9:8080",
    )
    added = Place(PodId("worse"), worse, model.pending + 1, model.aside, model.lately + 1)
    outdated = OUTDATED | {added.pod} if model.pod in OUTDATED else OUTDATED
    assert decide([*places, added], wish, outdated=outdated).shortlist == before.shortlist


class Counting(InstanceRecord):
    """A record that counts how often it is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> object:
        Counting.looks += 1
        return super().__getattribute__(name)


def looks(pods: int) -> int:
    places = []
    for number in range(pods):
        record = a_place("any", models=number % 7).record
        figures = {name: getattr(record, name) for name in record.__slots__}
        places.append(Place(PodId(f"pod-{number:04}"), Counting(**figures)))
    Counting.looks = 0
    decide(places, Wish("c", NOW, frozenset(), {}, MODEL, PodId("elsewhere")), trace=False)
    return Counting.looks


def test_a_thousand_pods_cost_ten_times_as_much_as_a_hundred() -> None:
    assert looks(1_000) <= 10 * looks(100)
