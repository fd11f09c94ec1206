"""Three pods on an etcd of three nodes: whichever node fails, no caller notices; without a majority what is loaded is served."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import grpc
import pytest

from tests.integration.etcd.nodes import await_healthy, leader, three_nodes
from tests.integration.etcd.server import Etcd
from tests.integration.pods.traffic import Traffic, traffic
from tests.support import environments
from tests.support.client import Client, Status, answer, refused
from tests.support.cluster import Cluster, PodProcesses, a_cluster
from tests.support.waiting import until

WARM = [f"warm-{number}" for number in range(6)]


LEAST = 200
"""Answers of warm models before and after each step."""


class Trial:
    """Three pods, three nodes, calls through all pods, and what is asked of the mesh meanwhile."""

    def __init__(self, mesh: Cluster, nodes: list[Etcd]) -> None:
        self.mesh, self.nodes = mesh, nodes
        self.registered: list[str] = []
        for number, model in enumerate(WARM):
            mesh[number % 3].client.loaded(model)
            self.registered.append(model)
        for pod in mesh.pods:
            until(lambda pod=pod: all(serves(pod, model) for model in WARM), f"{pod.id} knows where the warm models are")  # type: ignore[misc] # default
        self._loads = [mesh.loads(model) for model in WARM]

    def calls(self) -> AbstractContextManager[Traffic]:
        """Calls of the warm models; none of them may fail."""
        return traffic([pod.router.address for pod in self.mesh.pods], WARM, callers=6, pause=0.02)

    def register(self, client: Client, model: str) -> None:
        """Once more if etcd did not answer: so its caller is told."""
        try:
            client.register(model)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            client.register(model)
        self.registered.append(model)

    def works(self, when: str) -> None:
        """Each pod takes a new model, which another one then answers for: it is loaded once."""
        for number, pod in enumerate(self.mesh.pods):
            model, other = f"{when}-{number}", self.mesh[(number + 1) % 3].client
            self.register(pod.client, model)
            until(lambda other=other, model=model: known(other, model), f"another pod knows {model}")  # type: ignore[misc] # default
            assert other.said(model) == answer(model)
            assert self.mesh.loads(model) == 1

    def logs(self) -> str:
        """What the routers wrote last, and what became of the warm models."""
        told = [f"{pod.id} {model}: {pod.facts(f'models/{model}')}" for pod in self.mesh.pods for model in WARM]
        return "\n".join([*told, self.mesh.logs()])

    def nothing_is_lost(self) -> None:
        """All pods are there, know all that was registered, and none of the warm models was loaded again."""
        self.mesh.await_all()
        for pod in self.mesh.pods:
            until(lambda pod=pod: set(self.registered) <= listed(pod), f"{pod.id} knows all models")  # type: ignore[misc] # default
        assert [self.mesh.loads(model) for model in WARM] == self._loads


def known(client: Client, model: str) -> bool:
    return client.status(model).status != Status.NOT_FOUND


def serves(pod: PodProcesses, model: str) -> bool:
    """Whether a pod knows of a copy of a model that serves."""
    return pod.client.status(model).status == Status.LOADED


def listed(pod: PodProcesses) -> set[str]:
    return {model["id"] for model in pod.facts("models")["models"]}


def asked_in_vain(trial: Trial, pod: PodProcesses, cold: str, new: str) -> None:
    """A pod takes no new model, and serves a cold one that it knows."""
    with refused(grpc.StatusCode.UNAVAILABLE, f"etcd at {trial.nodes[0].address}", "does not answer", "check"):
        pod.client.register(new)
    assert pod.client.said(cold) == answer(cold)


def shown_where_loaded(mesh: Cluster, model: str) -> bool:
    return {pod.id for pod in mesh.pods if pod.runtime.loads(model)} == set(mesh.holders(model))


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("nodes")
    with three_nodes(environments.made("etcd"), folder) as nodes:
        store = f"etcd:{','.join(node.address for node in nodes)}"
        # However much they are called, nothing is to be loaded that was not asked for.
        with a_cluster(folder, store, 3, service="three-nodes", environment={"MM_SCALEUP_RPM_THRESHOLD": "1000000"}) as mesh:
            yield Trial(mesh, nodes)


@pytest.mark.parametrize("which", ["a follower", "the leader"])
def test_a_node_that_is_killed_and_comes_back_is_missed_by_no_call_and_no_load(trial: Trial, which: str) -> None:
    first = leader(trial.nodes)
    victim = first if which == "the leader" else next(node for node in trial.nodes if node is not first)
    name = which.split()[1]
    with trial.calls() as calls:
        calls.reaches(LEAST)
        victim.kill()
        trial.works(f"without-{name}")
        calls.reaches(LEAST)
        victim.start()
        trial.works(f"with-{name}")
        calls.reaches(LEAST)
    assert calls.failures == []
    trial.nothing_is_lost()


def test_one_node_after_another_is_replaced_under_calls(trial: Trial) -> None:
    with trial.calls() as calls:
        for number, node in enumerate(trial.nodes):
            node.stop()
            trial.works(f"round-{number}")
            node.start()
            await_healthy(trial.nodes)
        calls.reaches(LEAST)
    assert calls.failures == []
    trial.nothing_is_lost()


@pytest.mark.parametrize("left", ["a follower", "the leader"])
def test_without_a_majority_what_is_registered_is_served_and_changes_are_refused_until_it_is_back(trial: Trial, left: str) -> None:
    name = left.split()[1]
    cold, late = [[f"{what}-{name}-{number}" for number in range(3)] for what in ("cold", "late")]
    for pod, model in zip(trial.mesh.pods, cold, strict=True):
        trial.register(pod.client, model)
    for pod in trial.mesh.pods:
        until(lambda pod=pod: set(cold) <= listed(pod), "every pod knows them")  # type: ignore[misc] # default
    first = leader(trial.nodes)
    survivor = first if left == "the leader" else next(node for node in trial.nodes if node is not first)
    victims = [node for node in trial.nodes if node is not survivor]
    with trial.calls() as calls:
        for node in victims:
            node.kill()
        calls.reaches(LEAST)
        with ThreadPoolExecutor(3) as asking:
            list(asking.map(lambda asked: asked_in_vain(trial, *asked), zip(trial.mesh.pods, cold, late, strict=True)))
        calls.reaches(LEAST)
        for node in victims:
            node.launch()
        await_healthy(trial.nodes)
        for pod, new in zip(trial.mesh.pods, late, strict=True):
            trial.register(pod.client, new)
        trial.works(f"after-{name}")
        calls.reaches(LEAST)
    assert calls.failures == []
    trial.nothing_is_lost()
    for model in [*cold, *late]:
        assert [pod.client.said(model) for pod in trial.mesh.pods] == [answer(model)] * 3
    for model in cold:
        until(lambda model=model: shown_where_loaded(trial.mesh, model), f"the registry shows the copies of {model}")  # type: ignore[misc] # default
