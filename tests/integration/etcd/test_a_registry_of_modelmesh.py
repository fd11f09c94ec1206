"""A router on a registry that ModelMesh wrote, a router of ModelMesh among its pods: read, served, and updated with nothing lost."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.etcd.server import Etcd
from tests.integration.etcd.test_a_router_on_etcd import on, said
from tests.support.client import refused
from tests.support.mesh import Mesh, RouterProcess, a_mesh
from tests.support.waiting import until

JAVA, OURS = "fedcba-00009", "abcdef-00001"
MODEL, COLD = "digits__isvc-0123456789", "letters__isvc-9876543210"
MINUTES_20 = 20 * 60_000


class JavaRouter:
    """What a router of ModelMesh leaves in etcd under its lease, and the port where it would take calls."""

    def __init__(self, etcd: Etcd, service: str, now: int) -> None:
        self.door = socket.create_server(("127.0.0.1", 0))
        self.door.setblocking(False)
        port = self.door.getsockname()[1]
        granted = re.search(r"lease ([0-9a-f]+) granted", etcd.ctl("lease", "grant", "600"))
        assert granted
        instance = {
            "startTime": now - 3_600_000,
            "vers": 20210922001,
            "loc": "127.0.0.1",
            "zone": "eu-de-1",
            "labels": ["mt:sklearn"],
            "lruTime": now - 3_000_000,
            "count": 2,
            "cap": 10_000_000,
            "used": 100,
            "lThreads": 8,
            "rpm": 10,
            "actionable": True,
            "laterField": {"a": 1},
        }
        registration = {
            "hostname": "127.0.0.1",
            "port": port,
            "registrationTime": now - 3_600_000,
            "version": "20210922-0001",
            "instanceId": JAVA,
            "connConfig": {
                "transport.framed": "true",
                "service.class": "com.ibm.watson.modelmesh.SidecarModelMesh",
                "app.kv_store_type": "etcd",
            },
        }
        self.entries = {
            f"/mm/{service}/instances/{JAVA}": json.dumps(instance),
            f"/mm/{service}/leaderLatch/_{JAVA}": f"_{JAVA}",
            f"/litelinks/{service}/127.0.0.1_{port}_17f{port:x}": json.dumps(registration),
        }
        for key, value in self.entries.items():
            etcd.ctl("put", f"--lease={granted[1]}", key, value)

    def called(self) -> bool:
        """Whether anybody connected."""
        try:
            self.door.accept()[0].close()
        except BlockingIOError:
            return False
        return True


class Takeover:
    """The records that were there, and what has become of them."""

    def __init__(self, etcd: Etcd, service: str, now: int) -> None:
        self.etcd, self.base = etcd, f"/mm/{service}"
        self.java = JavaRouter(etcd, service, now)
        self.model: dict[str, Any] = {
            "type": "example",
            "encKey": "key",
            "mPath": "p",
            "instanceIds": {JAVA: now - MINUTES_20},
            "refs": 1,
            "autoDel": True,
            "lu": now - MINUTES_20,
            "laterField": {"kept": [1, None, "ü"]},
        }
        self.cold: dict[str, Any] = {
            "type": "example",
            "mPath": "q",
            "failedIn": {JAVA: now - 1000},
            "fails": {JAVA: {"msg": "no such file"}},
            "lu": now - MINUTES_20,
            "laterField": True,
        }
        self.alias = {"o": "isvc", "amid": MODEL, "tmid": MODEL, "laterField": 7}
        self.put("registry/" + MODEL, self.model)
        self.put("registry/" + COLD, self.cold)
        self.put("vmodels/digits", self.alias)
        etcd.ctl("put", f"{self.base}/config/logger_level", "INFO")

    def put(self, key: str, record: dict[str, Any]) -> None:
        self.etcd.ctl("put", f"{self.base}/{key}", json.dumps(record))

    def get(self, key: str) -> dict[str, Any]:
        """A record without our stamp."""
        found: dict[str, Any] = json.loads(self.etcd.get(f"{self.base}/{key}") or "{}")
        found.pop("w", None)
        return found


@pytest.fixture
def takeover(etcd: Etcd, service: str) -> Iterator[Takeover]:
    made = Takeover(etcd, service, 1_700_000_000_000)
    yield made
    made.java.door.close()


@pytest.fixture
def mesh(etcd: Etcd, service: str, takeover: Takeover, tmp_path: Path) -> Iterator[Mesh]:
    with a_mesh(tmp_path, environment=on(etcd, service)) as pod:
        yield pod


def ours(record: dict[str, Any], *fields: str) -> dict[str, Any]:
    """A record without what our pod writes of itself."""
    left = {name: value for name, value in record.items() if name not in fields}
    for table in ("instanceIds", "failedIn", "fails", "ready"):
        if OURS in left.get(table, {}):
            left[table] = {pod: value for pod, value in left[table].items() if pod != OURS}
    return {name: value for name, value in left.items() if value != {}}


def test_it_is_served_and_updated_with_unknown_fields_intact_and_the_java_router_is_left_alone(takeover: Takeover, mesh: Mesh) -> None:
    # What only the Java router holds is loaded here: that router is no place that our pods can call.
    assert said(mesh.client) == f"classification for x by model {MODEL}"
    assert mesh.runtime.loads(MODEL) == 1
    assert mesh.client.said(COLD) == f"classification for hello by model {COLD}"
    until(lambda: OURS in takeover.get(f"registry/{COLD}").get("ready", {}), "both loads are noted")
    until(lambda: OURS in takeover.get(f"registry/{MODEL}").get("ready", {}))
    model, cold = takeover.get(f"registry/{MODEL}"), takeover.get(f"registry/{COLD}")
    assert OURS in model["instanceIds"]
    assert OURS in cold["instanceIds"]
    assert ours(model, "lu") == ours(takeover.model, "lu"), "its copy stays, however old, as long as its lease lives"
    assert ours(cold, "lu") == ours(takeover.cold, "lu")
    assert takeover.get("vmodels/digits") == takeover.alias
    for key, value in takeover.java.entries.items():
        assert takeover.etcd.get(key) == value
    assert not takeover.java.called()


def test_an_alias_keeps_its_owner_and_its_unknown_fields_when_it_moves(takeover: Takeover, mesh: Mesh) -> None:
    new = "digits__isvc-1111111111"
    mesh.client.set_alias("digits", new, path="p2", kind="example", owner="isvc", loadNow=True, sync=True, autoDeleteTargetModel=True)
    moved = takeover.get("vmodels/digits")
    assert moved == {**takeover.alias, "amid": new, "tmid": new}
    assert takeover.get(f"registry/{MODEL}") == {}, "it was to go with its last alias"
    assert takeover.get(f"registry/{new}")["refs"] == 1
    assert not takeover.java.called()


def test_our_pods_write_no_litelinks_registration_so_no_java_router_calls_them(takeover: Takeover, mesh: Mesh, service: str) -> None:
    mesh.client.loaded("another")
    found = takeover.etcd.ctl("get", "--prefix", "--keys-only", f"/litelinks/{service}/").split()
    assert found == [key for key in takeover.java.entries if key.startswith("/litelinks/")]


def test_while_it_is_read_only_models_are_served_and_nothing_else_is_written(
    etcd: Etcd, takeover: Takeover, service: str, tmp_path: Path
) -> None:
    with a_mesh(tmp_path, environment={**on(etcd, service), "KV_READ_ONLY": "true"}) as pod:
        assert said(pod.client) == f"classification for x by model {MODEL}"
        until(lambda: OURS in takeover.get(f"registry/{MODEL}").get("ready", {}), "its own copy is written")
        with refused(grpc.StatusCode.UNAVAILABLE, "model-mesh is in read-only mode", "model new", "KV_READ_ONLY"):
            pod.client.register("new")
        with refused(grpc.StatusCode.UNAVAILABLE, "model-mesh is in read-only mode", f"model {COLD}"):
            pod.client.unregister(COLD)
        with refused(grpc.StatusCode.UNAVAILABLE, "model-mesh is in read-only mode", "vmodel digits"):
            pod.client.set_alias("digits", COLD, owner="isvc")
        with refused(grpc.StatusCode.UNAVAILABLE, "model-mesh is in read-only mode", "vmodel digits"):
            pod.client.delete_alias("digits", "isvc")
        takeover.put("vmodels/letters", {"amid": MODEL, "tmid": COLD})
        until(lambda: pod.client.alias("letters").targetModelId == COLD, "a transition is seen")
        assert ours(takeover.get(f"registry/{MODEL}"), "lu") == ours(takeover.model, "lu")
        assert takeover.get("vmodels/digits") == takeover.alias
        assert takeover.get(f"registry/{COLD}") == takeover.cold
        assert takeover.get("vmodels/letters") == {"amid": MODEL, "tmid": COLD}
        assert pod.runtime.loads(COLD) == 0, "no transition is begun that could not be ended"


def test_what_operators_set_is_in_force_in_a_running_pod(etcd: Etcd, takeover: Takeover, mesh: Mesh) -> None:
    config = f"{takeover.base}/config/"
    invoked = "invoking model runtime gRPC method"

    def logged(text: str) -> int:
        return mesh.router.process.output().count(text)

    etcd.ctl("put", config + "logger_level", "loud")
    until(lambda: logged("config/logger_level='loud' in the registry is no level"), "a bad value is named")
    assert said(mesh.client)
    assert logged(invoked) == 0
    etcd.ctl("put", config + "log_each_invocation", "true")
    until(lambda: said(mesh.client) and logged(invoked), "each call is logged")


def test_a_disabled_mesh_lets_no_pod_start_and_says_why(etcd: Etcd, service: str, tmp_path: Path) -> None:
    etcd.ctl("put", f"/mm/{service}/config/disable", "true")
    router = RouterProcess(tmp_path, on(etcd, service), ready=False)
    try:
        until(lambda: router.process.returncode is not None, "the router ends")
        assert router.process.returncode == 1
        assert "Service startup failed: pods of this mesh are kept from starting: config/disable" in router.termination_log.read_text()
    finally:
        router.stop()
