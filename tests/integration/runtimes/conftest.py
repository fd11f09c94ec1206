"""One mesh of MLServer, Triton and OpenVINO (stand-in) pods for all stories of this folder, and what the libraries say by themselves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.local.rig import EXAMPLES, Shell
from tests.integration.runtimes.rig import SERVERS, SERVICES, Given, asked, directly, isvc, lay_out
from tests.support import environments
from tests.support.client import Client


@pytest.fixture(scope="session")
def made() -> Mapping[str, Path]:
    """The environments of the model servers, and of etcd."""
    return {name: environments.made(name) for name in (*SERVERS, "etcd")}


@pytest.fixture(scope="session")
def given() -> Given:
    return asked()


@pytest.fixture(scope="session")
def expected(made: Mapping[str, Path], given: Given) -> Mapping[str, list[float]]:
    return directly(made, given)


@pytest.fixture(scope="package")
def mesh(made: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A running mesh with every service of `SERVICES` loaded; a story takes away what it adds."""
    shell = Shell.fresh(tmp_path_factory.mktemp("runtimes"))
    claim = shell.folder / "models"
    lay_out(claim)
    shutil.copy(EXAMPLES / "custom" / "server" / "library" / "iris.json", claim)
    # What a story changes in a folder that stands for an image is its own.
    shutil.copytree(EXAMPLES / "custom" / "server", shell.folder / "centroids")
    try:
        claims = ("--pvc", f"models={claim}", "--pvc", f"custom-models={claim}")
        shell.up("--runtime", ",".join(SERVERS), "--image", f"registry.example.com/centroids={shell.folder / 'centroids'}", *claims)
        documents = "".join(isvc(name, *wanted) for name, wanted in SERVICES.items())
        shell.ok("apply", "-f", "-", "--wait", "120", typed=documents)
        yield shell
    finally:
        shell.hang_up()
        shell.ok("down")


@pytest.fixture(scope="package")
def client(mesh: Shell) -> Iterator[Client]:
    """Of the clients' port: whichever pod takes the connection."""
    with Client.insecure(f"127.0.0.1:{mesh.grpc}") as client:
        yield client
