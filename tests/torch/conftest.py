"""TorchServe of its environment, and archives of our handlers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import environments
from tests.torch.archives import archive, network
from tests.torch.rig import LEFT_BEHIND, LIMIT, TIMEOUT, Rig

Image = list[list[list[float]]]


@pytest.fixture(scope="session")
def environment() -> Path:
    return environments.made("torchserve")


@pytest.fixture(scope="session")
def torchscript(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network(environment, tmp_path_factory.mktemp("network") / "model.pt")


@pytest.fixture(scope="session")
def with_torch(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Triton's environment with PyTorch in it, out of links: as half a gigabyte, once, is enough for one machine."""
    folder, triton = tmp_path_factory.mktemp("environment"), environments.made("triton")
    for name in ("bin", "pyvenv.cfg"):
        (folder / name).symlink_to(triton / name)
    (packages,) = triton.glob("lib/python*/site-packages")
    (lent,) = environment.glob("lib/python*/site-packages")
    together = folder / packages.relative_to(triton)
    together.mkdir(parents=True)
    # Triton's own first: the processes of its models are made for its numpy.
    for entry in (*packages.iterdir(), *lent.iterdir()):
        if not (together / entry.name).is_symlink():
            (together / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def images() -> list[Image]:
    """Three images [3, 32, 32]."""
    draw = random.Random(11)
    return [[[[draw.random() for _ in range(32)] for _ in range(32)] for _ in range(3)] for _ in range(3)]


@pytest.fixture(scope="session")
def archives(environment: Path, torchscript: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one archive of each handler."""
    folder = tmp_path_factory.mktemp("archives")
    archive(environment, folder, "scores", "scores", model=torchscript)
    archive(environment, folder, "knows-v2", "knows_v2", model=torchscript, config="v2: request\n")
    archive(environment, folder, "says", "says")
    archive(environment, folder, "hangs", "hangs")
    for name, size in (("leaves", LEFT_BEHIND), ("gushes", LIMIT)):
        archive(environment, folder, name, "leaves", config=f"leaves: {size}\n")
    return folder


@pytest.fixture(scope="session")
def rig(environment: Path, archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One pod of TorchServe, adapter and router for all stories: each leaves it serving."""
    rig = Rig(environment, tmp_path_factory.mktemp("rig"))
    try:
        for file in archives.glob("*.mar"):
            (rig.archives / file.name).write_bytes(file.read_bytes())
        assert rig.router
        rig.router.await_ready(TIMEOUT)
        yield rig
    finally:
        rig.close()
