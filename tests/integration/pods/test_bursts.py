"""Bursts of cold models and of calls: they spread over the pods, and one model is loaded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.integration.etcd.server import Etcd
from tests.support.cluster import Cluster, a_cluster


@pytest.fixture(scope="module")
def five(etcd: Etcd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with a_cluster(tmp_path_factory.mktemp("five"), f"etcd:{etcd.address}", 5, service="bursts") as mesh:
        yield mesh


def test_forty_cold_models_arriving_at_once_spread_over_the_pods(five: Cluster) -> None:
    models = [f"cold-{number}" for number in range(40)]
    for model in models:
        five[0].client.register(model)
    calls = [five[number % 5].client.predicting(model) for number, model in enumerate(models)]
    for call in calls:
        call.result()
    loads = Counter({pod.id: sum(pod.runtime.loads(model) for model in models) for pod in five.pods})
    assert loads.total() == 40
    assert max(loads.values()) <= 1.3 * 40 / 5, loads


def test_a_thousand_calls_of_one_cold_model_through_all_pods_load_it_once(five: Cluster) -> None:
    five[0].client.register("popular")
    calls = [five[number % 5].client.predicting("popular") for number in range(1000)]
    assert {call.result().results[0].category for call in calls} == {"classification for hello by model popular"}
    assert five.loads("popular") == 1
