"""A model that another pod has is called there, over that pod's peer port; what that pod cannot do is the router's to mend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.etcd.server import Etcd
from tests.lane.conftest import Pod, a_lane
from tests.lane.test_calls import infer
from tests.support import environments
from tests.support.client import answer
from tests.support.cluster import Cluster, PodProcesses, a_cluster
from tests.support.mesh import Mesh


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    etcd = Etcd(environments.made("etcd"), tmp_path_factory.mktemp("etcd"))
    etcd.start()
    try:
        with a_cluster(tmp_path_factory.mktemp("two"), f"etcd:{etcd.address}", 2, service="lane") as cluster:
            yield cluster
    finally:
        etcd.stop()


@pytest.fixture(scope="module")
def ingress(two: Cluster) -> Iterator[Pod]:
    """A lane before the first pod's door."""
    pod = two[0]
    with a_lane(Mesh(pod.runtime, pod.router, pod.client), me=pod.id) as lane:
        yield lane


def held_by_second(two: Cluster, ingress: Pod, model: str) -> PodProcesses:
    """Has a model loaded, and published at the first pod as another one's; who has it."""
    two[0].client.register(model)
    two[1].client.predict(model)
    (holder,) = two.held(model)
    published_as_of(two[holder].id, two[holder], ingress, model)
    return two[holder]


def published_as_of(name: str, at: PodProcesses, ingress: Pod, model: str) -> None:
    peer = ingress.lane.peer(name)
    peer.moved(f"127.0.0.1:{at.router.ports['peer']}")
    ingress.published(models=[(model, [peer.copy(tried=f"{name}@1")])])


def test_the_holder_serves_what_the_lane_sends_it(two: Cluster, ingress: Pod, model: str) -> None:
    held_by_second(two, ingress, model)
    _, call = ingress.client.v2.ModelInfer.with_call(infer(model), timeout=30)
    assert ingress.client.said(model) == answer(model)
    # What pods say to each other stays among them.
    told = [name for name, _ in (*call.initial_metadata(), *call.trailing_metadata())]
    assert not [name for name in told if name.startswith("mesh-")]
    counted = {row[2]: (row[4][0], row[8]) for row in ingress.lane.collect() if row[0] == model}
    assert counted == {"inference.GRPCInferenceService/ModelInfer": (1, "there"), "mmesh.ExamplePredictor/predict": (1, "there")}


def test_a_holder_that_says_not_here_costs_nobody_an_answer(two: Cluster, ingress: Pod, model: str) -> None:
    at = held_by_second(two, ingress, model)
    # A call for another pod than the one that gets it is refused by that one.
    published_as_of("another-pod", at, ingress, model)
    ingress.lane.collect()
    assert ingress.client.said(model) == answer(model)
    assert not [row for row in ingress.lane.collect() if row[0] == model]
