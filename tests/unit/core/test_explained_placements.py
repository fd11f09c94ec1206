"""A recorded placement: made again from its inputs it comes out the same, and what would have changed it does change it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given

from mesh.core.errors import Malformed
from mesh.core.explaining.decisions import Decision, Kind
from mesh.core.explaining.decisions import told as document
from mesh.core.explaining.replay import evidence_from_json
from mesh.core.ids import ModelId, PodId
from mesh.core.placement.choice import Place, Wish, turn_at
from mesh.core.placement.constraints import Constraints
from mesh.core.placement.evidence import SHOWN, PlacementEvidence
from mesh.core.placement.inputs import PlacementInputs, placement_from_json
from mesh.core.units import Millis
from tests.unit.core.places import MODEL, NOW, a_full_place, a_place, ago
from tests.unit.core.test_placement_properties import CONSTRAINTS, OUTDATED, decide, meshes, wishes


def evidence(
    *places: Place,
    holders: Sequence[str] = (),
    constraints: str = "",
    model_type: str = "sklearn",
    outdated: Sequence[str] = (),
    turn: int = 0,
    me: str = "",
    balanced: bool = False,
    zones: dict[str, int] | None = None,
    used: float = 0,
) -> PlacementEvidence:
    wish = Wish(model_type, ago(used), frozenset(map(PodId, holders)), zones or {}, MODEL, PodId(me), balanced)
    replaced = frozenset(map(PodId, outdated))
    return PlacementEvidence(PlacementInputs(places, wish, Constraints.parse(constraints), replaced, NOW, turn, Millis(30_000)))


def whys(found: PlacementEvidence) -> dict[str, str]:
    return {one.name: one.why for one in found.candidates()}


# Made again


@given(meshes, wishes)
def test_recorded_inputs_make_the_same_choice_again_also_from_their_json(places: tuple[Place, ...], wish: Wish) -> None:
    made = decide(places, wish, lambda count: turn_at(NOW) % count)
    recorded = PlacementEvidence(PlacementInputs(places, wish, CONSTRAINTS, OUTDATED, NOW, turn_at(NOW), Millis(30_000)))
    assert recorded.again() == (made.pod or "")
    read = evidence_from_json(json.loads(json.dumps(recorded.inputs())))
    assert read is not None
    assert read.again() == recorded.again()
    assert read.candidates() == recorded.candidates()
    assert read.inputs() == recorded.inputs()


@given(meshes, wishes)
def test_every_place_is_told_the_chosen_one_first_with_a_reason_for_all_others(places: tuple[Place, ...], wish: Wish) -> None:
    recorded = PlacementEvidence(PlacementInputs(places, wish, CONSTRAINTS, OUTDATED, NOW, turn_at(NOW), Millis(30_000)))
    told = recorded.candidates()
    assert sorted(one.name for one in told) == sorted(place.pod for place in places)
    assert [one.name for one in told if one.chosen] == ([recorded.again()] if recorded.again() else [])
    assert all(one.chosen == (not one.why) for one in told)
    assert all(one.chosen for one in told[:1]) or not recorded.again()


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([], "there is no decided_by"),
        ({"decided_by": "dice"}, "does not know how 'dice' decides; it knows"),
        ({"decided_by": "placement"}, "not the inputs of a placement: KeyError 'wish'"),
    ],
)
def test_what_is_no_record_of_inputs_is_refused(inputs: object, said: str) -> None:
    with pytest.raises(Malformed, match=said):
        evidence_from_json(inputs)


# What would have changed it


def test_a_pod_with_too_little_room_is_told_how_much_more_it_needs() -> None:
    found = evidence(a_place("a", models=1), a_place("b", models=9, free=20))
    assert whys(found) == {"a": "", "b": "it has 1000 MiB free, a 4950 MiB"}
    assert found.would_change() == [
        "b would have been as good as a, to be chosen in its turn, if it had 238 MiB more free",
        "b would have been as good as a, to be chosen in its turn, if it held 9 models fewer, in the same space",
        "without a it would have been b",
    ]


def test_a_sentence_holds_when_what_it_says_is_done_and_not_with_less() -> None:
    a, b = a_full_place("a", age=7_200), a_full_place("b", age=600)
    assert evidence(a, b, turn=1).would_change() == [
        "b would have been chosen if it had 50 MiB more free",
        "b would have been chosen if the model that it would evict had been used 5880 s earlier",
        "without a it would have been b",
    ]
    older, younger = (b._replace(record=b.record.with_(lru_time=b.record.lru_time - more * 1000)) for more in (5880, 5879))
    assert (evidence(a, older, turn=1).again(), evidence(a, younger, turn=1).again()) == ("b", "a")


@pytest.mark.parametrize(
    ("worse", "options", "said"),
    [
        ({}, {"holders": ["b"]}, "if it did not hold the model already, and had not failed or refused to load it for this wish"),
        ({"labels": ()}, {"constraints": '{"sklearn": {"required": ["gpu"]}}'}, "if it had the label gpu (MM_LABELS)"),
        ({"shutting_down": True}, {}, "if it were not shutting down"),
        ({"aside": True}, {}, "if calls to it got through"),
        ({}, {"outdated": ["b"]}, "if its replica set were not being replaced"),
        ({"pending": 1}, {}, "if no loads were on their way to it"),
        ({"rpm": 500}, {}, "if it had 350 requests a minute fewer"),
        ({"zone": "west"}, {"zones": {"west": 1}}, "if zone 'west' had no copy of the model yet"),
        ({"models": 30, "free": 95}, {}, "if it held 21 models fewer, in the same space"),
        ({"room": 10, "free": 10}, {}, "MiB larger"),
        ({}, {"me": "a", "balanced": True}, "if the client did not say that it spreads its calls itself (mm-balanced)"),
        ({}, {"turn": 1, "me": "a"}, "if the call had come 10 s later: it is as good, and then it is its turn"),
    ],
)
def test_the_one_thing_that_stood_in_the_way_is_named(worse: dict[str, object], options: dict[str, object], said: str) -> None:
    labels = {"labels": ("gpu",)} if "constraints" in options else {}
    best = a_place("a", free=95, version=1, **labels)  # type: ignore[arg-type]
    other = a_place("b", **{"free": 95, "version": 1, **worse})  # type: ignore[arg-type]
    found = evidence(best, other, **({"turn": 1} if "zones" in options else {}), **options)  # type: ignore[arg-type]
    if found.again() == "b":
        found = replace(found, given=found.given._replace(turn=found.given.turn + 1))
    assert found.again() == "a"
    assert any(sentence.startswith("b would have been ") and said in sentence for sentence in found.would_change()), found.would_change()


def test_an_older_router_is_told_the_version_that_would_have_been_preferred() -> None:
    found = evidence(a_full_place("a", version=2), a_full_place("b", version=1))
    assert "b would have been as good as a, to be chosen in its turn, if its router were of version 2" in found.would_change()


def test_without_any_place_it_is_said_what_would_make_one() -> None:
    found = evidence(a_place("a"), constraints='{"sklearn": {"required": ["gpu"]}}')
    assert found.again() == ""
    assert found.would_change() == ["a would have been chosen if it had the label gpu (MM_LABELS)"]
    assert not evidence().would_change()
    assert not evidence().candidates()
    assert evidence(a_place("a")).would_change() == ["without a there would have been no place"]


def test_what_no_single_change_would_have_helped_is_not_told_of() -> None:
    found = evidence(a_place("a"), a_place("b", shutting_down=True, aside=True))
    assert found.would_change() == ["without a there would have been no place"]


# Many pods


def a_thousand() -> PlacementEvidence:
    places = [a_place(f"pod-{number:04}", models=number % 7, shutting_down=number % 2 == 0) for number in range(1_000)]
    return evidence(*places, a_place("small", models=5, room=5))


def test_of_many_pods_the_nearest_are_told_and_the_others_counted_by_what_they_lack() -> None:
    told = a_thousand().candidates()
    assert len(told) <= SHOWN + 4
    assert {one.why for one in told[SHOWN:]} >= {"it is shutting down", "as good as the chosen one"}
    assert sum(int(one.name.split()[0]) for one in told[SHOWN:]) + SHOWN == 1_001


def test_trying_what_would_change_a_choice_among_many_ends() -> None:
    found = replace(a_thousand(), given=a_thousand().given._replace(turn=3))
    assert len(found.would_change()) <= 5


def test_an_old_choice_keeps_its_best_places_and_says_that_the_rest_is_gone() -> None:
    found = a_thousand()
    assert found.size == 1_001
    light = found.light()
    assert light.again() == found.again()
    told = light.candidates()
    assert [one.name for one in told if one.chosen] == [found.again()]
    assert len(told) <= SHOWN + 2
    assert told[-1].why.startswith("why each lost is no longer kept")
    assert (light.would_change(), evidence_from_json(light.inputs())) == ((), None)
    decision = Decision(Kind.PLACEMENT, ModelId("m"), Millis(1), light.again(), "why", evidence=light)
    assert len(document(decision, candidates=False, inputs=True)["candidates"]) == len(told)


def test_inputs_from_elsewhere_that_cannot_be_read_are_refused() -> None:
    document = evidence(a_place("a")).inputs()
    with pytest.raises(Malformed, match="not the inputs of a placement"):
        placement_from_json({**document, "places": [{"pod": "a"}]})
