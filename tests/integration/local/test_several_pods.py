"""Three pods on this machine, each with a real MLServer, on one etcd that the mesh runs itself: one cache, wherever a call comes in."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.local import environments
from mesh.protocols import model_mesh_pb2 as pb
from mesh.protocols.model_mesh_pb2_grpc import ModelMeshStub
from tests.integration.etcd.server import Etcd
from tests.integration.local.rig import EXAMPLES, Shell, said_by
from tests.support.waiting import until

pytestmark = [pytest.mark.mlserver, pytest.mark.timeout(400)]

MODEL_ID = "sklearn-mnist__isvc-3c10c62d34"
LONG = 120.0
"""Seconds for what starts processes again, on a slow machine too."""


@pytest.fixture(scope="module")
def etcd() -> Path:
    return environments.ensure("etcd")


@pytest.fixture(scope="module")
def three(mlserver: Path, etcd: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Three pods with the walkthrough applied."""
    shell = Shell.fresh(tmp_path_factory.mktemp("three"))
    models = shell.folder / "models"
    shutil.copytree(EXAMPLES / "models", models)
    try:
        shell.up("--pods", "3", "--pvc", f"my-models-pvc={models}")
        shell.ok("apply", "-f", str(EXAMPLES / "walkthrough"), "--wait", "60")
        yield shell
    finally:
        shell.hang_up()
        shell.ok("down")


def pods(shell: Shell) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in shell.ask("status")["pods"]}


def where(shell: Shell) -> dict[str, str]:
    """The walkthrough's copies: pod and state."""
    return {copy["pod"]: copy["state"] for copy in shell.ask(f"models/{MODEL_ID}")["copies"]}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_pod_answers_on_its_own_ports_and_together_on_those_of_the_mesh(three: Shell) -> None:
    found = pods(three)
    assert list(found) == ["pod-0", "pod-1", "pod-2"]
    assert len({one[port] for one in found.values() for port in ("grpc", "rest", "peer", "metrics", "probe")}) == 15
    for one in found.values():
        assert said_by(one["rest"]) == ["8"], one
        with grpc.insecure_channel(one["grpc"], options=[("grpc.enable_http_proxy", 0)]) as channel:
            status = ModelMeshStub(channel).getVModelStatus(pb.GetVModelStatusRequest(vModelId="sklearn-mnist"), timeout=60)
        assert (status.activeModelId, status.activeModelStatus.status) == (MODEL_ID, pb.ModelStatusInfo.LOADED)
    # The kernel chooses a pod for each connection.
    assert [said_by(f"http://127.0.0.1:{three.rest}") for _ in range(9)] == [["8"]] * 9
    assert three.digit() == three.digit("--grpc") == ["8"]


def test_listings_tell_each_pods_figures_and_where_each_copy_is(three: Shell) -> None:
    assert said_by(f"http://127.0.0.1:{three.rest}") == ["8"]
    holders = until(lambda: [pod for pod, state in where(three).items() if state == "ready"], "a copy is ready")
    rows = {one["name"]: one for one in three.json("get", "pods")["items"]}
    peers = {name: one["peer"] for name, one in pods(three).items()}
    assert {name: one["peer"] for name, one in rows.items()} == peers
    assert {name: one["router"]["endpoint"] for name, one in rows.items()} == peers
    for one in rows.values():
        figures = one["router"]
        assert figures["used_bytes"] + figures["free_bytes"] <= figures["capacity_bytes"] == one["capacityBytes"]
        assert (figures["loading"], figures["queue"], one["state"], figures["runtime"]) == (0, 0, "ready", "ready")
    assert {name for name, one in rows.items() if one["router"]["models"]} == set(holders)
    (model,) = three.json("get", "models", "--pod", holders[0], "--state", "loaded")["items"]
    assert model["id"] == MODEL_ID
    assert max(copy["weight_bytes"] for copy in model["copies"]) > 0
    line = three.ok("get", "models").splitlines()[1]
    assert f"{holders[0]}:ready" in line
    idle = sorted(set(rows) - set(holders))
    assert [three.ask("models", pod=pod)["models"] for pod in idle] == [[] for _ in idle]
    shown = three.ok("get", "pods", holders[0]).splitlines()
    assert re.split(" {3,}", shown[0])[:7] == ["NAME", "STATE", "MODELS", "USED", "CAPACITY", "FREE", "CACHE AGE"]
    assert re.split(" {3,}", shown[0])[7:] == ["LOADING", "QUEUED", "REQ/MIN", "PEER", "RESTARTS"]
    assert shown[1].split()[:3] == [holders[0], "ready", "1"]


def test_a_killed_pod_is_missed_by_nobody_and_comes_back(three: Shell) -> None:
    victim = until(lambda: next(iter(where(three)), ""), "a pod has the model")
    mine = [one for one in three.ask("status")["processes"] if one["name"].startswith(f"{victim}/")]
    for process in mine:
        os.kill(process["pid"], signal.SIGKILL)
    others = [one for name, one in pods(three).items() if name != victim]
    for one in others:
        until(lambda one=one: said_by(one["rest"]) == ["8"], f"{one['name']} answers", within=LONG)  # type: ignore[misc]
    assert until(lambda: set(where(three)) - {victim}, "another pod has the model", within=LONG)

    def restarted() -> bool:
        now = {one["name"]: one for one in three.ask("status")["processes"]}
        return all(now[before["name"]]["restarts"] > before["restarts"] for before in mine)

    until(restarted, "its processes are started again", within=LONG)
    assert "was ended by SIGKILL" in three.ok("status")
    until(lambda: next(one for one in three.ask("pods") if one["name"] == victim)["state"] == "ready", f"{victim} is back", within=LONG)
    until(lambda: three.ask("status")["state"] == "ready", "the mesh is whole", within=LONG)
    assert said_by(pods(three)[victim]["rest"]) == ["8"]


def test_a_killed_etcd_comes_back_with_all_it_knew_and_calls_go_on_meanwhile(three: Shell) -> None:
    before = three.process("etcd")
    os.kill(before["pid"], signal.SIGKILL)
    assert [said_by(one["rest"]) for one in pods(three).values()] == [["8"]] * 3
    until(lambda: three.process("etcd")["restarts"] > before["restarts"] and three.process("etcd")["pid"], "it is started again")
    three.ok("apply", "-f", "-", "--wait", "60", typed=three.service("another", "mnist-svm.joblib"))
    assert [one["metadata"]["name"] for one in three.json("get", "isvc")["items"]] == ["another", "sklearn-mnist"]
    three.ok("delete", "isvc", "another")
    until(lambda: [one["id"] for one in three.ask("models")["models"]] == [MODEL_ID], "its model is gone", within=LONG)
    assert three.digit() == ["8"]


def test_the_ports_of_a_mesh_are_its_own_though_its_pods_share_them(three: Shell, tmp_path: Path) -> None:
    pid = three.ask("status")["pid"]
    options = ("--data", str(tmp_path / "other"), "--grpc-port", str(three.grpc), "--rest-port", str(three.rest), "--pods", "2")
    refused = three.mesh("up", *options)
    assert (refused.returncode, f"pid {pid}" in refused.stderr) == (1, True), refused


def test_down_leaves_no_process_and_the_next_mesh_serves_what_was_applied(three: Shell) -> None:
    pids = [one["pid"] for one in three.ask("status")["processes"]]
    assert len(pids) == 10
    three.ok("down")
    assert not [pid for pid in pids if alive(pid)]
    three.up("--pods", "3", "--pvc", f"my-models-pvc={three.folder / 'models'}")
    assert [said_by(one["rest"]) for one in pods(three).values()] == [["8"]] * 3
    assert [one["id"] for one in three.ask("models")["models"]] == [MODEL_ID]


def test_an_etcd_that_is_there_keeps_the_registry_and_outlives_the_mesh(shell: Shell, etcd: Path, tmp_path: Path) -> None:
    folder = tmp_path / "etcd"
    folder.mkdir()
    server = Etcd(etcd, folder)
    server.start()
    try:
        shell.up("--store", f"etcd://{server.address};rootPrefix=mine", "--pvc", f"my-models-pvc={EXAMPLES / 'models'}")
        assert [one["name"] for one in shell.ask("status")["processes"]] == ["mlserver", "adapter", "router"]
        shell.ok("apply", "-f", str(EXAMPLES / "walkthrough"), "--wait", "60")
        assert shell.digit() == ["8"]
        record = json.loads(server.get(f"mine/tas-runtime/modelmesh-serving/registry/{MODEL_ID}"))
        assert list(record["instanceIds"]) == ["mesh-local-0"]
        shell.ok("down")
        assert server.healthy()
        assert server.get("mine/tas-runtime/modelmesh-serving/instances/mesh-local-0") == ""
    finally:
        server.stop()
