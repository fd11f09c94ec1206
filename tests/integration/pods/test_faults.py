"""Parts of a mesh that break under calls: none fails while another pod can serve it, and afterwards everything agrees again.

Afterwards means: nobody waits, no call is counted, and for every pod its records in etcd, its router and its model server name the same
models. Each pod has room for nine of the forty models, so that all of them move all the time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.etcd.server import Etcd, Way
from tests.integration.pods.traffic import Traffic, traffic
from tests.support.cluster import FOLLOWING_LOAD, Cluster, PodProcesses, Special, a_cluster
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

SERVICE = "faults"
MODELS = [f"m-{number}" for number in range(40)]
ENVIRONMENT = {**FOLLOWING_LOAD, "MESH_LEASE_TTL": "10"}
"""Calls go on until the lease of a pod that hangs ends: longer than a router takes to come back, and no longer than that."""


class Cut:
    """The way of one pod to etcd, which a test that does not run on an event loop can shut."""

    def __init__(self, port: int) -> None:
        self._way = Way(port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Cut:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._way.__aenter__(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._way.__aexit__(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def port(self) -> int:
        return self._way.port

    @contextmanager
    def shut(self) -> Iterator[None]:
        self._do(self._way.shut)
        try:
            yield
        finally:
            self._do(self._way.reopen)

    def _do(self, what: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(what)


@pytest.fixture(scope="module")
def cut(etcd: Etcd) -> Iterator[Cut]:
    with Cut(etcd.port) as cut:
        yield cut


@pytest.fixture(scope="module")
def three(etcd: Etcd, cut: Cut, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The last one reaches etcd by a way that can be cut."""
    folder, script = tmp_path_factory.mktemp("three"), Behaviour(health=True, capacity=520 * MIB)
    each = [Special(), Special(), Special(environment={"KV_STORE": f"etcd:127.0.0.1:{cut.port}"})]
    with a_cluster(folder, f"etcd:{etcd.address}", 3, service=SERVICE, behaviour=script, environment=ENVIRONMENT, each=each) as mesh:
        for model in MODELS:
            mesh[0].client.register(model)
        yield mesh


@contextmanager
def calls(*pods: PodProcesses, pause: float = 0.0) -> Iterator[Traffic]:
    """Calls of all models go on through these pods, and none fails."""
    with traffic([pod.router.address for pod in pods], MODELS, zipf=0.5, callers=8, pause=pause) as calls:
        calls.reaches(100)
        yield calls
        calls.reaches(100)
    assert calls.failures == []


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that neither goes on nor ends, as on a machine that hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def recorded(etcd: Etcd, pod: str) -> set[str]:
    """Models whose records in etcd name a pod as one where they are loaded."""
    records = {key.rpartition("/")[2]: json.loads(text) for key, text in etcd.below(f"/tas-runtime/{SERVICE}/registry/").items()}
    return {model for model, record in records.items() if pod in record.get("instanceIds", {}) and pod in record.get("ready", {})}


def in_memory(pod: PodProcesses) -> set[str]:
    """Models that a model server holds, told from what it was asked to do since it started."""
    held: set[str] = set()
    for line in pod.runtime.journal():
        if line["pid"] == pod.runtime.process.pid and line.get("code") == "OK":
            if line["call"] == "loadModel":
                held.add(line["model"])
            elif line["call"] == "unloadModel":
                held.discard(line["model"])
    return held


def all_agrees(mesh: Cluster, etcd: Etcd) -> None:
    """Returns when nobody waits and all that tells of a pod's models says the same."""

    def agrees(pod: PodProcesses) -> bool:
        copies = pod.facts("copies")["copies"]
        if any(copy["calls"] or copy["waiting"] or copy["state"] != "ready" for copy in copies):
            return False
        models = {copy["model"] for copy in copies}
        # That a model server was killed or forgot shows with the next call of each model.
        for model in models - in_memory(pod):
            pod.client.predict(model, metadata=(("mm-balanced", "true"),))
        return models == recorded(etcd, pod.id) == in_memory(pod)

    for pod in mesh.pods:
        until(lambda pod=pod: agrees(pod), f"all that tells of {pod.id} says the same")  # type: ignore[misc]
        log = (pod.folder / "router.log").read_text()
        assert not [line for line in log.splitlines() if "this is a bug" in line or "Traceback" in line or "never retrieved" in line]


def test_a_model_server_that_is_killed_costs_no_call(three: Cluster, etcd: Etcd) -> None:
    runtime = three[1].runtime
    with calls(*three.pods) as under:
        runtime.kill()
        under.reaches(400)
        runtime.start()
    all_agrees(three, etcd)


def test_models_that_their_servers_forgot_are_loaded_again_and_no_call_learns_of_it(three: Cluster) -> None:
    with calls(*three.pods) as under:
        for _ in range(3):
            for pod in three.pods:
                pod.runtime.do("purge")
            under.reaches(100)


def test_a_pod_that_hangs_and_one_that_etcd_takes_for_dead_cost_no_call_and_find_back(three: Cluster, etcd: Etcd, cut: Cut) -> None:
    here, hangs, alone = three.pods
    with calls(here, alone, pause=0.05), stopped(hangs.router.process.pid), cut.shut():
        until(lambda: [pod["id"] for pod in here.facts("pods")["pods"]] == [here.id], "the leases of the two end")
    three.await_all()
    all_agrees(three, etcd)


def test_a_router_that_is_killed_comes_back_to_a_mesh_that_never_missed_it(three: Cluster, etcd: Etcd, tmp_path: Path) -> None:
    with calls(three[0], three[2]) as under:
        three[1].router.process.kill()
        under.reaches(200)
        three[1].runtime.stop()
        three.start(1)
    all_agrees(three, etcd)
