"""What others' tools say about the files: hadolint about the Dockerfiles, Docker Compose about the compose file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support import environments
from tests.unit.docker.files import DOCKERFILES, FOLDER, MESH, compose


def run(*command: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    return subprocess.run(
        [environments.made("linters") / "bin" / program, *arguments], input=given, capture_output=True, text=True, timeout=100
    )


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_no_fault(dockerfile: Path) -> None:
    done = run("hadolint", dockerfile)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_hadolint_finds_faults() -> None:
    done = run("hadolint", "-", given=MESH.read_text().replace("USER 2000:2000", "USER root").replace("WORKDIR /tmp", "WORKDIR tmp"))
    assert done.returncode == 1
    assert {"DL3000", "DL3002"} <= {line.split()[1] for line in done.stdout.splitlines()}


def test_compose_reads_the_file_as_it_is_meant() -> None:
    done = run("docker-compose", "-f", FOLDER / "compose.yaml", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["services"]
    assert found.keys() == compose()["services"].keys()
    for name, service in found.items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
