"""A router whose registry is a real etcd: it outlives the router, others see it, and its trouble is not the callers'."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from tests.integration.etcd.server import Etcd
from tests.support.client import Client, example, refused
from tests.support.mesh import Mesh, RouterProcess, a_mesh
from tests.support.waiting import until


def on(etcd: Etcd, service: str, pod: str = "router-abcdef-00001") -> dict[str, str]:
    """The environment of a router that keeps its registry there."""
    return {"KV_STORE": f"etcd:{etcd.address}", "MM_KVSTORE_PREFIX": "mm", "MM_SERVICE_NAME": service, "WKUBE_POD_NAME": pod}


def alias(client: Client) -> None:
    client.set_alias(
        "digits", "digits__isvc-0123456789", path="p", kind="example", owner="isvc", loadNow=True, sync=True, autoDeleteTargetModel=True
    )


def said(client: Client) -> str:
    request = example.PredictRequest(text="x")
    return str(client.predictor.predict(request, metadata=(("mm-vmodel-id", "digits"),), timeout=30).results[0].category)


@pytest.fixture
def mesh(etcd: Etcd, service: str, tmp_path: Path) -> Iterator[Mesh]:
    with a_mesh(tmp_path, environment=on(etcd, service)) as pod:
        yield pod


def test_the_records_lie_where_modelmesh_has_them(etcd: Etcd, service: str, mesh: Mesh) -> None:
    alias(mesh.client)
    model = json.loads(etcd.get(f"/mm/{service}/registry/digits__isvc-0123456789"))
    assert (model["type"], model["mPath"], model["refs"], list(model["instanceIds"])) == ("example", "p", 1, ["abcdef-00001"])
    assert json.loads(etcd.get(f"/mm/{service}/vmodels/digits"))["o"] == "isvc"
    pod = json.loads(etcd.get(f"/mm/{service}/instances/abcdef-00001"))
    assert pod["cap"] > 0
    assert pod["lThreads"] == 6


def test_a_router_that_restarts_knows_its_models_and_stands_in_no_record_that_is_not_true(
    etcd: Etcd, service: str, mesh: Mesh, tmp_path: Path
) -> None:
    alias(mesh.client)
    mesh.router.process.kill()
    again = RouterProcess(tmp_path, {**mesh.runtime.environment, **on(etcd, service)})
    try:
        assert "instanceIds" not in json.loads(etcd.get(f"/mm/{service}/registry/digits__isvc-0123456789"))
        with Client.insecure(again.address) as client:
            assert said(client) == "classification for x by model digits__isvc-0123456789"
    finally:
        again.stop()


def test_another_router_serves_what_the_first_registered(etcd: Etcd, service: str, mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with a_mesh(tmp_path / "other", environment=on(etcd, service, "router-abcdef-00002")) as other:
        alias(mesh.client)
        until(lambda: other.client.alias("digits").activeModelId, "the alias is seen")
        assert said(other.client) == "classification for x by model digits__isvc-0123456789"
        (holder,) = [pod for pod in (mesh, other) if pod.runtime.loads("digits__isvc-0123456789")]
        asked = other if holder is mesh else mesh
        asked.client.delete_alias("digits")
        until(lambda: holder.runtime.unloads("digits__isvc-0123456789") == 1, "what was deleted elsewhere is unloaded")


def test_while_etcd_is_away_warm_models_answer_cold_ones_load_and_changes_are_refused(own_etcd: Etcd, service: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        pod = stack.enter_context(a_mesh(tmp_path, environment=on(own_etcd, service)))
        pod.client.loaded("warm")
        pod.client.register("cold")
        own_etcd.kill()
        assert pod.client.said("warm") == "classification for hello by model warm"
        assert pod.client.said("cold") == "classification for hello by model cold"
        with refused(grpc.StatusCode.UNAVAILABLE):
            pod.client.register("new")
        own_etcd.start()
        until(lambda: _registers(pod.client), "changes are taken again")


def _registers(client: Client) -> bool:
    try:
        client.register("new")
    except grpc.RpcError:
        return False
    return True


def test_an_etcd_that_lost_everything_gets_it_back_and_nothing_is_unloaded(own_etcd: Etcd, service: str, tmp_path: Path) -> None:
    (tmp_path / "pod").mkdir()
    with a_mesh(tmp_path / "pod", environment=on(own_etcd, service)) as pod:
        alias(pod.client)
        own_etcd.kill()
        shutil.rmtree(own_etcd.folder / "data")
        own_etcd.start()
        until(lambda: own_etcd.get(f"/mm/{service}/vmodels/digits"), "the alias is there again", within=60)
        until(lambda: own_etcd.get(f"/mm/{service}/registry/digits__isvc-0123456789"), "and its model")
        assert said(pod.client) == "classification for x by model digits__isvc-0123456789"
        assert pod.runtime.unloads("digits__isvc-0123456789") == 0


def test_an_etcd_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    environment = {"KV_STORE": "etcd:127.0.0.1:1", "MM_SERVICE_NAME": "mesh"}
    router = RouterProcess(tmp_path, environment, ready=False)
    try:
        until(lambda: router.process.returncode is not None, "the router ends")
        assert router.process.returncode == 1
        assert "Problem connecting to etcd" in router.termination_log.read_text()
    finally:
        router.stop()
