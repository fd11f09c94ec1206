"""How a local mesh starts the server: the user's binary if there is one, else the stand-in, and then it says so."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mesh.core.errors import Failed
from mesh.local.servers import find
from mesh.local.servers.base import Place
from mesh.local.servers.openvino import OpenVino
from mesh.manifests.runtimes import PodPlan
from runtime_adapters.openvino import standin

RECIPE = OpenVino()


def place(tmp_path: Path, **inherited: str) -> Place:
    (tmp_path / "server").mkdir(exist_ok=True)
    ports = {"grpc": 1001, "rest": 1002}
    return Place("pod-0/ovms", tmp_path / "env", tmp_path / "server", tmp_path / "models", tmp_path / "log", ports, inherited)


def plan(**server_env: str) -> PodPlan:
    return PodPlan("ovms-1.x", "ovms", (), 2, 1, 3, server_env=server_env)


def program(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_it_is_found_by_its_server_type() -> None:
    assert find("ovms").environment == "openvino"


def test_a_binary_that_is_named_comes_first(tmp_path: Path) -> None:
    named, found = program(tmp_path, "mine"), program(tmp_path, "ovms")
    surroundings = {"PATH": str(found.parent)}
    assert RECIPE.command(place(tmp_path, **surroundings, OVMS_BINARY=str(named)), plan()).argv[0] == str(named)
    assert RECIPE.command(place(tmp_path, **surroundings), plan(OVMS_BINARY=str(named))).argv[0] == str(named)
    command = RECIPE.command(place(tmp_path, **surroundings), plan())
    assert list(command.argv) == [
        *(str(found), "--port=1001", "--rest_port=1002", f"--config_path={tmp_path / 'server' / 'model_config_list.json'}"),
        *("--file_system_poll_wait_seconds=0", "--grpc_bind_address=127.0.0.1", "--rest_bind_address=127.0.0.1"),
    ]
    assert RECIPE.note(surroundings) == ""


def test_without_one_the_stand_in_runs_and_that_is_said(tmp_path: Path) -> None:
    command = RECIPE.command(place(tmp_path, PATH=str(tmp_path), PYTHONPATH="/of/the/user"), plan(OMP_NUM_THREADS="1"))
    assert list(command.argv[:4]) == [str(tmp_path / "env" / "bin" / "python"), "-P", "-m", "ovms_standin"]
    assert command.environment["PYTHONPATH"].split(os.pathsep) == ["/of/the/user", str(Path(standin.__file__).parent)]
    assert command.environment["OMP_NUM_THREADS"] == "1"
    assert "a stand-in over the OpenVINO runtime serves instead" in RECIPE.note({"PATH": str(tmp_path)})


def test_a_binary_that_cannot_be_run_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"OVMS_BINARY is /nowhere/ovms, which cannot be run"):
        RECIPE.command(place(tmp_path, OVMS_BINARY="/nowhere/ovms"), plan())


def test_a_pod_begins_with_an_empty_list_whatever_was_there(tmp_path: Path) -> None:
    where = place(tmp_path)
    config = where.folder / "model_config_list.json"
    config.write_text("left over")
    RECIPE.prepare(where, plan())
    assert json.loads(config.read_text()) == {"model_config_list": []}
    assert RECIPE.adapter(where, plan()) == {"RUNTIME_PORT": "1002", "MODEL_CONFIG_FILE": str(config)}
    assert RECIPE.data_endpoint(where) == "port:1001"
