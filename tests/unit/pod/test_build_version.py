"""A pod's build is a number that grows from build to build."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mesh.pod.build_version import build_version, number_of
from mesh.settings import Settings


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("main-20240301-1", 1_709_251_200_001),
        ("my-branch-20240301-12", 1_709_251_200_012),
        ("20240301-0130", 1_709_256_600_000),
        ("20240301-0130-7", 1_709_256_600_007),
        ("main-20241301-1", None),
        ("20240301-2560", None),
        ("1.2.3", None),
        ("20240301", None),
    ],
)
def test_a_version_names_a_day_or_a_minute_and_a_number(text: str, number: int | None) -> None:
    assert number_of(text) == number


def settings(version: str, file: Path) -> Settings:
    return Settings(version=version, version_file=file)


def test_the_variable_counts_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "build-version"
    assert build_version(settings("", file)) == 0
    file.write_text("20240301-0130\n")
    assert build_version(settings("", file)) == 1_709_256_600_000
    assert build_version(settings("main-20240301-1", file)) == 1_709_251_200_001


def test_what_cannot_be_read_counts_as_nothing_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert build_version(settings("v1", tmp_path / "none")) == 0
        assert build_version(settings("", tmp_path)) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "the build version is neither NAME-YYYYMMDD-N nor YYYYMMDD-HHMM[-N]; it counts as 0",
        "the file of the build version cannot be read",
    ]
