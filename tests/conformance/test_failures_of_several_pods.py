"""Loads that fail on some pods, pods that are lost, and what the registry shows of both."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from grpc import RpcError, StatusCode

from tests.integration.etcd.server import Etcd
from tests.support.client import Client, Status, answer, refused
from tests.support.cluster import Cluster, a_cluster, chosen_places
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

PODS = 5


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory, etcd: Etcd, service: Callable[[], str]) -> Iterator[Cluster]:
    """Five pods; a type `first-three` is for the first three."""
    types = json.loads(chosen_places(PODS)["MM_TYPE_CONSTRAINTS"]) | {"first-three": {"required": ["off-3", "off-4"]}}
    environment = {"MM_TYPE_CONSTRAINTS": json.dumps(types)}
    script = Behaviour(capacity=64 * 1024 * MIB)
    folder = tmp_path_factory.mktemp("five")
    with a_cluster(folder, f"etcd:{etcd.address}", PODS, service=service(), behaviour=script, environment=environment) as cluster:
        yield cluster


class Records:
    """What lies in etcd."""

    def __init__(self, etcd: Etcd, service: str) -> None:
        self._etcd, self._service = etcd, service

    def model(self, name: str) -> dict[str, Any]:
        return self._read(f"registry/{name}")

    def pod(self, name: str) -> dict[str, Any]:
        return self._read(f"instances/{name}")

    def _read(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._etcd.get(f"/tas-runtime/{self._service}/{key}") or "{}")
        return found


@pytest.fixture
def records(five: Cluster, etcd: Etcd) -> Records:
    return Records(etcd, five.service)


def copies(status: Status) -> Counter[int]:
    """How many copies are in each state."""
    return Counter(copy.copyStatus for copy in status.modelCopyInfos)


# Records


def counted(record: dict[str, Any]) -> dict[str, Any]:
    """A pod's record once it has one model and tells its memory."""
    return record if record.get("count") == 1 and record.get("used") else {}


def test_what_is_loaded_and_deleted_shows_in_the_records(five: Cluster, records: Records, model: str) -> None:
    place = five[4]
    before = records.pod(place.id)
    assert (before.get("count", 0), before.get("lInProg", 0)) == (0, 0)
    five[0].client.loaded(model, kind="on-4")
    assert list(records.model(model)["instanceIds"]) == [place.id]
    # It is counted from the moment that it is wanted, its memory when it loads.
    told = until(lambda: counted(records.pod(place.id)), "the pod counts it")
    assert 0 < told["used"] <= told["cap"]
    five[1].client.unregister(model)
    assert not records.model(model)
    until(lambda: records.pod(place.id).get("count", 0) == 0, "the pod counts it no more")


# Failing loads


def test_a_model_that_fails_is_tried_on_three_pods_and_its_callers_hear_why(five: Cluster, records: Records, model: str) -> None:
    status = five[0].client.register(model, "FAILALWAYS_there is no such file", load=True, sync=True)
    assert status.status == Status.LOADING_FAILED
    assert all(error.endswith("there is no such file") for error in status.errors)
    assert sorted(pod.runtime.loads(model) for pod in five.pods) == [0, 0, 1, 1, 1]
    assert len(records.model(model)["failedIn"]) == 3
    for pod in five.pods:
        with refused(StatusCode.INTERNAL) as refusal:
            pod.client.predict(model)
        assert refusal.details.endswith("there is no such file")
        until(lambda pod=pod: copies(pod.client.status(model)) == {Status.LOADING_FAILED: 3}, "every pod tells the same")  # type: ignore[misc]
    assert five.loads(model) == 3


def test_many_callers_of_a_model_that_fails_cause_three_loads(five: Cluster, model: str) -> None:
    five[0].client.register(model, "FAILALWAYS_broken")
    calls = [five[number % PODS].client.predicting(model) for number in range(200)]
    for call in calls:
        with refused(StatusCode.INTERNAL) as refusal:
            call.result()
        assert refusal.details.endswith("broken")
    assert sorted(pod.runtime.loads(model) for pod in five.pods) == [0, 0, 1, 1, 1]


def test_one_healthy_pod_of_three_is_found_by_every_model(five: Cluster, model: str) -> None:
    client, names = five[0].client, [f"{model}-{number}" for number in range(6)]
    for name in names:
        client.register(name, kind="first-three")
    with ExitStack() as sick:
        for pod in five.pods[:2]:
            sick.enter_context(pod.runtime.behaving(fail_loads="no memory left"))
        with ThreadPoolExecutor(len(names)) as callers:
            states = list(callers.map(lambda name: client.ensure(name, sync=True).status, names))
    assert states == [Status.LOADED] * len(names)
    for name in names:
        assert five[4].client.said(name) == answer(name)
        assert five.held(name) == {2}
        assert five.loads(name) <= 3


def test_another_model_under_a_known_id_is_refused_by_every_pod(five: Cluster, model: str) -> None:
    five[0].client.register(model, "p", key="k")
    for pod in five.pods:
        with refused(StatusCode.ALREADY_EXISTS, exactly="Model already exists with different attribute values"):
            pod.client.register(model, "p", key="another")


def test_a_failure_expires_on_all_pods_under_calls_that_never_stop(
    tmp_path_factory: pytest.TempPathFactory, etcd: Etcd, service: Callable[[], str], model: str
) -> None:
    folder, environment = tmp_path_factory.mktemp("forgetful"), {"MM_LOAD_FAILURE_EXPIRY_TIME_MS": "3000"}
    with a_cluster(folder, f"etcd:{etcd.address}", 2, service=service(), environment=environment) as pods:
        pods[0].client.register(model, "FAIL_not yet")
        clients = [pod.client for pod in pods.pods]
        with refused(StatusCode.INTERNAL) as refusal:
            clients[1].predict(model)
        assert refusal.details.endswith("not yet")
        assert [pod.runtime.loads(model) for pod in pods.pods] == [1, 1], "the other pod was tried, too"
        until(lambda: all(_serves(client, model) for client in clients), "the failures expire")
        assert pods.loads(model) <= 4
        assert clients[0].status(model).status == Status.LOADED
        assert not clients[0].status(model).errors


def _serves(client: Client, model: str) -> bool:
    try:
        return client.said(model) == answer(model)
    except RpcError:
        return False


# A pod that is lost; the last story of these five


def test_every_model_of_a_pod_that_is_killed_is_served_from_the_first_call_on(five: Cluster, model: str) -> None:
    names = [f"{model}-{number}" for number in range(20)]
    for number, name in enumerate(names):
        five[number % PODS].client.loaded(name)
    holders = {name: five.held(name) for name in names}
    lost = Counter(holder for held in holders.values() for holder in held).most_common(1)[0][0]
    five[lost].kill()
    living = [pod for number, pod in enumerate(five.pods) if number != lost]
    with ThreadPoolExecutor(8) as callers:
        said = list(callers.map(lambda number: living[number % 4].client.said(names[number % 20]), range(400)))
    assert said == [answer(names[number % 20]) for number in range(400)]
    kept = [name for name in names if holders[name] != {lost}]
    assert sum(pod.runtime.loads(name) for pod in living for name in kept) == len(kept), "what others hold is not loaded again"
    assert sum(pod.runtime.loads(name) for pod in living for name in names) == len(names), "what is lost is loaded once"
