"""The page about settings says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mesh.settings import Settings, describe
from tests.proof.settings_page import PAGE, page

SETTINGS = describe()


def test_the_page_is_what_the_code_says() -> None:
    assert PAGE.read_text() == page(), "docs/settings.md is out of date; `make docs` writes it again"


def test_every_setting_has_its_row() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \|", page(), re.MULTILINE)
    assert rows == [setting["names"][0] for setting in SETTINGS]
    assert len(rows) == len(Settings.model_fields)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: str(setting["names"][0]))
def test_every_setting_says_what_it_means(setting: dict[str, str]) -> None:
    assert set(setting) == {"names", "default", "unit", "meaning"}
    assert setting["meaning"], "a setting without a meaning"
    assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*", name) for name in setting["names"])


def test_no_name_belongs_to_two_settings() -> None:
    names = [name for setting in SETTINGS for name in setting["names"]]
    assert sorted(set(names)) == sorted(names)


def test_a_cell_cannot_break_the_table() -> None:
    (head, *rows) = [line for line in page().splitlines() if line.startswith("|")]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {len(head.split("|"))}


def test_settings_that_the_documentation_names_exist() -> None:
    known = {name for setting in SETTINGS for name in setting["names"]}
    for document in (Path(PAGE.parent) / "rest.md", PAGE.parent / "metrics.md"):
        named = set(re.findall(r"`((?:MM|MESH|INTERNAL|REST|SHUTDOWN|WKUBE)_[A-Z_]+)", document.read_text()))
        assert named <= known, f"{document.name} names settings that do not exist"
