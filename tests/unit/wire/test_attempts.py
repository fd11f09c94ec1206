"""What the express lane tells of an attempt is read as it was; all else is the caller's."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from mesh.core.errors import Code
from mesh.core.ids import CopyId, ModelId, PodId
from mesh.core.units import Millis
from mesh.wire.attempts import believed, holder_of, name_of, taken_from

COPY = CopyId(ModelId("große/model#1"), 2)
OWN = (("x-mine", "1"), ("mm-model-id", "große"), ("x-mine-bin", b"\xff"))
TOLD = (
    ("mm-lane-tried", name_of(COPY)),
    ("mm-lane-code", "8"),
    ("mm-lane-text", quote("größer als 100 %")),
    ("mm-lane-header-x-first", "a"),
    ("mm-lane-trailer-x-many", "1"),
    ("mm-lane-trailer-x-many", "2"),
    ("mm-lane-trailer-grpc-status-details-bin", b"\x00\xff"),
)


def test_a_status_is_told_with_all_that_came_beside_it() -> None:
    own, attempt, _ = taken_from((*TOLD[:3], *OWN, *TOLD[3:]))
    assert own == OWN
    assert attempt is not None
    assert (attempt.copy, attempt.model) == (name_of(COPY), COPY.model)
    status = attempt.status
    assert (status.code, status.details, status.headers) == (Code.RESOURCE_EXHAUSTED, "größer als 100 %", (("x-first", "a"),))
    assert status.trailers == (("x-many", "1"), ("x-many", "2"), ("grpc-status-details-bin", b"\x00\xff"))


@pytest.mark.parametrize("name", ["mm-model-id", "user-agent", "grpc-encoding", "content-type", "mesh-load"])
def test_what_belongs_to_the_mesh_or_to_a_connection_does_not_come_back(name: str) -> None:
    attempt = taken_from((*TOLD, (f"mm-lane-trailer-{name}", "x"), (f"mm-lane-header-{name}", "x"))).attempt
    assert attempt is not None
    assert name not in dict((*attempt.status.headers, *attempt.status.trailers))


def test_a_call_of_which_nothing_was_tried_is_as_it_came() -> None:
    assert taken_from(OWN) == (OWN, None, None)
    assert taken_from((*OWN, ("mm-lane-peer", "x"))) == (OWN, None, None)


def test_what_was_chosen_for_a_call_is_told_whether_it_was_tried_or_not() -> None:
    chosen = ("mm-lane-chosen", quote(COPY.model, safe=""))
    assert taken_from((*OWN, chosen)) == (OWN, None, COPY.model)
    told = taken_from((*TOLD, chosen, *OWN))
    assert told.attempt is not None
    assert told.chosen == told.attempt.model == COPY.model


def test_what_another_pod_answered_says_that_it_was_that_pod() -> None:
    name, told = holder_of(ModelId("m@ü"), (PodId("pöd@1"), Millis(7))), ("mm-lane-trailer-mesh-pod-bin", b"other")
    attempt = taken_from((("mm-lane-tried", name), *TOLD[1:], told, ("mm-lane-trailer-mesh-load", "1 2 3"))).attempt
    assert attempt is not None
    assert (attempt.pod, attempt.model, attempt.copy) == (PodId("pöd@1"), ModelId("m@ü"), name)
    assert name.isascii()
    assert {("mesh-pod-bin", b"other"), ("mesh-load", "1 2 3")} <= set(attempt.status.trailers)
    own = taken_from(TOLD).attempt
    assert own is not None
    assert own.pod is None


def test_only_who_has_the_key_is_believed() -> None:
    keyed = (("mm-lane-key", "secret"), *TOLD, *OWN)
    own, attempt, _ = believed(keyed, "secret")
    assert own == OWN
    assert attempt is not None
    for metadata, key in ((keyed, "other"), (keyed, ""), ((*TOLD, *OWN), "secret"), ((("mm-lane-key", ""), *TOLD), "")):
        assert believed(metadata, key) == (metadata, None, None)


def test_copies_have_names_of_their_own() -> None:
    names = [name_of(CopyId(ModelId(model), number)) for model, number in (("a", 1), ("a", 2), ("a#1", 2), ("b", 1))]
    assert len(set(names)) == 4
    assert name_of(COPY).isascii()
