"""Bounds on copies in documents: what is read, what is refused with its line, what `mesh scale` changes and a later apply keeps."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.registry.records import Bounds
from mesh.core.scaling.bounds import MOST as MOST_COPIES
from mesh.core.scaling.bounds import fault
from mesh.manifests.bounds import ANNOTATIONS, LEAST, MOST, PINNED, PRELOAD, SCALED, bounds_of, carried_over, passed_over, scaled
from mesh.manifests.documents import InferenceService, Predictor
from mesh.manifests.parsing import parse, parse_value
from mesh.manifests.predictor import registration
from mesh.manifests.reading import read_text

PREDICTOR = {"model": {"modelFormat": {"name": "sklearn"}, "storage": {"path": "x"}}}
SERVICE = """apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: a
  annotations:
    {notes}
spec:
  predictor:
    {replicas}
    model: {{modelFormat: {{name: sklearn}}, storage: {{path: x}}}}
"""


def raw(notes: dict[str, str] | None = None, **replicas: Any) -> dict[str, Any]:
    metadata = {"name": "a", **({"annotations": notes} if notes else {})}
    spec = {"predictor": {**PREDICTOR, **replicas}}
    return {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": metadata, "spec": spec}


def service(notes: dict[str, str] | None = None, **replicas: Any) -> InferenceService:
    document = parse_value(raw(notes, **replicas), "a.yaml").document
    assert isinstance(document, InferenceService)
    return document


def test_annotations_say_how_many_copies_there_are_to_be() -> None:
    notes = {LEAST: "1", MOST: "4", PINNED: "true", PRELOAD: "true"}
    assert bounds_of(service(notes)) == Bounds(1, 4, pinned=True, preload=True)
    assert bounds_of(service()) == Bounds()
    assert bounds_of(service({PINNED: "false", LEAST: " 2 "})) == Bounds(2)


def test_replicas_of_a_predictor_are_copies_and_annotations_go_before() -> None:
    assert bounds_of(service(minReplicas=2, maxReplicas=3)) == Bounds(2, 3)
    assert bounds_of(service({LEAST: "1"}, minReplicas=2, maxReplicas=3)) == Bounds(1, 3)
    assert bounds_of(service(minReplicas=None)) == Bounds()


def test_the_older_kind_has_them_too() -> None:
    value = {"apiVersion": "serving.kserve.io/v1alpha1", "kind": "Predictor", "metadata": {"name": "a", "annotations": {LEAST: "2"}}}
    document = parse_value({**value, "spec": {"modelType": {"name": "sklearn"}, "path": "x"}}, "a.yaml").document
    assert isinstance(document, Predictor)
    assert registration(document).bounds == Bounds(2)


def test_bounds_are_no_part_of_the_models_identity() -> None:
    bounded = registration(service({LEAST: "2"}, maxReplicas=3))
    assert bounded.bounds == Bounds(2, 3)
    assert bounded.model == registration(service()).model


@pytest.mark.parametrize(
    ("notes", "replicas", "said"),
    [
        (f"{LEAST}: '-1'", "", "f.yaml:6:32: the minimum of -1 copies has to be from 0 to"),
        (f"{LEAST}: many", "", f"f.yaml:6:32: metadata.annotations: {LEAST} has to be a whole number, not 'many'"),
        (f"{LEAST}: '1.5'", "", "has to be a whole number, not '1.5'"),
        (f"{MOST}: '99999'", "", "f.yaml:6:32: the maximum of 99999 copies has to be from 0 to"),
        (f"{{{LEAST}: '3', {MOST}: '2'}}", "", "the minimum of 3 copies is greater than the maximum of 2; a maximum of 0 is none"),
        (f"{LEAST}: '3'", "maxReplicas: 2", "f.yaml:9:18: the minimum of 3 copies is greater than the maximum of 2"),
        (f"{PINNED}: 'yes'", "", f"f.yaml:6:28: metadata.annotations: {PINNED} has to be true or false, not 'yes'"),
        (f"{PRELOAD}: ''", "", f"{PRELOAD} has to be true or false, not ''"),
        (
            "mesh.kserve.io/mincopies: '3'",
            "",
            f"f.yaml:6:31: metadata.annotations: there is no mesh.kserve.io/mincopies; there are {LEAST}, {MOST}, {PINNED}, {PRELOAD}",
        ),
        ("x: y", "minReplicas: two", "f.yaml:9:18: spec.predictor.minReplicas: must be a whole number, not the text 'two'"),
        ("x: y", "maxReplicas: -1", "f.yaml:9:18: spec.predictor.maxReplicas: Input should be greater than or equal to 0"),
        (
            f"{LEAST}: 2",
            "",
            "f.yaml:6:32: metadata.annotations.mesh.kserve.io/min-copies: must be a text, not the number 2; write it in quotes",
        ),
    ],
)
def test_bounds_that_cannot_be_are_refused_with_their_line(notes: str, replicas: str, said: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse(read_text(SERVICE.format(notes=notes, replicas=replicas), "f.yaml"))
    assert said in caught.value.message


def test_what_scales_pods_is_passed_over_and_said_so() -> None:
    notes = {"autoscaling.knative.dev/min-scale": "2", "serving.kserve.io/autoscalerClass": "hpa", "other": "x"}
    document = service(notes, scaleTarget=80, minReplicas=1)
    assert bounds_of(document) == Bounds(1)
    assert passed_over(document) == (
        "autoscaling.knative.dev/min-scale, scaleTarget, serving.kserve.io/autoscalerClass scale pods and are passed over; "
        f"for copies there are {LEAST} and {MOST}"
    )
    assert passed_over(service({LEAST: "1"}, minReplicas=1)) == ""


# mesh scale


def test_what_was_scaled_survives_an_apply_that_says_nothing_of_it() -> None:
    kept = scaled(raw({"team": "x"}), {LEAST: "2", PINNED: "true"})
    applied = carried_over(raw({"team": "y"}), kept)
    assert applied["metadata"]["annotations"] == {"team": "y", LEAST: "2", PINNED: "true", SCALED: "min-copies,pinned"}
    assert carried_over(raw({"team": "y"}), applied) == applied, "also the next one"


def test_a_document_that_says_otherwise_wins_for_good() -> None:
    kept = scaled(raw(), {LEAST: "2", MOST: "3"})
    applied = carried_over(raw({LEAST: "1"}), kept)
    assert applied["metadata"]["annotations"] == {LEAST: "1", MOST: "3", SCALED: "max-copies"}
    assert carried_over(raw(minReplicas=1, maxReplicas=5), kept) == raw(minReplicas=1, maxReplicas=5)


def test_what_a_document_said_is_gone_with_it() -> None:
    assert carried_over(raw(), raw({LEAST: "2"})) == raw()


def test_a_document_that_was_shown_and_is_applied_again_is_taken_as_it_is() -> None:
    kept = scaled(raw(), {LEAST: "2"})
    assert carried_over(kept, scaled(raw(), {LEAST: "3", MOST: "4"})) == kept


@given(
    st.dictionaries(st.sampled_from((LEAST, MOST)), st.integers(0, 5).map(str)),
    st.dictionaries(st.sampled_from(ANNOTATIONS[:2]), st.integers(0, 5).map(str)),
)
def test_whatever_is_scaled_holds_unless_the_next_document_says_otherwise(by_hand: dict[str, str], later: dict[str, str]) -> None:
    applied = carried_over(raw(later), scaled(raw(), by_hand))
    notes = applied["metadata"].get("annotations", {})
    assert {name: notes[name] for name in notes if name != SCALED} == {**by_hand, **later}


@given(st.integers(-2, MOST_COPIES + 2), st.integers(-2, MOST_COPIES + 2))
def test_bounds_are_right_or_their_fault_is_said(least: int, most: int) -> None:
    wrong = fault(Bounds(least, most))
    assert (wrong is None) == (0 <= least <= MOST_COPIES and 0 <= most <= MOST_COPIES and (most == 0 or least <= most))
