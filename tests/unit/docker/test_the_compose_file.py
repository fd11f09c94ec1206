"""The compose file fits the settings, the images, the example pod, and itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.settings import Settings, describe
from mesh.store.etcd.configuration import parse
from runtime_adapters.settings import Settings as AdapterSettings
from tests.unit.docker.files import FOLDER, compose, environment

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
PODS = ("0", "1", "2")


def of_pod(kind: str) -> list[dict[str, Any]]:
    return [SERVICES[f"{kind}-{number}"] for number in PODS]


def test_a_mesh_of_three_pods_with_etcd_and_s3() -> None:
    pods = {f"{kind}-{number}" for kind in ("mesh", "adapter", "mlserver") for number in PODS}
    assert set(SERVICES) == pods | {"etcd", "s3", "models"}


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # Ours are made to run as an ordinary user; others are told to.
    assert service["image"].startswith("modelmesh:") or service["user"] == "2000:2000"


@pytest.mark.parametrize("name", [name for name in SERVICES if not name.startswith(("mesh-", "models"))])
def test_each_server_is_asked_how_it_is(name: str) -> None:
    """The routers' check is their image's own; the copying of models ends."""
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_a_routers_settings_make_sense(monkeypatch: pytest.MonkeyPatch) -> None:
    known = [name for setting in describe() for name in setting["names"]]
    for name in known:
        monkeypatch.delenv(name, raising=False)
    names, ports = set(), []
    for number, router in zip(PODS, of_pod("mesh"), strict=True):
        assert set(router["environment"]) <= set(known)
        settings = Settings.load(**router["environment"])
        (adapter,) = {adapter["environment"]["ADAPTER_PORT"] for adapter in of_pod("adapter")}
        assert (settings.runtime_port, settings.pod_address) == (int(adapter), f"mesh-{number}")
        assert [str(one) for one in parse(settings.kv_store).endpoints] == ["etcd:2379"]
        assert settings.shutdown_timeout < 1000 * int(router["stop_grace_period"].removesuffix("s"))
        names.add(settings.pod_name[-12:])
        ports += [port.rpartition(":")[0] for port in router["ports"]]
    assert len(names) == 3, "the last twelve characters are the instance id"
    assert len(set(ports)) == len(ports)


def test_the_parts_of_a_pod_share_its_network_and_its_models() -> None:
    for number in PODS:
        adapter, server = SERVICES[f"adapter-{number}"], SERVICES[f"mlserver-{number}"]
        assert adapter["network_mode"] == server["network_mode"] == f"service:mesh-{number}"
        assert adapter["volumes"] == [f"models-{number}:/models"]
        assert server["volumes"] == [f"models-{number}:/models:ro"]
        assert server["depends_on"] == [f"adapter-{number}"]


def test_the_containers_are_those_of_the_example_pod() -> None:
    for adapter in of_pod("adapter"):
        known = {field.validation_alias for field in AdapterSettings.model_fields.values()}
        assert set(adapter["environment"]) <= known
        settings = AdapterSettings.load(adapter["environment"])
        assert str(settings.runtime_port) == SERVICES["mlserver-0"]["environment"]["MLSERVER_GRPC_PORT"]
    fixed = {name: value for name, value in environment("mlserver").items() if isinstance(value, str)}
    for server in of_pod("mlserver"):
        assert fixed.items() <= server["environment"].items()


def test_the_storage_key_opens_the_s3_server() -> None:
    configs = compose()["configs"]
    key, server = json.loads(configs["localMinIO"]["content"]), json.loads(configs["s3"]["content"])
    (identity,) = server["identities"]
    (credentials,) = identity["credentials"]
    assert (key["access_key_id"], key["secret_access_key"]) == (credentials["accessKey"], credentials["secretKey"])
    assert SERVICES["models"]["entrypoint"][-1].endswith(f"/buckets/{key['default_bucket']}/sklearn/")
    assert {config["target"] for adapter in of_pod("adapter") for config in adapter["configs"]} == {"/storage-config/localMinIO"}


def test_what_is_mounted_is_there() -> None:
    (mounted,) = SERVICES["models"]["volumes"]
    assert (FOLDER / mounted.partition(":")[0] / "mnist-svm.joblib").is_file()
