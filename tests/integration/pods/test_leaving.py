"""A pod leaves under load: no call fails, and its models are served by others before it stops serving them."""

from __future__ import annotations

from pathlib import Path

from tests.integration.etcd.server import Etcd
from tests.integration.pods.traffic import traffic
from tests.support.cluster import FOLLOWING_LOAD, PodProcesses, a_cluster
from tests.support.runtime_state import MIB, Behaviour

ROOMY = Behaviour(capacity=2048 * MIB, default_size=50 * MIB)


def answers(pod: PodProcesses, model: str) -> list[int]:
    """When the pod's runtime answered calls for a model."""
    return [line["t"] for line in pod.runtime.seen("ModelInfer", model, "end") if line["code"] == "OK"]


def test_no_call_fails_when_a_pod_leaves_and_each_model_is_answered_elsewhere_before_its_last_answer_there(
    etcd: Etcd, tmp_path: Path
) -> None:
    models = [f"model-{number:02}" for number in range(24)]
    with a_cluster(tmp_path, f"etcd:{etcd.address}", 4, service="leaving", behaviour=ROOMY, environment=FOLLOWING_LOAD) as mesh:
        for model in models:
            mesh[0].client.loaded(model)
        leaving, staying = mesh[1], [mesh[0], mesh[2], mesh[3]]
        moved = [model for model in models if leaving.runtime.loads(model)]
        assert moved
        # Those that move are called most: on a slow machine, too, there is a call whenever either copy could answer one.
        called = [*models, *moved * 4]
        with traffic([pod.router.address for pod in mesh.pods], called, callers=24) as calls:
            calls.reaches(1_000)
            assert leaving.router.stop() == 0
            calls.reaches(1_000)
        assert calls.failures == []
        for model in moved:
            assert answers(leaving, model)[-1] > min(answers(pod, model)[0] for pod in staying if answers(pod, model)), model
            assert leaving.id not in mesh.holders(model)
