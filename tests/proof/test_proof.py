"""`docs/proof.md` says for each requirement what shows it, and what it names exists."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.proof.page import PAGE, ROOT, Row, fault, listed_open, names_in, rows

TEXT = PAGE.read_text()
ROWS = rows(TEXT)


def test_every_row_names_what_shows_it() -> None:
    assert ROWS
    assert [row.id for row in ROWS if not row.shown and not row.open] == []
    assert [row.id for row in ROWS if not row.what] == []


@pytest.mark.parametrize("row", ROWS, ids=[row.id for row in ROWS])
def test_what_a_row_names_exists(row: Row) -> None:
    assert [said for shown in row.shown if (said := fault(shown))] == []


def test_no_id_is_given_twice() -> None:
    assert [found for found, count in Counter(row.id for row in ROWS).items() if count > 1] == []


def test_no_id_is_left_out() -> None:
    parts: dict[str, list[int]] = {}
    for row in ROWS:
        part, number = row.place
        parts.setdefault(part, []).append(number)
    assert {part: numbers for part, numbers in parts.items() if numbers != list(range(1, len(numbers) + 1))} == {}
    for letter in sorted({part[0] for part in parts}):
        found = [int(part[1:]) for part in parts if part[0] == letter]
        assert found == list(range(1, len(found) + 1)), f"parts of {letter}"


@pytest.mark.parametrize("folder", ["conformance", "integration"])
def test_every_file_of_tests_shows_something(folder: str) -> None:
    named = {shown.partition("::")[0] for row in ROWS for shown in row.shown}
    there = {str(path.relative_to(ROOT)) for path in (ROOT / "tests" / folder).rglob("test_*.py")}
    assert sorted(there - named) == []


def test_what_is_open_is_listed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    missing = [row for row in ROWS if row.open]
    with capsys.disabled():
        print(f"\nproof: {len(ROWS)} requirements, {len({shown for row in ROWS for shown in row.shown})} proofs, {len(missing)} open")
        for row in missing:
            print(f"  {row.id} {row.what}: {row.open}")
    assert [row.id for row in missing] == listed_open(TEXT)


class TestTheCheckItself:
    """It would notice."""

    HEAD = "| id | what | shown by |\n| --- | --- | --- |\n"

    @pytest.mark.parametrize(
        ("shown", "said"),
        [
            ("make nothing-of-the-kind", "there is no `make nothing-of-the-kind`"),
            ("tests/proof/nowhere.py::test_x", "there is no file tests/proof/nowhere.py"),
            ("tests/proof/test_proof.py", "names a file and no test in it"),
            ("tests/proof/test_proof.py::test_nothing_of_the_kind", "there is no test_nothing_of_the_kind"),
            ("tests/proof/test_proof.py::TestTheCheckItself::test_nothing", "there is no TestTheCheckItself::test_nothing"),
            ("somebody says so", "neither a test nor a target"),
        ],
    )
    def test_what_does_not_exist_is_a_fault(self, shown: str, said: str) -> None:
        assert said in fault(shown)

    def test_what_exists_is_none(self) -> None:
        assert fault("tests/proof/test_proof.py::TestTheCheckItself::test_what_exists_is_none") == ""
        assert fault("make proof") == ""
        assert "TestAnyOrder" in names_in("tests/unit/core/test_any_order.py")

    def test_rows_are_read(self) -> None:
        text = f"{self.HEAD}| A1.1 | it works | `a`, `b` |\n| A1.2 | it does not | OPEN: everything |\n"
        text += "\n| id | missing |\n|---|---|\n| A1.2 | all |\n"
        one, other = rows(text)
        assert (one.id, one.what, one.shown, one.open) == ("A1.1", "it works", ("a", "b"), "")
        assert (other.shown, other.open, other.place) == ((), "everything", ("A1", 2))
        assert listed_open(text) == ["A1.2"]
