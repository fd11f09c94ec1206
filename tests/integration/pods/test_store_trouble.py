"""Etcd is away, is replaced, or is put back, while clients call: no call of a loaded model fails, and afterwards everything agrees.

Three pods with short leases; each reaches etcd by a way of its own. Each trouble lasts for twice a lease. Warm models are called through
all pods throughout, and every failed call counts; loads are counted too, because what nobody had to load again must not be loaded again.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.etcd.server import Etcd
from tests.integration.pods.test_faults import Cut
from tests.integration.pods.traffic import Traffic, traffic
from tests.support import environments
from tests.support.client import AliasStatus, Status, answer, refused
from tests.support.cluster import Cluster, PodProcesses, Special, a_cluster, chosen_places
from tests.support.http import plain
from tests.support.waiting import until

SERVICE, LEASE = "trouble", 3
WARM = [f"warm-{number}" for number in range(6)]
FEW = 30
"""Answers that show that calls go on."""


class Hole(Cut):
    """A pod's way to etcd; everything can vanish in it, and it can be closed."""

    def swallow(self) -> None:
        for what in ("questions", "answers"):
            self._do(lambda what=what: self._way.lose(what))  # type: ignore[misc] # default

    def clear(self) -> None:
        # What was swallowed is missing in connections that stay open.
        self._do(self._way.reopen)
        self._do(self._way.cut)

    def refuse(self) -> None:
        self._await(self._way.refuse())

    def listen(self) -> None:
        self._await(self._way.listen())

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


class Trial:
    """The mesh, its etcd, and what is asked of them."""

    def __init__(self, mesh: Cluster, etcd: Etcd, holes: list[Hole], specials: list[Special]) -> None:
        self.mesh, self.etcd, self.holes, self.specials = mesh, etcd, holes, specials
        for number, model in enumerate(WARM):
            mesh[number % 3].client.loaded(model, kind=f"on-{number % 3}")
        mesh[0].client.set_alias("service", WARM[0])
        for pod in mesh.pods:
            until(lambda pod=pod: all(loaded(pod, model) for model in WARM), f"{pod.id} knows where the warm models are")  # type: ignore[misc]

    @contextmanager
    def calls(self, *pods: PodProcesses) -> Iterator[Traffic]:
        """Warm models are called through these pods, or all; none of the calls fails, and none of the models is loaded again."""
        before = [self.mesh.loads(model) for model in WARM]
        with traffic([pod.router.address for pod in pods or self.mesh.pods], WARM, callers=4, pause=0.02) as calls:
            calls.reaches(FEW)
            yield calls
            calls.reaches(FEW)
        print(f"{calls.total} calls, {len(calls.failures)} failed")
        assert calls.failures == []
        assert [self.mesh.loads(model) for model in WARM] == before

    def register(self, model: str, kind: str = "example") -> None:
        """Registers a cold model and waits until all pods know it."""
        self.mesh[0].client.register(model, kind=kind)
        for pod in self.mesh.pods:
            until(lambda pod=pod: known(pod, model), f"{pod.id} knows {model}")  # type: ignore[misc] # default

    def takes_changes(self, model: str) -> None:
        """Returns when each pod takes a registration again, and all see all."""
        for number, pod in enumerate(self.mesh.pods):
            until(lambda pod=pod, number=number: registers(pod, f"{model}-{number}"), f"{pod.id} takes changes")  # type: ignore[misc]
        self.mesh.await_all()

    def stored(self) -> dict[str, dict[str, Any]]:
        """Models and aliases as etcd has them."""
        found = self.etcd.below(f"/tas-runtime/{SERVICE}/")
        return {key.rpartition("/")[2]: json.loads(text) for key, text in found.items() if "/registry/" in key or "/vmodels/" in key}

    def agrees(self) -> None:
        """Returns when etcd's records name for each pod exactly what its runtime has."""
        for pod in self.mesh.pods:
            until(lambda pod=pod: held(pod) == recorded(self.stored(), pod), f"the records of {pod.id} are true")  # type: ignore[misc]

    def logs(self) -> str:
        return self.mesh.logs()


def known(pod: PodProcesses, model: str) -> bool:
    return pod.client.status(model).status != Status.NOT_FOUND


def loaded(pod: PodProcesses, model: str) -> bool:
    return pod.client.status(model).status == Status.LOADED


def registers(pod: PodProcesses, model: str) -> bool:
    try:
        pod.client.register(model)
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


def held(pod: PodProcesses) -> set[str]:
    return {copy["model"] for copy in pod.facts("copies")["copies"] if copy["state"] == "ready"}


def recorded(stored: dict[str, dict[str, Any]], pod: PodProcesses) -> set[str]:
    return {model for model, record in stored.items() if pod.id in record.get("instanceIds", {}) and pod.id in record.get("ready", {})}


def store_is(pod: PodProcesses) -> str:
    state: str = pod.facts()["registry"]["state"]
    return state


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("trouble")
    (folder / "etcd").mkdir()
    etcd = Etcd(environments.made("etcd"), folder / "etcd")
    etcd.start()
    with ExitStack() as stack:
        stack.callback(etcd.kill)
        holes = [Hole(etcd.port) for _ in range(3)]
        for hole in holes:
            stack.enter_context(hole)
        specials = [
            Special(
                environment={
                    "KV_STORE": f"etcd:127.0.0.1:{hole.port}",
                    "MESH_SNAPSHOT_PATH": str(folder / f"pod-{number}.snapshot"),
                    "MESH_SNAPSHOT_EVERY": "0.5",
                    "MESH_LEASE_TTL": str(LEASE),
                    # However much they are called, nothing is to be loaded that was not asked for.
                    "MM_SCALEUP_RPM_THRESHOLD": "1000000",
                    **chosen_places(3),
                }
            )
            for number, hole in enumerate(holes)
        ]
        mesh = stack.enter_context(a_cluster(folder, "", 3, service=SERVICE, each=specials))
        yield Trial(mesh, etcd, holes, specials)


# Etcd is away


@contextmanager
def refusing(trial: Trial) -> Iterator[None]:
    """Nothing listens where etcd was."""
    trial.etcd.stop()
    for hole in trial.holes:
        hole.refuse()
    try:
        yield
    finally:
        for hole in trial.holes:
            hole.listen()
        trial.etcd.start()


@contextmanager
def hanging(trial: Trial) -> Iterator[None]:
    """Etcd's process is stopped: connections stand, nothing is answered."""
    with trial.etcd.frozen():
        yield


@contextmanager
def swallowing(trial: Trial) -> Iterator[None]:
    """What is sent to etcd vanishes on its way; so would its answers."""
    for hole in trial.holes:
        hole.swallow()
    try:
        yield
    finally:
        for hole in trial.holes:
            hole.clear()


@pytest.mark.parametrize("trouble", [refusing, hanging, swallowing])
def test_etcd_is_away_for_twice_a_lease(trial: Trial, trouble: Callable[[Trial], Any]) -> None:
    name = trouble.__name__
    cold = f"cold-{name}"
    trial.register(cold)
    # Models that nobody may load but the pod that is asked: so it is certain that it does so itself.
    for number in range(3):
        trial.register(f"{cold}-{number}", kind=f"on-{number}")
    with trial.calls() as calls, trouble(trial):
        end = time.monotonic() + 2 * LEASE + 1
        with ThreadPoolExecutor(3) as asking:
            list(asking.map(lambda pod: changes_are_refused(pod, f"late-{name}"), trial.mesh.pods))
        for number, pod in enumerate(trial.mesh.pods):
            assert store_is(pod) == "away"
            assert pod.client.said(f"{cold}-{number}") == answer(f"{cold}-{number}"), "it is loaded all the same"
            assert pod.client.said(cold) == answer(cold)
            assert loaded(pod, f"{cold}-{number}")
            assert pod.client.alias("service").status == AliasStatus.DEFINED
            unknown_is_told(pod)
        while time.monotonic() < end:
            calls.reaches(FEW)
        before = trial.mesh.loads()
    trial.takes_changes(f"after-{name}")
    trial.agrees()
    assert trial.mesh.loads() == before, "nothing is loaded when etcd comes back"
    for number in range(3):
        assert trial.mesh.loads(f"{cold}-{number}") == 1
    for pod in trial.mesh.pods:
        assert store_is(pod) == "ready"
        assert registers(pod, f"late-{name}"), "what was refused is repeated"


def changes_are_refused(pod: PodProcesses, model: str) -> None:
    """Soon, with what there is to know, and as something that may be tried again."""
    client = pod.client
    told = ("etcd at 127.0.0.1:", "does not answer", "since 20", "the request can be repeated")
    asked: list[Callable[[], object]] = [
        lambda: client.register(model),
        lambda: client.unregister(WARM[0]),
        lambda: client.set_alias("service", WARM[1]),
    ]
    for ask in asked:
        with refused(grpc.StatusCode.UNAVAILABLE, *told):
            ask()


def unknown_is_told(pod: PodProcesses) -> None:
    with refused(grpc.StatusCode.UNAVAILABLE, "unheard-of is not known to this pod", "whether it exists cannot be asked", "etcd at"):
        pod.client.said("unheard-of")
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT32", "data": [1]}]}
    told = plain.post(f"{pod.router.rest}/v2/models/unheard-of/infer", json=body, timeout=30)
    assert told.status_code == 503
    assert "whether it exists cannot be asked: etcd at" in told.text


def test_a_pod_that_is_killed_while_etcd_is_away_comes_back_from_its_snapshot(trial: Trial) -> None:
    victim, others = trial.mesh[2], trial.mesh.pods[:2]
    here = [model for number, model in enumerate(WARM) if number % 3 == 2]
    trial.register("waiting", kind="on-2")
    until(lambda: snapshot_has(trial, 2, "waiting"), "the snapshot has it")
    with trial.etcd.frozen():
        victim.kill()
        victim.client.channel.close()
        back = trial.mesh.start(2, trial.specials[2])
        assert store_is(back) == "away, started from a snapshot"
        log = (back.folder / "router.log").read_text()
        assert "starting from the snapshot of the registry, because etcd does not answer" in log
        for model in [*WARM, "waiting"]:
            assert back.client.said(model) == answer(model)
        for pod in others:
            assert pod.client.said(WARM[0]) == answer(WARM[0])
        assert [back.runtime.loads(model) for model in here] == [2] * len(here), "once in each life"
        before = trial.mesh.loads()
    trial.takes_changes("after-snapshot")
    trial.agrees()
    assert trial.mesh.loads() == before
    assert store_is(back) == "ready"


def snapshot_has(trial: Trial, number: int, model: str) -> bool:
    try:
        return f'"{model}"'.encode() in gzip.decompress(Path(trial.specials[number].environment["MESH_SNAPSHOT_PATH"]).read_bytes())
    except FileNotFoundError:
        return False


def test_a_pod_that_alone_is_cut_off_serves_what_it_holds_and_keeps_it(trial: Trial) -> None:
    alone, others = trial.mesh[2], trial.mesh.pods[:2]
    here = sorted(held(alone))
    assert here
    mine = {model: alone.runtime.loads(model) for model in here}
    trial.holes[2].swallow()
    until(lambda: alone.id not in {pod["id"] for pod in others[0].facts("pods")["pods"]}, "its lease ends")
    with trial.calls(alone) as calls:
        end = time.monotonic() + LEASE
        while time.monotonic() < end:
            calls.reaches(FEW)
        for model in here:
            assert alone.client.said(model) == answer(model)
        trial.holes[2].clear()
        trial.mesh.await_all()
    trial.agrees()
    assert {model: alone.runtime.loads(model) for model in here} == mine, "nothing that it held was lost"
    assert alone.runtime.unloads() == 0


# Etcd is another one


def test_the_data_of_etcd_is_gone(trial: Trial) -> None:
    before = set(trial.stored())
    with trial.calls() as calls:
        trial.etcd.kill()
        shutil.rmtree(trial.etcd.folder / "data")
        trial.etcd.start()
        until(lambda: set(trial.stored()) == before, "everything is in etcd again")
        calls.reaches(FEW)
        trial.takes_changes("after-loss")
    trial.agrees()


def test_an_old_backup_of_etcd_is_put_back(trial: Trial) -> None:
    etcd, client = trial.etcd, trial.mesh[0].client
    trial.register("doomed")
    client.said("doomed")
    with trial.calls() as calls:
        etcd.stop()
        shutil.copytree(etcd.folder / "data", etcd.folder / "backup")
        etcd.start()
        trial.takes_changes("after-backup")
        client.unregister("doomed")
        client.set_alias("service", WARM[3])
        client.register("younger")
        until(lambda: all(points_at(pod, WARM[3]) and known(pod, "younger") and not known(pod, "doomed") for pod in trial.mesh.pods))
        truth = set(trial.stored())
        etcd.kill()
        shutil.rmtree(etcd.folder / "data")
        shutil.copytree(etcd.folder / "backup", etcd.folder / "data")
        etcd.start()
        until(lambda: set(trial.stored()) == truth, "what was lost is there, what was deleted is not")
        assert trial.stored()["service"]["amid"] == WARM[3]
        calls.reaches(FEW)
        trial.takes_changes("after-restoring")
    trial.agrees()
    for pod in trial.mesh.pods:
        assert points_at(pod, WARM[3])
        with refused(grpc.StatusCode.NOT_FOUND):
            pod.client.said("doomed")


def points_at(pod: PodProcesses, model: str) -> bool:
    active: str = pod.client.alias("service").activeModelId
    return active == model
