"""Clients that nobody here wrote work unchanged: each script of `scripts` runs once, in their environment; each story is a test."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients.conftest import MODEL
from tests.integration.models.stack import BODY, EIGHT, Stack
from tests.support.mesh import a_mesh

pytestmark = [pytest.mark.mlserver, pytest.mark.timeout(300)]

SCRIPTS = Path(__file__).parent / "scripts"
Told = Callable[[str, str], "str | None"]
"""How a story of a script ended: None, or a traceback."""


def stories(script: str) -> list[str]:
    """Their names, read from the text: the script's own imports are not installed here."""
    tree = ast.parse((SCRIPTS / f"{script}.py").read_text())
    return [item.name for item in tree.body if isinstance(item, ast.FunctionDef) and not item.name.startswith("_")]


def run(python: Path, script: str, where: Mapping[str, Any]) -> dict[str, str | None]:
    done = subprocess.run(
        [str(python), str(SCRIPTS / f"{script}.py"), json.dumps(where)], capture_output=True, text=True, timeout=200, env={"PATH": ""}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, str | None] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.fixture(scope="module")
def told(clients: Path, stack: Stack) -> Told:
    where = {"grpc": stack.address, "rest": stack.rest, "model": MODEL, "pixels": EIGHT, "body": json.loads(BODY.read_text())}
    done: dict[str, dict[str, str | None]] = {}

    def tell(script: str, story: str) -> str | None:
        if script not in done:
            done[script] = run(clients, script, where)
        return done[script][story]

    return tell


@pytest.fixture(scope="module")
def told_of_streams(clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str | None]]:
    """On the scripted runtime, which answers streams as Triton does; MLServer's have another type."""
    by_name = {"inference.GRPCInferenceService/ModelInfer": {"idExtractionPath": [1]}}
    by_name["inference.GRPCInferenceService/ModelStreamInfer"] = {"idExtractionPath": [1]}
    config = {"MM_DATAPLANE_CONFIG": json.dumps({"rpcConfigs": by_name, "allowOtherRpcs": True})}
    with a_mesh(tmp_path_factory.mktemp("streams"), environment=config) as mesh:
        mesh.client.loaded("echo")
        yield run(clients, "triton_streams", {"grpc": mesh.router.address, "model": "echo"})


@pytest.mark.parametrize("story", stories("triton_grpc"))
def test_tritonclient_over_grpc(told: Told, story: str) -> None:
    assert (trouble := told("triton_grpc", story)) is None, trouble


@pytest.mark.parametrize("story", stories("triton_http"))
def test_tritonclient_over_http(told: Told, story: str) -> None:
    assert (trouble := told("triton_http", story)) is None, trouble


@pytest.mark.parametrize("story", stories("triton_streams"))
def test_streams_of_tritonclient(told_of_streams: dict[str, str | None], story: str) -> None:
    assert (trouble := told_of_streams[story]) is None, trouble


@pytest.mark.parametrize("story", stories("kserve_sdk"))
def test_the_kserve_sdk(told: Told, story: str) -> None:
    assert (trouble := told("kserve_sdk", story)) is None, trouble


@pytest.mark.parametrize("story", stories("reflection"))
def test_a_client_by_reflection(told: Told, story: str) -> None:
    assert (trouble := told("reflection", story)) is None, trouble
