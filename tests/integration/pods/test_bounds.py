"""What users ask of copies holds: minimum, maximum, pin and preload, through changes, drains and kills; dead pods are forgotten at once.

Four pods, one of which leads. Leases are short, so that a killed pod's ends within seconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.protocols import model_mesh_pb2 as mm
from tests.integration.etcd.server import Etcd
from tests.support.client import TIMEOUT, refused
from tests.support.cluster import Cluster, PodProcesses, a_cluster, chosen_places
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

SERVICE, PODS = "bounds", 4
ROOM = 10
"""Models of the default size that fit into a pod."""


@pytest.fixture(scope="module")
def mesh(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    behaviour = Behaviour(capacity=ROOM * 55 * MIB, default_size=50 * MIB, loading_concurrency=2)
    environment = {**chosen_places(PODS), "MESH_LEASE_TTL": "2", "MESH_RATE_INTERVAL_MS": "500"}
    folder = tmp_path_factory.mktemp("bounds")
    with a_cluster(folder, f"etcd:{etcd.address}", PODS, service=SERVICE, behaviour=behaviour, environment=environment) as cluster:
        yield cluster


def bound(mesh: Cluster, name: str, kind: str = "example", path: str = "", load: bool = False, **bounds: Any) -> str:
    """Registers a service with bounds on its copies, as the controller does; its model."""
    info = mm.ModelInfo(type=kind, path=path)
    request = mm.SetVModelRequest(vModelId=name, targetModelId=f"{name}-1", modelInfo=info, autoDeleteTargetModel=True, loadNow=load)
    somebody(mesh).client.mesh.setVModel(request, timeout=TIMEOUT, metadata=(("mesh-bounds", json.dumps(bounds)),))
    return f"{name}-1"


def somebody(mesh: Cluster) -> PodProcesses:
    """A pod that lives."""
    return next(pod for pod in mesh.pods if pod.router.process.returncode is None)


def record(etcd: Etcd, model: str) -> dict[str, Any]:
    """A model's record as it lies in etcd."""
    found: dict[str, Any] = json.loads(etcd.get(f"/tas-runtime/{SERVICE}/registry/{model}"))
    return found


def holds(mesh: Cluster, model: str, copies: int) -> set[int]:
    """Waits until so many pods serve a model; which."""

    numbers = {pod.id: number for number, pod in enumerate(mesh.pods)}

    def serving() -> set[int]:
        there = somebody(mesh).facts(f"models/{model}")["copies"]
        return {numbers[copy["pod"]] for copy in there} if [copy["state"] for copy in there] == ["ready"] * copies else set()

    return until(serving, f"{copies} copies of {model}")


def test_a_minimum_is_loaded_without_a_call_and_changed_in_place(mesh: Cluster) -> None:
    model = bound(mesh, "two", minCopies=2)
    first = holds(mesh, model, 2)
    assert mesh.loads(model) == 2
    bound(mesh, "two", minCopies=3)
    assert first < holds(mesh, model, 3)
    assert mesh.loads(model) == 3, "those that were there stay"
    assert mesh.calls(model) == [0] * PODS


def test_a_maximum_that_is_lowered_takes_copies_away_down_to_it(mesh: Cluster) -> None:
    model = bound(mesh, "fewer", minCopies=3)
    holds(mesh, model, 3)
    bound(mesh, "fewer", maxCopies=2)
    holds(mesh, model, 2)
    bound(mesh, "fewer", minCopies=1, maxCopies=1)
    holds(mesh, model, 1)
    assert mesh.loads(model) == 3


def test_what_is_to_be_preloaded_is_loaded_once_without_a_call(mesh: Cluster) -> None:
    model = bound(mesh, "early", preload=True)
    holds(mesh, model, 1)
    assert mesh.loads(model) == 1


def test_a_minimum_beyond_what_can_hold_it_is_as_many_as_can(mesh: Cluster) -> None:
    model = bound(mesh, "lonely", "on-1", minCopies=3)
    assert holds(mesh, model, 1) == {1}
    assert mesh.loads(model) == 1


@pytest.mark.parametrize("bounds", ['{"minCopies": 3, "maxCopies": 2}', '{"minCopies": "1"}', "[", '{"copies": 1}'])
def test_bounds_that_cannot_be_are_refused_and_nothing_is_registered(mesh: Cluster, bounds: str) -> None:
    request = mm.SetVModelRequest(vModelId="wrong", targetModelId="wrong-1", modelInfo=mm.ModelInfo(type="example"))
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "header mesh-bounds: "):
        mesh[0].client.mesh.setVModel(request, timeout=TIMEOUT, metadata=(("mesh-bounds", bounds),))
    assert mesh[0].client.alias("wrong").status == mm.VModelStatusInfo.NOT_FOUND


def test_a_pinned_model_outlives_a_flood_of_others(mesh: Cluster) -> None:
    model = bound(mesh, "pinned", "on-3", load=True, pinned=True)
    assert holds(mesh, model, 1) == {3}
    for number in range(ROOM + 3):
        mesh[0].client.register(f"flood-{number}", kind="on-3")
        mesh[0].client.said(f"flood-{number}")
    assert mesh[3].runtime.unloads(), "some had to go"
    assert mesh[3].runtime.unloads(model) == 0


def test_minimum_and_pin_hold_through_a_drain(mesh: Cluster) -> None:
    cold = bound(mesh, "cold", load=True, pinned=True)
    (home,) = holds(mesh, cold, 1)
    two = bound(mesh, "drained", minCopies=2)
    leaver = next(iter(holds(mesh, two, 2) - {0}))
    leaver = home if home else leaver
    held = {model: mesh.held(model) for model in (cold, two)}
    assert mesh[leaver].router.stop() == 0
    for model, copies in ((cold, 1), (two, 2)):
        assert leaver not in holds(mesh, model, copies)
        assert mesh.loads(model) == copies + (leaver in held[model])
    mesh[leaver].runtime.stop()
    mesh.start(leaver)
    mesh.await_all()


def emptied(mesh: Cluster) -> None:
    """Forgets every service and model, and waits until no pod has any and all know it: a pod that is believed full gets none."""
    pod = somebody(mesh)
    for alias in pod.facts("aliases")["aliases"]:
        pod.client.delete_alias(alias["id"])
    for model in pod.facts("models")["models"]:
        pod.client.unregister(model["id"])
    until(lambda: all(not one.facts("copies")["copies"] for one in mesh.pods), "nothing is left")

    def alike() -> bool:
        seen = [other for one in mesh.pods for other in one.facts("pods")["pods"]]
        return not any(other["models"] for other in seen) and len({other["used_bytes"] for other in seen}) == 1

    until(alike, "all know that all are empty")


def pinned_on(mesh: Cluster, number: int) -> str:
    """A pinned model that a pod has alone; at the latest when all others are full it is that pod's turn."""
    elsewhere: list[str] = []
    for attempt in range((PODS - 1) * ROOM + 1):
        name = f"survivor-{attempt}"
        model = bound(mesh, name, load=True, pinned=True)
        if holds(mesh, model, 1) == {number}:
            for other in elsewhere:
                somebody(mesh).client.delete_alias(other)
            return model
        elsewhere.append(name)
    raise AssertionError(f"none of {len(elsewhere)} models was loaded on pod {number}")


def test_minimum_and_pin_hold_through_a_kill_of_the_leader_which_is_forgotten(mesh: Cluster, etcd: Etcd) -> None:
    leader = next(one["id"] for one in mesh[0].facts("pods")["pods"] if one["leads"])
    home = [pod.id for pod in mesh.pods].index(leader)
    emptied(mesh)
    pinned, everywhere = pinned_on(mesh, home), bound(mesh, "everywhere", minCopies=PODS)
    assert len(holds(mesh, everywhere, PODS)) == PODS
    mesh[0].client.register("broken", "FAILALWAYS_it is broken", kind=f"on-{home}", load=True, sync=True)
    mesh[0].client.loaded("plain", kind=f"on-{home}")
    dead = mesh[home].id
    assert dead in record(etcd, "broken")["failedIn"]
    assert dead in record(etcd, "plain")["instanceIds"]
    mesh[home].kill()
    until(lambda: "failedIn" not in record(etcd, "broken"), "the failure of a dead pod is forgotten")
    until(lambda: "instanceIds" not in record(etcd, "plain"), "its copies are forgotten")
    assert home not in holds(mesh, pinned, 1)
    assert home not in holds(mesh, everywhere, PODS - 1)
    for model in (pinned, everywhere):
        until(lambda model=model: dead not in record(etcd, model)["instanceIds"], f"{model} names the dead pod no more")  # type: ignore[misc]
    assert set(record(etcd, everywhere)["ready"]) == {pod.id for pod in mesh.pods} - {dead}


def test_free_space_is_filled_before_anybody_calls_with_what_was_used_last(tmp_path: Path) -> None:
    behaviour, now = Behaviour(capacity=ROOM * 55 * MIB, default_size=50 * MIB, loading_concurrency=2), int(time.time() * 1000)
    environment = {"MESH_PROACTIVE_INTERVAL_MS": "500"}
    with a_cluster(tmp_path, "UNSET", 1, service="early", behaviour=behaviour, environment=environment) as alone:
        for number in range(2 * ROOM):
            # The later, the longer ago it was used.
            alone[0].client.register(f"m-{number:02}", used=now - 10_000 * (number + 1))
        # So many models are half of the free space, an eighth of the whole left out.
        half = 4
        until(lambda: alone.loads() >= half, "so many are loaded")
        assert {line["model"] for line in alone[0].runtime.seen("loadModel")[:half]} == {f"m-{number:02}" for number in range(half)}
        assert alone[0].runtime.unloads() == 0
