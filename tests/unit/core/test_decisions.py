"""The book of decisions: what is found in it, and what it forgets so that it stays small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.core.explaining.decisions import Candidate, Decision, Decisions, Evidence, Kind, size_of, told
from mesh.core.ids import ModelId
from mesh.core.scaling.proactive import Early
from mesh.core.units import Millis, Units


@dataclass(frozen=True)
class Weighed:
    """Evidence that holds so many candidates."""

    size: int

    def light(self) -> Evidence:
        return Weighed(0)

    def again(self) -> str:
        return "b"

    def candidates(self) -> Sequence[Candidate]:
        return [Candidate("b", True, {"free": self.size}), Candidate("c", False, {}, "it is full")]

    def would_change(self) -> Sequence[str]:
        return ["more room on c"]

    def inputs(self) -> dict[str, object]:
        return {"decided_by": "weight", "size": self.size}


def a_decision(at: int, model: str = "m", kind: Kind = Kind.PLACEMENT, request: str = "", size: int | None = None) -> Decision:
    return Decision(kind, ModelId(model), Millis(at), "b", "the best", request, None if size is None else Weighed(size))


def times(found: Sequence[Decision]) -> list[int]:
    return [decision.at for decision in found]


def test_decisions_are_found_by_model_request_and_kind_the_latest_ones_last() -> None:
    book = Decisions()
    book.note(a_decision(1, "m", request="r-1"))
    book.note(a_decision(2, "n", Kind.EVICTION))
    book.note(a_decision(3, "m", Kind.RETRY, "r-1"))
    book.note(a_decision(4, "m", request="r-2"))
    assert times(list(book)) == times(book.find()) == [1, 2, 3, 4]
    assert times(book.find(model="m")) == [1, 3, 4]
    assert times(book.find(model="m", kind=Kind.PLACEMENT)) == [1, 4]
    assert times(book.find(request="r-1")) == [1, 3]
    assert times(book.find(request="r-1", model="n")) == []
    assert times(book.find(kind=Kind.EVICTION)) == [2]
    assert times(book.find(limit=2)) == [3, 4]
    assert times([*book.find(model="x"), *book.find(request="x"), *book.find(limit=0)]) == []
    assert book.requests("r-", 5) == ["r-2", "r-1"]
    assert book.requests("r-", 1) == ["r-2"]


def test_a_burst_of_one_kind_does_not_drive_out_another() -> None:
    book = Decisions(kept=3)
    book.note(a_decision(0, "rare", Kind.SCALE_UP))
    for at in range(1, 100):
        book.note(a_decision(at, f"m-{at}", request=f"r-{at}"))
    assert times(list(book)) == [0, 97, 98, 99]
    assert len(book) == 4


def test_what_is_forgotten_is_found_no_more() -> None:
    book = Decisions(kept=1)
    book.note(a_decision(1, "m", request="r", size=5))
    book.note(a_decision(2, "n"))
    assert times([*book.find(model="m"), *book.find(request="r")]) == []
    assert book.requests("", 9) == []
    assert book.held == 0
    book.note(a_decision(3, "n", Kind.RETRY, "r"))
    book.note(a_decision(4, "n"))
    assert times(book.find(model="n")) == [3, 4]
    book.note(a_decision(5, "o", Kind.RETRY))
    assert times(book.find(model="n")) == [4]


def test_what_is_left_of_a_request_or_a_model_is_still_found_when_its_first_decision_is_forgotten() -> None:
    book = Decisions(kept=2)
    for at in range(3):
        book.note(a_decision(at, "m", request="r"))
    assert times(book.find(request="r")) == times(book.find(model="m")) == [1, 2]


def test_evidence_of_the_oldest_becomes_light_when_all_holds_too_much() -> None:
    book = Decisions(room=10)
    for at in range(4):
        book.note(a_decision(at, size=4))
    assert [told(one, inputs=True)["inputs"]["size"] for one in book] == [0, 0, 4, 4]
    assert book.held == 8
    book.note(a_decision(9, size=100))
    assert book.held == 100, "the latest is kept whole, however large"
    assert [told(one, inputs=True)["inputs"]["size"] for one in book.find(model="m")] == [0, 0, 0, 0, 100]


def test_a_size_of_a_model_in_evidence_is_not_what_the_evidence_takes() -> None:
    early = Early(ModelId("m"), Millis(1), rank=0, free=5, total=5, lru_time=Millis(9), size=Units(12_800), now=Millis(10))
    book = Decisions(room=10)
    for at in range(2):
        book.note(a_decision(at)._replace(evidence=early))
    assert book.held == 0
    assert [one.evidence for one in book] == [early, early]


def test_a_decision_is_told_with_its_candidates_and_with_its_inputs_if_asked() -> None:
    document = told(a_decision(7, request="r", size=3))
    assert document == {
        "kind": "placement",
        "model": "m",
        "at_ms": 7,
        "outcome": "b",
        "reason": "the best",
        "request": "r",
        "candidates": [
            {"name": "b", "chosen": True, "score": {"free": 3}, "why": ""},
            {"name": "c", "chosen": False, "score": {}, "why": "it is full"},
        ],
    }
    assert told(a_decision(7, size=3), inputs=True)["inputs"] == {"decided_by": "weight", "size": 3}
    assert told(a_decision(7))["request"] is None


def test_it_is_told_with_what_would_have_changed_it_or_without_candidates_if_so_wanted() -> None:
    assert told(a_decision(7, size=3), changes=True)["would_change"] == ["more room on c"]
    assert "candidates" not in told(a_decision(7, size=3), candidates=False)
    assert [size_of(a_decision(7, size=3)), size_of(a_decision(7, size=0)), size_of(a_decision(7))] == [3, 1, 1]
