"""MLServer of the pinned environment, and the adapter before it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.mlserver_adapter.rig import MODELS, Rig
from tests.support import environments

RigMaker = Callable[..., Rig]


@pytest.fixture(scope="session")
def environment() -> Path:
    return environments.made("mlserver")


@pytest.fixture(scope="module")
def rig(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One MLServer for the stories of a module that leave it as it was."""
    rig = Rig(environment, tmp_path_factory.mktemp("rig"))
    try:
        shutil.copytree(MODELS, rig.claim("models"), dirs_exist_ok=True)
        rig.mlserver.start()
        rig.until_ready()
        yield rig
    finally:
        rig.close()


@pytest.fixture
def make_rig(environment: Path, tmp_path: Path) -> Iterator[RigMaker]:
    """Makes a rig of a test's own; its MLServer is not started yet."""
    made: list[Rig] = []

    def make(**settings: object) -> Rig:
        rig = Rig(environment, tmp_path, **settings)  # type: ignore[arg-type] # passed on
        made.append(rig)
        shutil.copytree(MODELS, rig.claim("models"), dirs_exist_ok=True)
        return rig

    yield make
    for rig in made:
        rig.close()
