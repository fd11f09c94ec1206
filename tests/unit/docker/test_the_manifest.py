"""The example pod fits the settings, the images, and itself."""

from __future__ import annotations

import pytest

from mesh.manifests.documents import ClusterServingRuntime, ServingRuntime
from mesh.manifests.quantities import parse_quantity
from mesh.manifests.runtimes import built_in, in_force, pod_plan
from mesh.settings import Settings, describe
from runtime_adapters.settings import Settings as AdapterSettings
from tests.unit.docker.files import MESH, containers, documents, environment, steps

POD = documents()[0]["spec"]["template"]["spec"]


def text(container: str) -> dict[str, str]:
    """The values that stand in the manifest itself."""
    return {name: value for name, value in environment(container).items() if isinstance(value, str)}


def test_it_has_a_deployment_a_service_and_the_claim_of_the_walkthrough() -> None:
    assert [document["kind"] for document in documents()] == ["Deployment", "Service", "PersistentVolumeClaim"]


def test_values_of_variables_are_strings() -> None:
    for name in containers():
        assert all(isinstance(value, (str, dict)) for value in environment(name).values())


def test_the_router_understands_what_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [name for setting in describe() for name in setting["names"]]
    assert set(environment("mm")) <= set(known)
    for name in known:
        monkeypatch.delenv(name, raising=False)
    settings = Settings.load(**text("mm"))
    adapter = AdapterSettings.load({**text("mlserver-adapter"), "CONTAINER_MEM_REQ_BYTES": "1073741824"})
    assert settings.runtime_port == adapter.port
    assert settings.serving_port == adapter.runtime_port == int(text("mlserver")["MLSERVER_GRPC_PORT"])
    sleeps = int(containers()["mm"]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert settings.shutdown_timeout + 1000 * sleeps < 1000 * POD["terminationGracePeriodSeconds"]


def test_the_adapter_understands_what_it_is_told() -> None:
    known = {field.validation_alias for field in AdapterSettings.model_fields.values()}
    assert set(environment("mlserver-adapter")) <= known
    memory = environment("mlserver-adapter")["CONTAINER_MEM_REQ_BYTES"]["resourceFieldRef"]
    assert memory["containerName"] in containers()
    assert containers()[memory["containerName"]]["resources"]["requests"]["memory"]


def test_the_pod_is_the_one_of_the_built_in_runtime() -> None:
    runtime = in_force(applied.document for applied in built_in() if isinstance(applied.document, ServingRuntime | ClusterServingRuntime))[
        "mlserver-1.x"
    ]
    plan, adapter = pod_plan(runtime), AdapterSettings.load({**text("mlserver-adapter"), "CONTAINER_MEM_REQ_BYTES": "1073741824"})
    assert plan.server_env.items() <= text("mlserver").items()
    assert containers()["mlserver"]["image"] == runtime.spec.containers[0].image
    memory = containers()["mlserver"]["resources"]["requests"]["memory"]
    assert parse_quantity(memory, "pod.yaml") == plan.memory_request
    assert (adapter.memory_buffer, adapter.load_timeout, adapter.runtime_version) == (plan.memory_buffer, plan.load_timeout, plan.version)


def test_probes_and_hooks_ask_the_ports_that_answer() -> None:
    settings, mm = Settings(), containers()["mm"]
    assert [mm[probe]["httpGet"] for probe in ("readinessProbe", "livenessProbe")] == [
        {"path": "/ready", "port": settings.probe_port},
        {"path": "/live", "port": settings.probe_port},
    ]
    for name in ("mlserver-adapter", "mlserver"):
        assert containers()[name]["lifecycle"]["preStop"]["httpGet"] == {"path": "/prestop", "port": settings.prestop_port}
    assert list(containers())[-1] == "mm"


def test_the_service_finds_the_pod_and_its_ports() -> None:
    deployment, service = documents()[0]["spec"], documents()[1]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    named = {port["name"]: port["containerPort"] for port in containers()["mm"]["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["ports"]} == named


def test_the_image_exposes_the_ports() -> None:
    exposed = {int(port) for name, ports in steps(MESH) if name == "EXPOSE" for port in ports.split()}
    settings = Settings()
    doors = {settings.grpc_port, settings.rest_port, settings.peer_port, settings.probe_port, settings.prestop_port, 2112}
    assert exposed == doors
    assert {port["containerPort"] for port in containers()["mm"]["ports"]} <= exposed


def test_every_mount_has_its_volume() -> None:
    mounted = {mount["name"] for container in containers().values() for mount in container.get("volumeMounts", [])}
    assert mounted == {volume["name"] for volume in POD["volumes"]}
    places = {mount["mountPath"] for mount in containers()["mlserver-adapter"]["volumeMounts"]}
    adapter = AdapterSettings.load({"CONTAINER_MEM_REQ_BYTES": "1"})
    assert {str(adapter.root), str(adapter.storage_config), str(adapter.pvc_mounts / "my-models-pvc")} == places
    shared = {mount["mountPath"] for mount in containers()["mlserver"]["volumeMounts"]}
    assert shared == places - {str(adapter.storage_config)}, "models of claims are links, which the server follows"
