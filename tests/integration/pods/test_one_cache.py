"""Five pods are one cache: models move under load without an error, and no pod's cache is much older than another's."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from tests.integration.etcd.server import Etcd
from tests.integration.pods.traffic import Traffic, traffic
from tests.support.cluster import FOLLOWING_LOAD, Cluster, a_cluster
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

ROOM_FOR_TEN = Behaviour(capacity=556 * MIB, default_size=50 * MIB, loading_concurrency=2)
"""A tenth is kept free for unloading, less than one model more."""
SCALED = {**FOLLOWING_LOAD, "MM_SCALEUP_RPM_THRESHOLD": "300"}
"""A sixth of the calls are of one model: at a rate that slow machines reach too it has the copies that it needs.

With one copy only its pod is half as busy again as the others, is given no models (reference 5.4), and its cache grows old.
"""


def watched(mesh: Cluster, calls: Traffic) -> list[float]:
    """How old each pod's cache is, some calls later: about three of its models went meanwhile."""
    calls.reaches(30)
    # Each pod's word is held against the time when it came.
    return [time.time() * 1000 - used for used in (pod.facts()["oldest_used_ms"] for pod in mesh.pods)]


def test_two_hundred_models_in_room_for_fifty_answer_every_call_and_the_caches_age_alike(etcd: Etcd, tmp_path: Path) -> None:
    models = [f"model-{number:03}" for number in range(200)]
    with a_cluster(tmp_path, f"etcd:{etcd.address}", 5, service="zipf", behaviour=ROOM_FOR_TEN, environment=SCALED) as mesh:
        for number, model in enumerate(models):
            mesh[number % 5].client.register(model)
        with traffic([pod.router.address for pod in mesh.pods], models, zipf=1.0, callers=32) as calls:
            calls.reaches(500)
            # With ten models a pod, the age of a cache jumps with each model that goes: what counts is how old it usually is.
            ages = [statistics.median(each) for each in zip(*(watched(mesh, calls) for _ in range(60)), strict=True)]
            moved = mesh.loads()
        assert calls.failures == []
        assert moved > 300, "models moved all the time"
        assert all(0 < pod.facts()["models"] <= 10 for pod in mesh.pods)
        assert max(ages) < 2 * min(ages), ages
        until(lambda: sum(pod.facts()["models"] for pod in mesh.pods) == 50, "every place is taken")
