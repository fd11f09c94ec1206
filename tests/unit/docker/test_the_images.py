"""What the Dockerfiles say. That their steps can be carried out, `tests/integration/docker` shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.docker.files import DOCKERFILES, ROOT, copied, steps

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
    assert [arguments.split()[0] for name, arguments in steps(dockerfile) if name == "FROM"] == ["python:${PYTHON}-slim"] * 2
