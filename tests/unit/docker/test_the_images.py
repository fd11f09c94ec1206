"""What the Dockerfiles do, without an engine: their files exist, the wheel of those files is whole, and what they start, starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.unit.docker.files import DOCKERFILES, ROOT, copied, steps

each = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)


def entry(dockerfile: Path) -> list[str]:
    """The command that a container of an image runs."""
    found = dict(steps(dockerfile))
    return [*json.loads(found["ENTRYPOINT"]), *json.loads(found.get("CMD", "[]"))]


@each
def test_everything_copied_is_there_and_sent(dockerfile: Path) -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied(dockerfile)) == sent
    assert all((ROOT / name).exists() for name in sent)


@each
def test_it_runs_as_an_ordinary_user(dockerfile: Path) -> None:
    users = [arguments for name, arguments in steps(dockerfile) if name == "USER"]
    assert users == ["2000:2000"]


@each
def test_builds_and_runs_on_the_same_python(dockerfile: Path) -> None:
    assert [arguments.split()[0] for name, arguments in steps(dockerfile) if name == "FROM"] == ["python:${PYTHON}-slim"] * 2


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from what the images copy and nothing else, and unpacked."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "installed"))
    ignore = shutil.ignore_patterns("__pycache__", "protocols") if (ROOT / "mesh" / "protocols").exists() else None
    for name in copied(DOCKERFILES[0]):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignore if name == "mesh" else shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run(installed: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with the unpacked wheel in front of this checkout."""
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.run(
        [sys.executable, *command], cwd=installed, env={**bare, "PYTHONPATH": str(installed), **environment}, capture_output=True, text=True
    )


def test_the_wheel_has_all_that_is_read_at_run_time(installed: Path) -> None:
    files = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    generated = {
        f"mesh/protocols/{name}_{kind}.py" for name in ("inference", "model_mesh", "model_runtime") for kind in ("pb2", "pb2_grpc")
    }
    lists = {f"mesh/local/lists/{path.name}" for path in (ROOT / "environments").glob("*.txt")}
    builtin = {str(path.relative_to(ROOT)) for path in (ROOT / "mesh" / "manifests" / "builtin").glob("*.yaml")}
    assert lists
    assert builtin
    assert generated | lists | builtin | {"mesh/py.typed", "runtime_adapters/py.typed"} <= files


def test_the_wheel_leaves_the_rest_out(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {"mesh", "runtime_adapters"}


def test_the_router_says_what_it_needs(installed: Path, tmp_path: Path) -> None:
    assert entry(ROOT / "docker" / "Dockerfile.router") == ["mesh", "router"]
    log = tmp_path / "termination"
    done = run(installed, "-m", "mesh.cli.app", "router", LL_TERMINATION_MSG_PATH=str(log))
    assert done.returncode == 1
    assert "MM_SERVICE_NAME is not set" in done.stderr
    assert "MM_SERVICE_NAME is not set" in log.read_text()


def test_the_command_has_help(installed: Path) -> None:
    done = run(installed, "-m", "mesh.cli.app", "--help")
    assert done.returncode == 0
    assert "router" in done.stdout


def test_the_adapter_says_what_it_needs(installed: Path) -> None:
    command = entry(ROOT / "docker" / "Dockerfile.adapter")
    assert command[0] == "python"
    done = run(installed, *command[1:])
    assert done.returncode == 1
    assert "CONTAINER_MEM_REQ_BYTES is not set" in done.stderr


def test_it_is_the_wheel_that_runs(installed: Path) -> None:
    done = run(installed, "-c", "import mesh, runtime_adapters; print(mesh.__file__, runtime_adapters.__file__)")
    assert done.stdout.split() == [str(installed / package / "__init__.py") for package in ("mesh", "runtime_adapters")]
