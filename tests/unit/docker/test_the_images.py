"""What the Dockerfiles say. That their steps can be carried out, `tests/integration/docker` shows."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.unit.docker.files import DOCKERFILES, MESH, ROOT, copied, steps

each = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)


def test_everything_copied_is_there_and_sent() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name for dockerfile in DOCKERFILES for name in copied(dockerfile)} == sent
    assert all((ROOT / name).exists() for name in sent)


@each
def test_it_runs_as_an_ordinary_user(dockerfile: Path) -> None:
    users = [arguments for name, arguments in steps(dockerfile) if name == "USER"]
    assert users == ["2000:2000"]


@each
def test_it_has_a_health_check(dockerfile: Path) -> None:
    (check,) = [arguments for name, arguments in steps(dockerfile) if name == "HEALTHCHECK"]
    assert "CMD [" in check


@each
def test_builds_and_runs_on_the_same_python(dockerfile: Path) -> None:
    bases = [arguments.split()[0] for name, arguments in steps(dockerfile) if name == "FROM"]
    assert [base for base in bases if not base.startswith("rust:")] == ["python:${PYTHON}-slim"] * 2


def test_the_lane_is_built_by_a_rust_that_knows_it() -> None:
    """Of a stage's base only the version is known here: it is at least the one that the crate asks for."""
    (built,) = [arguments for name, arguments in steps(MESH) if name == "ARG" and arguments.startswith("RUST=")]
    crate = tomllib.loads((ROOT / "lane" / "Cargo.toml").read_text())["package"]
    assert [int(part) for part in built.removeprefix("RUST=").split(".")] >= [int(part) for part in crate["rust-version"].split(".")]
