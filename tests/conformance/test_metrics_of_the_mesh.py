"""What pods tell of the mesh as a whole, of its decisions, and of times without a store; over https as ModelMesh serves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conformance.conftest import on
from tests.integration.etcd.server import Etcd
from tests.support import environments
from tests.support.client import answer
from tests.support.cluster import Cluster, PodProcesses
from tests.support.mesh import Mesh, a_mesh
from tests.support.runtime_state import MIB, Behaviour
from tests.support.waiting import until

MANAGED, LOADED = "modelmesh_models_managed_total", "modelmesh_models_loaded_total"


def scraped(text: str) -> dict[str, float]:
    """Samples without labels by name, others by name and the values of their labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {"/".join((sample.name, *sample.labels.values())): sample.value for sample in samples}


def value(pod: PodProcesses, name: str) -> float | None:
    return scraped(pod.router.scrape(f"/metrics?name[]={name}")).get(name)


def test_figures_of_the_whole_mesh_come_from_the_pod_that_leads_alone(three: Cluster, model: str) -> None:
    (leader,) = (pod for pod in three.pods for one in pod.facts("pods")["pods"] if one["leads"] and one["id"] == pod.id)
    three[0].client.register(f"{model}-cold")
    three[0].client.loaded(model)
    until(lambda: value(leader, MANAGED) == leader.facts("models")["total"], "all models")
    until(lambda: 1 <= (value(leader, LOADED) or 0) < (value(leader, MANAGED) or 0), "those that are loaded")
    others = [pod for pod in three.pods if pod is not leader]
    assert [value(pod, name) for pod in others for name in (MANAGED, LOADED)] == [None] * 4


def test_what_a_pod_decides_is_counted(three: Cluster, model: str) -> None:
    def placements() -> float:
        return sum(scraped(pod.router.scrape()).get("mesh_decisions_total/placement", 0) for pod in three.pods)

    before = placements()
    three[0].client.loaded(model)
    until(lambda: placements() > before, "a placement is counted")


@pytest.fixture(scope="module")
def own_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """To be stopped."""
    server = Etcd(environments.made("etcd"), tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, own_etcd: Etcd, service: Callable[[], str]) -> Iterator[Mesh]:
    """A small pod whose metrics are told over https."""
    environment = {**on(own_etcd, service()), "MM_METRICS": "prometheus:port=0"}
    small = Behaviour(capacity=200 * MIB, default_size=10 * MIB)
    with a_mesh(tmp_path_factory.mktemp("https"), small, environment) as mesh:
        yield mesh


def told(mesh: Mesh, name: str) -> float | None:
    """Over https, whose certificate nobody has signed."""
    answered = httpx.get(f"https://127.0.0.1:{mesh.router.ports['metrics']}/metrics", verify=False, timeout=10)
    return scraped(answered.raise_for_status().text).get(name)


def test_evictions_are_counted_by_reason(mesh: Mesh, model: str) -> None:
    def evictions() -> float:
        return (told(mesh, "mesh_evictions_total/room") or 0) + (told(mesh, "mesh_evictions_total/growth") or 0)

    for number in range(3):
        mesh.client.loaded(f"{model}-{number}", f"SIZE_{80 * MIB}_0_0")
    # The third serves before its size is known, and makes another one go then.
    until(lambda: evictions() >= 1, "the first eviction")
    for number in range(3):
        assert mesh.client.said(f"{model}-{number}") == answer(f"{model}-{number}")
    until(lambda: evictions() >= 2, "evictions")
    counted = told(mesh, "modelmesh_age_at_eviction_milliseconds_count")
    assert counted == sum(told(mesh, f"mesh_evictions_total/{reason}") or 0 for reason in ("room", "growth"))
    assert told(mesh, "mesh_decisions_total/eviction") == counted


def test_the_time_without_a_store_and_what_it_does_not_know_of_are_told(mesh: Mesh, own_etcd: Etcd, model: str, tmp_path: Path) -> None:
    mesh.client.register(model)
    until(lambda: told(mesh, "mesh_unregistered_copies") == 0, "the registry shows all copies")
    before = told(mesh, "mesh_store_outage_seconds_total")
    assert before is not None
    own_etcd.stop()
    assert mesh.client.said(model, timeout=60) == answer(model)
    until(lambda: told(mesh, "mesh_unregistered_copies") == 1, "the copy that only its pod knows of")
    until(lambda: (told(mesh, "mesh_store_outage_seconds_total") or 0) > before + 1, "more than a second")
    own_etcd.start()
    until(lambda: told(mesh, "mesh_unregistered_copies") == 0, "the registry shows the copy")
    over = told(mesh, "mesh_store_outage_seconds_total")
    assert mesh.client.loaded(f"{model}-after")
    assert told(mesh, "mesh_store_outage_seconds_total") == over
