"""Meshes for the stories: one that many share, and fresh ones for those that break it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.local import environments
from tests.integration.local.rig import EXAMPLES, Shell


@pytest.fixture(scope="session")
def mlserver() -> Path:
    return environments.ensure("mlserver")


@pytest.fixture(scope="module")
def shared(mlserver: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A running mesh with the walkthrough applied; a story leaves it as it was."""
    shell = Shell.fresh(tmp_path_factory.mktemp("shared"))
    models = shell.folder / "models"
    shutil.copytree(EXAMPLES / "models", models)
    try:
        shell.up("--pvc", f"my-models-pvc={models}")
        shell.ok("apply", "-f", str(EXAMPLES / "walkthrough"), "--wait", "60")
        yield shell
    finally:
        shell.hang_up()
        shell.ok("down")


@pytest.fixture
def shell(mlserver: Path, tmp_path: Path) -> Iterator[Shell]:
    """A shell whose mesh is not started; whatever it starts is ended."""
    shell = Shell.fresh(tmp_path)
    try:
        yield shell
    finally:
        shell.hang_up()
        shell.ok("down")
