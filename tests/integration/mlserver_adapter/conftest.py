"""MLServer of the pinned environment, and the adapter before it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.mlserver_adapter.rig import MODELS, Rig
from tests.support import environments

RigMaker = Callable[..., Rig]


@contextmanager
def served(environment: Path, folder: Path, variables: Mapping[str, str] | None = None) -> Iterator[Rig]:
    """A rig with all models in its claim, whose MLServer serves as long as the context lasts.

    Args:
        environment: MLServer's.
        folder: for what the rig writes.
        variables: MLServer's, beside its usual ones.
    """
    rig = Rig(environment, folder, variables)
    try:
        shutil.copytree(MODELS, rig.claim("models"), dirs_exist_ok=True)
        rig.mlserver.start()
        rig.until_ready()
        yield rig
    finally:
        rig.close()


@pytest.fixture(scope="session")
def environment() -> Path:
    return environments.made("mlserver")


@pytest.fixture(scope="module")
def rig(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One MLServer for the stories of a module that leave it as it was."""
    with served(environment, tmp_path_factory.mktemp("rig")) as rig:
        yield rig


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
