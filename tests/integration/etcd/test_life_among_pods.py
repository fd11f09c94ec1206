"""Routers of one mesh come and go beside each other: nobody takes another's name, and a rollout goes one after the other."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.protocols import peer_pb2
from tests.integration.etcd.server import Etcd
from tests.integration.etcd.test_a_router_on_etcd import on
from tests.support.client import Client
from tests.support.http import plain
from tests.support.mesh import RouterProcess, RuntimeProcess, a_mesh
from tests.support.waiting import until

POD, OTHER = "router-abcdef-00001", "router-abcdef-00002"
ID, OTHER_ID = POD[-12:], OTHER[-12:]


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """Several routers use it one after the other, or without a model between them."""
    process = RuntimeProcess(tmp_path_factory.mktemp("runtime"))
    yield process
    process.stop()


class Place:
    """Where routers of one mesh are started."""

    def __init__(self, etcd: Etcd, service: str, runtime: RuntimeProcess, folder: Path) -> None:
        self.etcd, self.service, self._runtime, self._folder = etcd, service, runtime, folder
        self._started: list[RouterProcess] = []

    def router(self, pod: str = POD, *, ready: bool = True, **environment: str) -> RouterProcess:
        folder = self._folder / f"{len(self._started)}"
        folder.mkdir()
        given = {**self._runtime.environment, **on(self.etcd, self.service, pod), **environment}
        self._started.append(RouterProcess(folder, given, ready=False))
        if ready:
            self._started[-1].await_ready()
        return self._started[-1]

    def key(self, pod: str = ID) -> str:
        return f"/mm/{self.service}/instances/{pod}"

    def record(self, pod: str = ID) -> dict[str, Any]:
        """What the pod says of itself; empty if it says nothing."""
        found: dict[str, Any] = json.loads(self.etcd.get(self.key(pod)) or "{}")
        return found

    def put(self, key: str, value: object) -> None:
        self.etcd.ctl("put", f"/mm/{self.service}/{key}", value if isinstance(value, str) else json.dumps(value))

    def end(self) -> None:
        for router in self._started:
            router.process.stop(5)


@pytest.fixture
def place(etcd: Etcd, service: str, runtime: RuntimeProcess, tmp_path: Path) -> Iterator[Place]:
    here = Place(etcd, service, runtime, tmp_path)
    yield here
    here.end()


def refused_start(router: RouterProcess) -> str:
    assert router.process.wait() == 1
    return router.termination_log.read_text()


# Who is who


def test_a_second_pod_of_one_name_does_not_start_and_does_not_disturb_the_first(place: Place) -> None:
    first = place.router()
    before = place.record()
    second = place.router(ready=False)
    reason = refused_start(second)
    assert reason.startswith(f"Service startup failed: another pod of the mesh {place.service} has the id {ID} and answers at 127.0.0.1:")
    assert "WKUBE_POD_NAME" in reason
    assert place.record() == before
    assert first.probe("/ready") == 200


def test_a_pod_that_crashed_starts_again_under_its_name_at_once(place: Place) -> None:
    first = place.router()
    before = place.record()
    first.process.kill()
    place.router()
    after = place.record()
    assert after["startTime"] > before["startTime"]


# What a pod says of itself


def test_where_a_record_sends_other_pods_somebody_answers_from_its_first_moment(place: Place, runtime: RuntimeProcess) -> None:
    listed = json.dumps([{"modelId": "slow", "modelInfo": {"type": "example"}, "ensureLoaded": True}])
    with runtime.holding("load:slow"):
        router = place.router(ready=False, SERVICE_VERSION="main-20240301-1", MM_ZONE="z", MM_AUTO_REGISTER_MODELS=listed)
        record = until(place.record, "the pod is in the registry")
        assert (record["vers"], record["zone"]) == (1_709_251_200_001, "z")
        with grpc.insecure_channel(record["meshEndpoint"]) as channel:
            hello: grpc.UnaryUnaryMultiCallable[peer_pb2.HelloRequest, peer_pb2.HelloResponse] = channel.unary_unary(
                "/mesh.peer.v1.Peer/Hello", peer_pb2.HelloRequest.SerializeToString, peer_pb2.HelloResponse.FromString
            )
            answer = hello(peer_pb2.HelloRequest(), timeout=30)
        assert (answer.pod, answer.service, answer.start_time) == (ID, place.service, record["startTime"])
        assert not router.process.events("listening"), "clients are not served yet"
    router.await_ready()
    assert record["meshEndpoint"] == f"127.0.0.1:{router.ports['peer']}"


def test_a_record_that_somebody_deletes_comes_back(place: Place) -> None:
    place.router()
    place.etcd.ctl("del", place.key())
    until(place.record, "the record is there again")


def test_a_pod_that_holds_more_says_so_and_one_that_leaves_too(place: Place, runtime: RuntimeProcess) -> None:
    router = place.router()
    with Client.insecure(router.address) as client:
        client.loaded("a")
        until(lambda: place.record().get("count") == 1, "the record counts the model")
        with runtime.holding("call:a"):
            call = client.predicting("a", "test:hold")
            runtime.awaited("hold", "a")
            router.process.signal(signal.SIGTERM)
            until(lambda: place.record().get("shutdown"), "the record says that it leaves")
        call.result()
    assert router.process.wait() == 0
    assert not place.record(), "its record goes with it"


# Rollouts


def test_a_new_pod_is_not_ready_while_another_leaves_and_never_waits_again(place: Place) -> None:
    place.put(f"instances/{OTHER_ID}", {"startTime": 1, "shutdown": True})
    router = place.router(ready=False)
    ports = router.ports
    answer = plain.get(f"http://127.0.0.1:{ports['probe']}/ready", timeout=5)
    assert (answer.status_code, answer.text) == (503, f"not ready: other pods are leaving: {OTHER_ID}\n")
    place.etcd.ctl("del", place.key(OTHER_ID))
    router.await_ready()
    place.put(f"instances/{OTHER_ID}", {"startTime": 1, "shutdown": True})
    with Client.insecure(router.address) as client:
        # A change that was read back after that one: by now the router has seen it.
        client.register("later")
    assert router.probe("/ready") == 200


def test_a_new_pod_that_cannot_load_what_others_hold_is_not_ready_again(place: Place) -> None:
    place.put(f"instances/{OTHER_ID}", {"startTime": 1})
    for model in ("a", "b", "c"):
        place.put(f"registry/{model}", {"type": "example", "mPath": "FAILALWAYS_broken", "instanceIds": {OTHER_ID: 1}})
    router = place.router()
    with Client.insecure(router.address) as client:
        for model in ("a", "b", "c"):
            client.ensure(model, sync=True)
    until(lambda: router.probe("/ready") == 503, "the pod fails its probation")
    assert "3 models that other pods hold failed to load here" in router.process.output()


# What keeps a pod from starting, or from doing all it does at a start


def test_pods_of_a_disabled_mesh_do_not_start(place: Place) -> None:
    place.put("config/disable", "true")
    assert "config/disable" in refused_start(place.router(ready=False))


def test_a_mesh_that_is_only_read_gets_no_static_models(place: Place) -> None:
    listed = json.dumps([{"modelId": "static", "modelInfo": {"type": "example"}, "ensureLoaded": True}])
    place.router(KV_READ_ONLY="true", MM_AUTO_REGISTER_MODELS=listed)
    assert not place.etcd.get(f"/mm/{place.service}/registry/static")


def test_a_stop_that_hangs_ends_all_the_same(own_etcd: Etcd, service: str, tmp_path: Path) -> None:
    with a_mesh(tmp_path, environment={**on(own_etcd, service), "SHUTDOWN_TIMEOUT_MS": "1000"}) as pod, own_etcd.frozen():
        pod.router.process.signal(signal.SIGTERM)
        assert pod.router.process.wait() == 1
        assert "the stop is not over after 1 s (SHUTDOWN_TIMEOUT_MS)" in pod.router.process.output()
