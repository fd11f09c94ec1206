"""A burst of different cold models spreads, though every pod decides by its own old view: figures stand still, own orders are all it knows.

Each story runs over seeds, which say in what order the pods decide, how they differ and, where chance decides, what it says.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest

from mesh.core.ids import PodId
from mesh.core.placement.choice import Place, Wish, choose, turn_at
from mesh.core.placement.constraints import Constraints
from mesh.core.units import Millis
from tests.unit.core.places import MODEL, NOW, Draw, a_full_place, a_place

PODS = 20
MODELS = 500
MEAN = MODELS // PODS
seeds = pytest.mark.parametrize("seed", range(20))
few_seeds = pytest.mark.parametrize("seed", range(5))
"""For stories of pods that differ by design, in which seeds matter less."""


def burst(places: Sequence[Place], seed: int, *, deciders: int = PODS, models: int = MODELS, draw: Draw | None = None) -> Counter[PodId]:
    """Cold models, as many at each deciding pod, within half a minute: pod -> models it got.

    Without a draw the pods go round by clocks of their own, up to five seconds apart.
    """
    rng = random.Random(seed)
    arrivals = [number % deciders for number in range(models)]
    rng.shuffle(arrivals)
    clocks = [rng.randrange(5_000) for _ in range(deciders)]
    orders = [Counter[PodId]() for _ in range(deciders)]
    for number, decider in enumerate(arrivals):
        now, mine = Millis(NOW + clocks[decider] + number * 30_000 // models), orders[decider]
        view = [Place(place.pod, place.record, mine[place.pod]) for place in places]
        wish = Wish("sklearn", now, frozenset(), {}, MODEL, places[decider].pod)
        chosen = choose(view, wish, Constraints(), frozenset(), now, draw or turn_at(now).__mod__).pod
        assert chosen is not None
        mine[chosen] += 1
    return sum(orders, Counter[PodId]())


def empty_pods() -> list[Place]:
    return [a_place(f"pod-{n:02}", room=200, age=None) for n in range(PODS)]


def most(got: Counter[PodId], pods: int = PODS) -> float:
    """What the busiest pod got, as a multiple of the mean."""
    return max(got.values()) * pods / got.total()


@seeds
def test_over_equal_empty_pods(seed: int) -> None:
    assert most(burst(empty_pods(), seed)) <= 1.3


@seeds
def test_over_equal_empty_pods_by_chance(seed: int) -> None:
    assert most(burst(empty_pods(), seed, draw=random.Random(seed).randrange)) <= 1.3


@seeds
def test_a_small_burst_goes_to_all(seed: int) -> None:
    assert max(burst(empty_pods(), seed, models=2 * PODS).values()) <= 4, "chance alone makes it up to seven"


@seeds
def test_over_full_pods_with_caches_of_nearly_the_same_age(seed: int) -> None:
    ages = random.Random(seed)
    assert most(burst([a_full_place(f"pod-{n:02}", age=ages.uniform(3_300, 3_600)) for n in range(PODS)], seed)) <= 1.3


@seeds
def test_over_pods_with_differing_free_space(seed: int) -> None:
    rng = random.Random(seed)
    places = [a_place(f"pod-{n:02}", room=200, models=rng.randrange(10), free=rng.uniform(60, 190)) for n in range(PODS)]
    assert most(burst(places, seed)) <= 1.3


@few_seeds
def test_over_pods_of_which_some_have_next_to_no_room(seed: int) -> None:
    scarce = [a_place(f"scarce-{n}", free=8, models=60, room=200) for n in range(4)]
    got = burst([*scarce, *(a_place(f"roomy-{n:02}", models=5, room=200) for n in range(PODS - 4))], seed)
    assert len(got) == PODS - 4, "those without room get nothing"
    assert most(got, PODS - 4) <= 1.3


@few_seeds
def test_decided_by_one_pod_alone(seed: int) -> None:
    got = burst(empty_pods(), seed, deciders=1)
    assert set(got.values()) == {MEAN}, "who decides alone knows all orders"


# Pods that differ by more than the tolerances get different shares, but never all: each decider goes once round before it comes back,
# so that the best get one order more from each.

ONCE_MORE = -(-MEAN // PODS)
"""Rounds of a decider over all pods: what a pod gets from it at most."""


@few_seeds
def test_over_full_pods_the_oldest_cache_gets_most_and_is_not_emptied_by_all_at_once(seed: int) -> None:
    got = burst([a_full_place(f"pod-{n:02}", age=7_200 - 180 * n) for n in range(PODS)], seed)
    assert max(got.values()) <= PODS * ONCE_MORE
    assert sum(got[PodId(f"pod-{n:02}")] for n in range(5)) > 1.3 * 5 * MEAN


@few_seeds
def test_a_young_cache_beside_old_ones_is_spared(seed: int) -> None:
    got = burst([a_full_place("young", age=60), *(a_full_place(f"pod-{n:02}", age=7_200) for n in range(PODS - 1))], seed)
    assert got[PodId("young")] == 0
    assert most(got, PODS - 1) <= 1.3


@few_seeds
def test_a_new_pod_beside_half_full_ones_gets_more_and_not_all(seed: int) -> None:
    got = burst([a_place("new", age=None), *(a_place(f"pod-{n:02}", models=50) for n in range(PODS - 1))], seed)
    assert got[PodId("new")] == max(got.values()) == PODS * ONCE_MORE
    assert max(count for pod, count in got.items() if pod != "new") <= 1.3 * MEAN
