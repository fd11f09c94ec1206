"""Of many pods only some are rated for a choice: the best are among them, and the others come in turn."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.ids import PodId
from mesh.core.placement.choice import Place, Wish, choose
from mesh.core.placement.constraints import Constraints
from mesh.core.placement.places import BEST, FEW, ROUND, Places
from mesh.core.units import Millis
from tests.unit.core.places import MODEL, NOW, ROOM, a_place, ago, first

TYPES = Constraints.parse('{"a": {"required": ["a"]}, "b": {"required": ["b"]}, "c": {"preferred": ["a"]}}')
AS_GOOD = {
    "its zone holds more copies of the model than others",
    "more loads went to it lately or are on their way",
    "as good, but others run a newer version of the router",
}
"""Rules that a place meets only when it is as good as the best."""

FIGURES = st.tuples(
    st.sampled_from([0, 1, 20, 50, ROOM]),
    st.integers(60, 100_000),
    st.sampled_from([(), ("a",), ("b",), ("a", "b")]),
    st.integers(0, 1),
)


def place(number: int, figures: tuple[int, int, tuple[str, ...], int]) -> Place:
    models, age, labels, version = figures
    return a_place(f"pod-{number:04}", models=models, age=age, labels=labels, version=version)


def index(places: list[Place]) -> Places:
    made = Places()
    for one in places:
        made.changed(one.pod, one.record)
    return made


def wish(model_type: str, *holders: PodId) -> Wish:
    return Wish(model_type, Millis(NOW - 10**9), frozenset(holders), {}, MODEL, PodId("me"))


@given(st.lists(FIGURES, min_size=1, max_size=80), st.sampled_from(["a", "b", "any"]), st.integers(0, 10_000), st.sets(st.integers(0, 79)))
def test_what_is_chosen_of_some_is_as_good_as_the_best_of_all(
    figures: list[tuple[int, int, tuple[str, ...], int]], model_type: str, turn: int, held: set[int]
) -> None:
    required = Constraints.parse('{"a": {"required": ["a"]}, "b": {"required": ["b"]}, "any": {"preferred": ["none"]}}')
    places = [place(number, one) for number, one in enumerate(figures)]
    wanted = wish(model_type, *(places[number].pod for number in held if number < len(places)))
    some = set(index(places).worth(model_type, required, wanted.holders, turn))
    chosen = choose([one for one in places if one.pod in some], wanted, required, set(), NOW, first).pod
    whole = choose(places, wanted, required, set(), NOW, first, trace=True)
    assert (chosen is None) == (whole.pod is None)
    if chosen is not None:
        assert chosen in whole.shortlist or whole.rules[chosen] in AS_GOOD


@given(st.lists(FIGURES, max_size=FEW))
def test_of_few_the_best_is_found_whatever_came_and_went(figures: list[tuple[int, int, tuple[str, ...], int]]) -> None:
    places = [place(number, one) for number, one in enumerate(figures)]
    made = index([place(number, (5, 70, ("b",), 1)) for number in range(len(figures) + 5)])
    for one in places:
        made.changed(one.pod, one.record)
    for number in range(len(figures), len(figures) + 5):
        made.changed(PodId(f"pod-{number:04}"), None)
    assert len(made) == len(places)
    assert made.worth("c", TYPES, set(), 3) == index(places).worth("c", TYPES, set(), 3)


def test_a_thousand_equal_pods_all_have_their_turn() -> None:
    places = index([a_place(f"pod-{number:04}") for number in range(1000)])
    seen = Counter(pod for turn in range(1000 // ROUND + 1) for pod in places.worth("any", TYPES, set(), turn))
    assert len(seen) == 1000
    assert max(len(places.worth("any", TYPES, set(), turn)) for turn in range(200)) <= BEST + ROUND


def test_who_is_not_wanted_leaves_or_cannot_be_called_is_not_looked_at() -> None:
    ready = [a_place(f"pod-{number}") for number in range(BEST + 1)]
    others = [a_place("leaves", shutting_down=True), a_place("foreign", endpoint="")]
    places = index(ready + others)
    assert set(places.worth("any", TYPES, {PodId("pod-0")}, 0)) == {one.pod for one in ready[1:]}
    places.changed(PodId("pod-1"), replace(ready[1].record, shutting_down=True))
    assert PodId("pod-1") not in places.worth("any", TYPES, set(), 0)
    assert index([]).worth("any", TYPES, set(), 7) == []


def test_the_preferred_are_looked_at_beside_the_best_of_all() -> None:
    many = [a_place(f"free-{number:02}") for number in range(40)]
    preferred = [a_place(f"like-{number:02}", models=50, age=70, labels=("a",)) for number in range(40)]
    found = index(many + preferred).worth("c", TYPES, set(), 0)
    assert sum(pod.startswith("like") for pod in found) >= BEST
    assert sum(pod.startswith("free") for pod in found) == BEST


def test_other_constraints_count_at_once() -> None:
    places = index([a_place(f"pod-{number:02}", labels=("a",) if number % 2 else ()) for number in range(40)])
    assert len(places.worth("a", TYPES, set(), 0)) > 0
    assert all(int(pod[-2:]) % 2 for pod in places.worth("a", TYPES, set(), 0))
    loose = Constraints()
    assert any(not int(pod[-2:]) % 2 for turn in range(9) for pod in places.worth("a", loose, set(), turn))


def test_changing_figures_change_who_is_best() -> None:
    places = index([a_place(f"pod-{number:02}", models=50) for number in range(40)])
    rng = random.Random(1)
    for _ in range(20):
        pod = f"pod-{rng.randrange(40):02}"
        places.changed(PodId(pod), a_place(pod, models=1, age=None).record)
        assert pod in places.worth("any", TYPES, set(), 0)
        places.changed(PodId(pod), a_place(pod, models=50).record)
    assert ago(0) == NOW
