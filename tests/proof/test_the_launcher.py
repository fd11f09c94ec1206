"""What a pod on this machine is started with, and what the shell is told of the command."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mesh.local.images import Images
from mesh.local.kits import kit
from mesh.local.pod import PodPorts, PodSetup
from mesh.local.processes import Command
from mesh.local.state import DataFolder
from mesh.manifests.documents import ClusterServingRuntime, ServingRuntime
from mesh.manifests.runtimes import built_in, in_force


@pytest.fixture
def setup(tmp_path: Path) -> PodSetup:
    ports = PodPorts(*range(9001, 9001 + len(dataclasses.fields(PodPorts))))
    return PodSetup("pod-0", "", DataFolder.at(tmp_path / "data"), ports, tmp_path / "storage-config")


def commands(setup: PodSetup) -> dict[str, Command]:
    known = [applied.document for applied in built_in() if isinstance(applied.document, ServingRuntime | ClusterServingRuntime)]
    return {
        command.name: command
        for command in setup.commands(
            kit(in_force(known)["mlserver-1.x"], Images(setup.folder.images, {}), {"mlserver": setup.folder.root})
        )
    }


def test_the_model_server_is_given_its_folder_and_no_worker_processes(setup: PodSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLSERVER_PARALLEL_WORKERS", raising=False)
    server = commands(setup)["mlserver"]
    assert list(server.argv[-2:]) == ["start", str(setup.folder.models / "_mlserver_models")]
    assert server.environment["MLSERVER_PARALLEL_WORKERS"] == "0"


def test_whoever_wants_worker_processes_has_them(setup: PodSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLSERVER_PARALLEL_WORKERS", "3")
    assert commands(setup)["mlserver"].environment["MLSERVER_PARALLEL_WORKERS"] == "3"


def test_a_shells_leftovers_of_other_meshes_change_nothing(setup: PodSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MM_ZONE", "KV_STORE", "MLSERVER_EXTENSIONS", "INTERNAL_GRPC_SOCKET_PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, "leftover")
    started = commands(setup)
    assert not [name for name, value in started["router"].environment.items() if value == "leftover"]
    assert "MLSERVER_EXTENSIONS" not in started["mlserver"].environment


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_complete_the_command(shell: str) -> None:
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mesh.cli.app", "--show-completion", shell], env=environment, capture_output=True, text=True, check=True
    )
    assert "_COMPLETE=complete" in done.stdout


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("mesh de", {"describe", "delete"}),
        ("mesh image ", {"set", "remove", "list"}),
        ("mesh up --ru", {"--runtime"}),
        ("mesh up --runtime t", {"torchserve", "triton"}),
        ("mesh up --runtime mlserver=2,t", {"mlserver=2,torchserve", "mlserver=2,triton"}),
        ("mesh up --runtime triton,t", {"triton,torchserve"}),
    ],
)
def test_completion_knows_commands_options_and_model_servers(typed: str, completed: set[str]) -> None:
    asked = {"_MESH_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    mesh = Path(sys.executable).with_name("mesh")
    done = subprocess.run([str(mesh)], env={**os.environ, **asked}, capture_output=True, text=True)
    assert set(done.stdout.split()) == completed
