"""Which pod gets one more copy, and why the others do not."""

from __future__ import annotations

import pytest

from mesh.core.ids import PodId
from mesh.core.placement.choice import Choice
from mesh.core.units import Millis, Units
from tests.unit.core.places import MODEL, NOW, a_full_place, a_place, ago, decide, last, nowhere, reason

# Where there is room


def test_a_pod_with_room_comes_before_a_full_one_however_old_the_full_ones_cache_is() -> None:
    choice = decide(a_full_place("old", age=86_400), a_place("roomy", models=90))
    assert choice == Choice(PodId("roomy"), (PodId("roomy"),), {PodId("old"): "it is full, roomy is not"})


def test_all_that_have_a_fourth_of_the_bests_space_and_few_models_are_drawn_from() -> None:
    places = [a_place("a", models=1), a_place("b", models=5), a_place("c", models=9, free=24.75), a_place("d", models=9, free=24.7)]
    choice = decide(*places, draw=last)
    assert (choice.pod, choice.shortlist) == ("c", ("a", "b", "c"))
    assert choice.rejected == {"d": "it has 1235 MiB free, a 4950 MiB"}


def test_of_many_models_a_pod_may_have_a_fourth_more_than_the_best() -> None:
    choice = decide(a_place("a", models=40), a_place("b", models=50), a_place("c", models=51))
    assert choice.shortlist == ("a", "b")
    assert choice.rejected == {"c": "it holds 51 models, a 40"}


def test_one_that_does_not_qualify_does_not_hide_those_behind_it() -> None:
    choice = decide(a_place("a"), a_place("tiny", models=1, room=10), a_place("b", models=2))
    assert choice.shortlist == ("a", "b")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"models": 3}, {"models": 4}),
        ({"models": 3, "free": 60}, {"models": 3, "free": 59}),
        ({"age": 20}, {"age": 10}),
        ({"age": 10}, {"age": None}),
        ({"threads": 4, "loads": 1}, {"threads": 4, "loads": 2}),
        ({"threads": 2, "loads": 0}, {"threads": 3, "loads": 1}),
        ({"free": 50, "room": 101}, {"free": 50, "room": 100}),
        ({"rpm": 5}, {"rpm": 6}),
        ({}, {}),
    ],
    ids=["fewer models", "more space", "older", "not empty", "more free slots", "fewer loads", "larger", "less busy", "by name"],
)
def test_the_shortlist_is_in_the_order_of_desirability(better: dict[str, int], worse: dict[str, int]) -> None:
    assert decide(a_place("b", **worse), a_place("a", **better)).shortlist == ("a", "b")  # type: ignore[arg-type]


def test_full_means_less_room_than_this_model_or_its_loading_slots_want() -> None:
    roomy = a_place("roomy", models=50)
    assert decide(a_place("a", models=1, free=0.9), roomy).pod == "roomy"
    assert reason(decide(a_place("a", models=1, free=4, threads=4, room=80), a_full_place("b")), "b") == "it is full, a is not"
    assert reason(decide(a_place("a", models=1, free=4, threads=9), roomy), "a") == "it is full, roomy is not", "a twentieth"
    assert decide(a_place("a", free=3, threads=1), a_full_place("b"), size=Units(4 * MODEL)).shortlist == ("a", "b"), "both are full for it"


# Where all are full


def test_among_full_pods_the_oldest_cache_comes_first() -> None:
    choice = decide(a_full_place("young", age=600), a_full_place("old", age=7_200))
    assert choice.shortlist == ("old",)
    assert choice.rejected == {"young": "its oldest model was used 600 s ago, that of old 7200 s ago"}


def test_caches_of_nearly_the_same_age_are_equal() -> None:
    hour = [a_full_place("a", age=3_600), a_full_place("b", age=3_240), a_full_place("c", age=3_239)]
    assert decide(*hour).shortlist == ("a", "b"), "a tenth"
    minutes = [a_full_place("a", age=300), a_full_place("b", age=255), a_full_place("c", age=254)]
    assert decide(*minutes).shortlist == ("a", "b"), "45 seconds"


def test_a_mesh_that_turns_over_in_seconds_looks_at_age_too() -> None:
    assert decide(a_full_place("a", age=40), a_full_place("b", age=20), a_full_place("c", age=19)).shortlist == ("a", "b")


def test_empty_pods_too_small_for_the_model_are_last_resorts() -> None:
    small, full = a_place("small", room=2, age=None), a_full_place("full", age=5)
    choice = decide(small, full, size=Units(3 * MODEL))
    assert (choice.pod, choice.rejected) == ("full", {"small": "its whole cache (100 MiB) is smaller than the model (150 MiB)"})
    assert decide(small, a_place("none", room=0, age=None), size=Units(3 * MODEL)).shortlist == ("small", "none")


# Orders under way


def test_orders_count_as_if_they_were_loaded() -> None:
    assert decide(a_place("a", models=40, pending=11), a_place("b", models=50, pending=0)).shortlist == ("b",)
    assert decide(a_place("a", models=90, pending=10), a_full_place("b", age=7_200)).pod == "b", "it is full by now"
    assert decide(a_place("a", models=90, pending=20), a_place("b", models=99)).pod == "b"


def test_of_equals_those_with_the_fewest_orders_are_drawn_from() -> None:
    choice = decide(a_place("a", pending=2), a_place("b", pending=1), a_place("c", pending=1), draw=last)
    assert (choice.pod, choice.shortlist) == ("c", ("b", "c"))
    assert choice.rejected == {"a": "2 loads went to it from here lately or are on their way, fewer to others as good"}


def test_of_equals_each_gets_its_turn_though_what_was_ordered_of_it_is_there_already() -> None:
    assert decide(a_place("a")._replace(lately=2), a_place("b")._replace(lately=1), a_place("c", pending=1)).shortlist == ("b", "c")


def test_a_pod_that_is_far_better_gets_the_first_order_and_then_the_others_their_turn() -> None:
    others = [a_place(name, models=60) for name in "bcd"]
    assert decide(a_place("new"), *others).shortlist == ("new",)
    assert decide(a_place("new", pending=1), *others).shortlist == ("b", "c", "d")
    assert decide(a_place("new", pending=1), *(a_place(name, models=60, pending=1) for name in "bcd")).shortlist == ("new",)


def test_orders_for_the_oldest_cache_make_it_younger_by_what_they_evict() -> None:
    assert decide(a_full_place("a", age=4_000, pending=25), a_full_place("b", age=3_000, pending=25)).rejected == {
        "b": "its oldest model was used 2250 s ago, that of a 3000 s ago"
    }
    assert decide(a_full_place("a", age=4_000, pending=50), a_full_place("b", age=3_000, pending=0)).pod == "b"
    assert decide(a_full_place("a", age=4_000, pending=500), a_full_place("b", age=10, pending=0)).pod == "b", "nothing old is left"


def test_orders_for_the_oldest_cache_give_the_others_a_turn_that_are_at_least_half_as_old() -> None:
    old = a_full_place("old", age=4_000, pending=1)
    assert decide(old, a_full_place("b", age=2_000), a_full_place("c", age=1_900)).shortlist == ("b",)


# Newer routers


def test_a_newer_router_is_preferred_among_equals() -> None:
    choice = decide(a_place("a", version=1), a_place("b", version=2, models=5))
    assert (choice.shortlist, choice.rejected) == (("b",), {"a": "as good, but others run a newer version of the router"})


def test_a_newer_router_is_preferred_though_it_is_full_until_its_cache_turns_over_too_fast() -> None:
    roomy = a_place("roomy", version=1)
    assert decide(roomy, a_full_place("new", version=2, age=60), churn_age=30).pod == "new"
    assert decide(roomy, a_full_place("new", version=2, age=59), churn_age=30).pod == "roomy"
    older = a_full_place("older", version=1, age=70)
    assert decide(older, a_full_place("new", version=2, age=20), churn_age=30).pod == "older"
    assert decide(a_full_place("a", version=1, age=50), a_full_place("new", version=2, age=20), churn_age=30).pod == "a", "both are"


# Never, and only if nothing else remains


def test_a_pod_that_has_it_shuts_down_or_is_no_router_of_ours_is_never_a_place() -> None:
    choice = decide(a_place("a"), a_place("b", shutting_down=True), a_place("java", endpoint=""), holders=["a"])
    assert choice == nowhere(
        a="it holds the model, failed to load it, or was tried already",
        b="it is shutting down",
        java="it is a router of another kind, without an endpoint for calls between pods",
    )


def test_the_deciding_pod_needs_no_endpoint_to_choose_itself() -> None:
    assert decide(a_place("me", endpoint=""), me="me").pod == "me"


def test_without_places_there_is_none() -> None:
    assert decide() == Choice(None)


def test_a_pod_without_the_labels_is_never_a_place() -> None:
    choice = decide(a_place("a", labels=("cpu",)), a_place("b"), constraints='{"sklearn": {"required": ["gpu"]}}')
    assert choice == nowhere(a="type sklearn needs [gpu]; it has [cpu]", b="type sklearn needs [gpu]; it has []")


def test_pods_that_are_being_replaced_or_do_not_answer_are_taken_if_nothing_else_remains() -> None:
    failing, replaced, full = a_place("failing", aside=True), a_place("replaced"), a_full_place("full", age=1)
    choice = decide(failing, replaced, full, outdated=["replaced"])
    assert choice.pod == "full"
    assert choice.rejected == {"failing": "calls to it fail at present", "replaced": "its replica set is being replaced"}
    assert decide(failing, replaced, outdated=["replaced"]).pod == "replaced"
    assert decide(failing).pod == "failing"


# Preferred labels

PREFERS = '{"sklearn": {"preferred": ["big"]}}'
BIG = ("big",)


def test_of_pods_as_good_only_preferred_ones_are_drawn_from() -> None:
    choice = decide(a_place("a", labels=BIG), a_place("b"), a_place("c", models=3, labels=BIG), constraints=PREFERS)
    assert (choice.shortlist, choice.rejected) == (("a", "c"), {"b": "type sklearn prefers pods with other labels"})


def test_a_preferred_pod_with_room_is_taken_though_others_have_more() -> None:
    assert decide(a_place("a"), a_place("b", models=90, labels=BIG), constraints=PREFERS).shortlist == ("b",)


def test_a_preferred_pod_that_is_full_gives_way_to_one_with_room_only_if_a_full_one_is_older() -> None:
    roomy, preferred = a_place("roomy"), a_full_place("preferred", age=600, labels=BIG)
    assert decide(roomy, preferred, constraints=PREFERS).pod == "preferred"
    assert decide(roomy, preferred, a_full_place("old", age=601), constraints=PREFERS).pod == "roomy"
    assert decide(roomy, preferred, a_full_place("old", age=599), constraints=PREFERS).pod == "preferred"


@pytest.mark.parametrize(("age", "chosen"), [(3_600, "b"), (2_700, "b"), (2_699, "a")])
def test_among_full_pods_a_preferred_one_may_be_a_fourth_younger(age: float, chosen: str) -> None:
    assert decide(a_full_place("a", age=3_600), a_full_place("b", age=age, labels=BIG), constraints=PREFERS).pod == chosen


def test_among_full_pods_a_preferred_one_may_be_two_minutes_younger() -> None:
    places = [a_full_place("b", age=200, labels=BIG), a_full_place("c", age=180, labels=BIG), a_full_place("d", age=179, labels=BIG)]
    assert decide(a_full_place("a", age=300), *places, constraints=PREFERS).shortlist == ("b", "c")


def test_where_no_pod_is_preferred_all_are_the_same() -> None:
    assert decide(a_place("a"), a_place("b"), constraints=PREFERS).shortlist == ("a", "b")


def test_a_model_that_may_go_anywhere_leaves_the_pods_that_others_need() -> None:
    needs = '{"llm": {"required": ["gpu"]}}'
    assert decide(a_place("a", labels=("gpu",)), a_place("b", models=60), constraints=needs).pod == "b"
    assert decide(a_place("a", labels=("gpu",)), a_place("b", models=60), model_type="llm", constraints=needs).pod == "a"


# Busy pods


@pytest.mark.parametrize(
    ("used", "rpm", "left"),
    [
        (-2, 221, False),
        (-2, 220, True),
        (0, 301, False),
        (0, 300, True),
        (4.9, 301, False),
        (5, 600, True),
        (700, 601, False),
        (720, 800, True),
        (86_000, 801, False),
        (86_400, 5_000, True),
    ],
)
def test_a_pod_far_busier_than_the_least_busy_is_dropped_the_sooner_the_fresher_the_models_use(used: float, rpm: int, left: bool) -> None:
    choice = decide(a_place("a", rpm=200), a_place("b", rpm=rpm), used=used)
    assert choice.shortlist == (("a", "b") if left else ("a",))
    assert left or choice.rejected == {"b": f"it is busy: {rpm} requests a minute"}


def test_below_a_hundred_requests_a_minute_all_are_idle() -> None:
    assert decide(a_place("a", rpm=1), a_place("b", rpm=150)).shortlist == ("a", "b")
    assert decide(a_place("a", rpm=1), a_place("b", rpm=151)).shortlist == ("a",)


def test_the_deciding_pod_is_dropped_too_if_it_is_busy() -> None:
    assert decide(a_place("me", rpm=500), a_place("b"), me="me", balanced=True).pod == "b"


# Zones, and clients that balance


def test_among_equals_a_zone_with_fewer_copies_comes_first() -> None:
    places = [a_place("a", zone="z1"), a_place("b", zone="z2", pending=3), a_place("c", zone="z3"), a_place("d", models=90, zone="z4")]
    choice = decide(*places, zones={"z1": 1, "z2": 0, "z3": 2})
    assert choice.shortlist == ("b",), "though loads are on their way to it"
    assert reason(choice, "a") == "zone 'z1' holds more copies of the model than others"
    assert reason(choice, "d").startswith("it has "), "a zone does not make a pod an equal"


def test_when_all_zones_have_as_many_copies_all_are_drawn_from() -> None:
    assert decide(a_place("a", zone="z1"), a_place("b", zone="z2"), zones={"z1": 1, "z2": 1}).shortlist == ("a", "b")


def test_where_clients_balance_the_deciding_pod_takes_what_it_is_good_for() -> None:
    places = [a_place("a"), a_place("me", models=5, pending=4)]
    choice = decide(*places, me="me", balanced=True)
    assert (choice.pod, choice.rejected) == ("me", {"a": "as good as me, where the request is"})
    assert decide(*places, me="me").pod == "a"
    assert decide(a_place("a"), a_full_place("me"), me="me", balanced=True).pod == "a"


# Odd figures


def test_figures_that_make_no_sense_still_give_a_place() -> None:
    full_of_the_future = a_full_place("a", age=-50, pending=3)
    overfull = a_place("b", free=-40, age=100, pending=2, room=10)
    nothing = a_place("c", room=0, pending=2, age=None)
    assert decide(full_of_the_future, overfull, nothing).pod == "b"
    assert decide(full_of_the_future, nothing).pod == "a"
    assert decide(nothing).pod == "c"
    assert ago(-50) == Millis(NOW + 50_000)
