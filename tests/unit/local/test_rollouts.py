"""What a user wants of a service's versions comes to a document; what cannot be is said with what can."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import Conflict, Failed, Malformed, MeshError, Unknown
from mesh.core.explaining.status import AliasState, AliasStatus, ModelState, ModelStatus, TrafficStatus, VersionStatus
from mesh.core.ids import ModelId
from mesh.local.controller import Service
from mesh.local.history import History, wanted_by
from mesh.local.rollouts import Rollout, _history, outcome
from mesh.manifests.parsing import Applied, parse_value
from tests.unit.local.test_history import service

LOADED = ModelStatus(ModelState.LOADED)


def model(path: str) -> ModelId:
    return wanted_by(service(path)).model


def traffic(*versions: tuple[int, str], stable: int, following: int = 0, canary: tuple[int, int] = (0, 0)) -> TrafficStatus:
    """Versions by number and path."""

    def percent(number: int) -> int:
        return canary[1] if number == canary[0] else 100 - canary[1] if number == stable else 0

    return TrafficStatus(
        tuple(
            VersionStatus(number, model(path), LOADED, percent(number), stable=number == stable, next=number == following)
            for number, path in versions
        )
    )


def rollout(tmp_path: Path, known: TrafficStatus | None, *applied: Applied) -> Rollout:
    """A service to which these were applied one after the other."""
    history, before = History(tmp_path, lambda *_: None, count(1).__next__), None
    for one in applied:
        history.note(one, before)
        before = one
    return Rollout(applied[-1], history.of(applied[-1]), known)


def said(raw: dict[str, Any]) -> tuple[str, Any]:
    """The path of a document's model, and its canary's share."""
    predictor = raw["spec"]["predictor"]
    return predictor["model"]["storage"]["path"], predictor.get("canaryTrafficPercent")


THREE = (service("1"), service("2"), service("3"))
KEPT = ((1, "1"), (2, "2"), (3, "3"))


def test_a_canary_is_the_document_with_another_share(tmp_path: Path) -> None:
    running = rollout(tmp_path, traffic((1, "1"), (2, "2"), stable=1, canary=(2, 10)), service("1"), service("2", 10))
    assert said(running.canary(50, None)) == ("2", 50)
    assert said(running.promote()) == ("2", None)
    assert said(running.abort()) == ("1", None)
    assert running.applied.raw == service("2", 10).raw, "the document in force is not touched"


def test_a_version_that_is_kept_can_be_the_canary(tmp_path: Path) -> None:
    there = rollout(tmp_path, traffic(*KEPT, stable=3), *THREE)
    assert said(there.canary(10, 1)) == ("1", 10)
    assert said(there.canary(100, 3)) == ("3", 100)


@pytest.mark.parametrize(
    ("order", "error", "text"),
    [
        (
            lambda one: one.canary(10, None),
            Conflict,
            "version 3 of a is the stable one, which has what a canary leaves: name another one (--version, of 1, 2), or apply a document "
            "with another model and canaryTrafficPercent",
        ),
        (lambda one: one.canary(10, 7), Unknown, "a keeps no version 7; it keeps 1, 2, 3"),
        (lambda one: one.canary(101, 1), Malformed, "PERCENT has to be a whole number from 0 to 100, not 101"),
        (lambda one: one.canary(True, 1), Malformed, "PERCENT has to be a whole number from 0 to 100, not True"),
        (lambda one: one.promote(), Conflict, "a has no canary to promote; `mesh rollout canary a PERCENT` makes one"),
        (lambda one: one.abort(), Conflict, "a has no canary to abort; `mesh rollout canary a PERCENT` makes one"),
        (lambda one: one.undo(7), Unknown, "a keeps no version 7; it keeps 1, 2, 3"),
        (lambda one: one.undo(3), Conflict, "version 3 of a has all calls already"),
    ],
)
def test_what_cannot_be_is_said_with_what_can(tmp_path: Path, order: Any, error: type[MeshError], text: str) -> None:
    with pytest.raises(error) as caught:
        order(rollout(tmp_path, traffic(*KEPT, stable=3), *THREE))
    assert caught.value.message == text


def test_going_back_is_to_the_version_before_or_to_the_one_that_is_named(tmp_path: Path) -> None:
    assert said(rollout(tmp_path, traffic(*KEPT, stable=3), *THREE).undo(None)) == ("2", None)
    assert said(rollout(tmp_path, traffic(*KEPT, stable=3), *THREE).undo(1)) == ("1", None)
    assert said(rollout(tmp_path, traffic(*KEPT, stable=2), *THREE, service("2")).undo(None)) == ("1", None)
    assert said(rollout(tmp_path, traffic(*KEPT, stable=2, canary=(3, 10)), *THREE[:2], service("3", 10)).undo(3)) == ("3", None)
    assert said(rollout(tmp_path, traffic(*KEPT, stable=2, canary=(3, 10)), *THREE[:2], service("3", 10)).undo(2)) == ("2", None)


def test_a_version_that_is_still_on_its_way_is_taken_back(tmp_path: Path) -> None:
    assert said(rollout(tmp_path, traffic(*KEPT, stable=2, following=3), *THREE).undo(None)) == ("2", None)


def test_the_documents_know_what_was_before_when_the_registry_was_lost(tmp_path: Path) -> None:
    assert said(rollout(tmp_path, traffic((1, "3"), stable=1), *THREE).undo(None)) == ("2", None)
    assert said(rollout(tmp_path, None, *THREE).undo(None)) == ("2", None)
    with pytest.raises(Unknown, match=r"a keeps no version before version 1; it keeps 1: `mesh rollout undo a --to N`"):
        rollout(tmp_path, traffic((1, "1"), stable=1), service("1")).undo(None)
    with pytest.raises(Failed, match="the versions of a are not known now"):
        rollout(tmp_path, None, *THREE).undo(1)


def test_a_version_without_its_document_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unknown, match="a keeps the model, but not the document of version 1; it keeps 2, 3"):
        rollout(tmp_path, traffic((1, "lost"), (2, "2"), (3, "3"), stable=3), *THREE).undo(1)
    with pytest.raises(Failed, match="the document of the stable version of a is not kept; apply it"):
        rollout(tmp_path, traffic((1, "lost"), (2, "2"), stable=1, canary=(2, 10)), service("2", 10)).abort()


def test_what_mesh_scale_set_in_a_former_document_is_of_its_time(tmp_path: Path) -> None:
    old = service("1", None, "a", **{"min-copies": "3", "scaled": "min-copies", "versions": "5"})
    raw = rollout(tmp_path, traffic((1, "1"), (2, "2"), stable=2), old, service("2")).undo(1)
    assert raw["metadata"]["annotations"] == {"mesh.kserve.io/versions": "5"}


def predictor(path: str) -> Applied:
    value = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "Predictor", "metadata": {"name": "a"}}
    return parse_value({**value, "spec": {"modelType": {"name": "sklearn"}, "path": path}}, "a.yaml")


def test_a_predictor_has_no_canary_and_can_be_taken_back(tmp_path: Path) -> None:
    documents = predictor("1"), predictor("2")
    versions = [VersionStatus(number, wanted_by(one).model, LOADED, stable=number == 2) for number, one in enumerate(documents, 1)]
    there = rollout(tmp_path, TrafficStatus(tuple(versions)), *documents)
    orders: tuple[Callable[[], object], ...] = (lambda: there.canary(10, None), there.promote, there.abort)
    for order in orders:
        with pytest.raises(Malformed, match="Predictor a can have no canary: canaryTrafficPercent is a field of InferenceServices"):
            order()
    assert there.undo(None)["spec"]["path"] == there.undo(1)["spec"]["path"] == "1"
    assert [(one["version"], one["role"], one["inForce"]) for one in _history(there)] == [(1, "", False), (2, "stable", True)]


def test_a_history_tells_what_a_version_is_of(tmp_path: Path) -> None:
    there = rollout(tmp_path, traffic((1, "2"), (2, "3"), stable=1, canary=(2, 5)), *THREE[:2], service("3", 5))
    told = [(one["version"], one["path"], one["format"], one["role"], one["at"]) for one in _history(there)]
    assert told == [(None, "1", "sklearn", "", 1), (1, "2", "sklearn", "stable", 2), (2, "3", "sklearn", "canary", 3)]


def seen(active: str, target: str = "", state: ModelState = ModelState.LOADED, *errors: str) -> AliasStatus:
    there = AliasState.TRANSITION_FAILED if errors and target else AliasState.DEFINED
    status = ModelStatus(state, errors)
    return AliasStatus(there, model(active), model(target or active), "isvc", LOADED if target else status, status if target else None)


CANARY = wanted_by(service("2", 10))


@pytest.mark.parametrize(
    ("known", "versions", "reached", "trouble"),
    [
        (Service(wanted_by(service("2"))), traffic((1, "1"), stable=1), False, ""),
        (Service(wanted_by(service("2")), refusal="no"), traffic((1, "1"), stable=1), False, "no"),
        (Service(wanted_by(service("2")), False, seen("1")), None, False, ""),
        (Service(wanted_by(service("2")), False, seen("1", "2")), traffic((1, "1"), (2, "2"), stable=1, following=2), False, ""),
        (Service(wanted_by(service("2")), False, seen("2")), traffic((1, "1"), (2, "2"), stable=2), True, ""),
        (
            Service(wanted_by(service("2")), False, seen("1", "2", ModelState.LOADING_FAILED, "boom")),
            traffic((1, "1"), (2, "2"), stable=1, following=2),
            False,
            "version 2 cannot load: boom",
        ),
        (Service(CANARY, False, seen("1")), traffic((1, "1"), (2, "2"), stable=1, canary=(2, 10)), True, ""),
        (Service(CANARY, False, seen("2")), traffic((1, "1"), (2, "2"), stable=2), True, ""),
    ],
)
def test_who_waits_is_told_when_it_is_there_or_cannot_be(known: Service, versions: TrafficStatus, reached: bool, trouble: str) -> None:
    assert outcome(known, versions) == (reached, trouble)


def test_who_waits_for_a_canary_that_cannot_load_is_told_why() -> None:
    failed = VersionStatus(2, model("2"), ModelStatus(ModelState.LOADING_FAILED, ("boom",)), 10)
    versions = TrafficStatus((VersionStatus(1, model("1"), LOADED, 90, stable=True), failed))
    told = outcome(Service(CANARY, False, seen("1")), versions)
    assert told == (False, "canary version 2 cannot load, so the stable version has all calls: boom")
