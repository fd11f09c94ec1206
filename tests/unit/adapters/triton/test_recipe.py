"""How a local mesh starts Triton: from which files, with which options, and what it says when they are missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mesh.core.errors import Failed
from mesh.local.servers.base import Place
from mesh.local.servers.triton import SERVER
from mesh.manifests.runtimes import PodPlan
from runtime_adapters.triton.installation import BACKENDS, Installation, NotInstalled

PLAN = PodPlan("triton-2.x", "triton", (), 1 << 30, 1 << 27, 90_000, server_env={"OMP_NUM_THREADS": "2", "LD_LIBRARY_PATH": "/theirs"})


def environment(folder: Path, python: str = "3.11") -> Path:
    """The files of the wheel that are used, without their content; the interpreter is this one."""
    triton = folder / f"lib/python{python}/site-packages/pytriton/tritonserver"
    for name in (
        "bin/tritonserver",
        "backends/python/libtriton_python.so",
        "backends/python/triton_python_backend_utils.py",
        "python_backend_stubs/3.11/triton_python_backend_stub",
    ):
        (triton / name).parent.mkdir(parents=True, exist_ok=True)
        (triton / name).write_text(name)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder


def place(tmp_path: Path, environment: Path) -> Place:
    ports = {"grpc": 1, "http": 2, "metrics": 3}
    inherited = {"PATH": "/usr/bin", "PYTHONPATH": "/image"}
    return Place("pod-0/triton", environment, tmp_path / "server", tmp_path / "models", tmp_path / "log", ports, inherited)


def test_the_backend_folder_has_real_copies_and_is_made_anew(tmp_path: Path) -> None:
    here = place(tmp_path, environment(tmp_path / "environment"))
    (here.folder / "backends" / "old").mkdir(parents=True)
    SERVER.prepare(here, PLAN)
    found = {str(path.relative_to(here.folder / "backends")) for path in (here.folder / "backends").rglob("*") if path.is_file()}
    own = {"python/libtriton_python.so", "python/triton_python_backend_utils.py", "python/triton_python_backend_stub"}
    assert found == own | {f"{name}/model.py" for name in ("fil", "onnxruntime", "pytorch")}
    assert not any(path.is_symlink() for path in (here.folder / "backends").rglob("*"))
    assert {path.parent.name for path in BACKENDS.glob("*/model.py")} == {"fil", "onnxruntime", "pytorch"}


def test_the_command_has_this_pods_ports_and_folders_and_keeps_what_the_container_may_say(tmp_path: Path) -> None:
    here = place(tmp_path, environment(tmp_path / "environment"))
    command = SERVER.command(here, PLAN)
    assert {"--grpc-port=1", "--http-port=2", "--metrics-port=3", "--grpc-address=127.0.0.1"} <= set(command.argv)
    assert f"--model-repository={tmp_path / 'models' / '_triton_models'}" in command.argv
    assert command.environment["OMP_NUM_THREADS"] == "2"
    assert "/theirs" not in command.environment["LD_LIBRARY_PATH"]
    assert command.environment["PYTHONPATH"].startswith("/image:")
    assert command.environment["PATH"].split(":")[0] == str(tmp_path / "environment" / "bin")
    assert SERVER.adapter(here, PLAN) == {"RUNTIME_PORT": "1"}
    assert SERVER.data_endpoint(here) == "port:1"


def test_an_environment_without_triton_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"there is no Triton in .*; make it again with `mesh environment make triton`"):
        SERVER.prepare(place(tmp_path, tmp_path / "absent"), PLAN)
    with pytest.raises(NotInstalled, match=r"no Python backend for Python 3\.7"):
        Installation.find(environment(tmp_path / "environment", python="3.7"))
