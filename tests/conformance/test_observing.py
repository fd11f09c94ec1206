"""What a dashboard and a log reader find: ModelMesh's metrics by name and label, and request headers in the log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from grpc import RpcError

from tests.support.client import Client, Status
from tests.support.mesh import INSTANCE_ID, Mesh, RuntimeProcess, a_mesh
from tests.support.runtime_state import MIB
from tests.support.waiting import until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
HEADERS = {"x-one": "one", "x-two-bin": "two", "x-absent": "absent"}


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    environment = {
        "MM_METRICS": "prometheus:port=0;scheme=http;per_model_metrics=true",
        "MM_INFO_METRICS": "assistant_deployment_info:relabel;deployment=DEPLOYMENT,slot=SLOT",
        "DEPLOYMENT": "dev",
        "SLOT": "blue",
        "MM_LOG_EACH_INVOKE": "true",
        "MM_LOG_PROMETHEUS_REQS": "true",
        "MM_LOG_REQUEST_HEADERS": json.dumps(HEADERS),
    }
    with a_mesh(tmp_path_factory.mktemp("observing"), environment=environment) as mesh:
        yield mesh


def parsed(text: str) -> Samples:
    found: Samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            match = LINE.fullmatch(line)
            assert match, line
            labels = frozenset(LABEL.findall(match[2] or ""))
            found[match[1], labels] = float(match[3])
    return found


def value(mesh: Mesh, name: str, **labels: str) -> float | None:
    return parsed(mesh.router.scrape()).get((name, frozenset(labels.items())))


def labels_of(samples: Samples, name: str) -> set[frozenset[str]]:
    """The sets of label names that samples of this name have."""
    return {frozenset(label for label, _ in labels) for sample, labels in samples if sample == name}


def test_calls_and_loads_are_counted_by_model(mesh: Mesh, model: str) -> None:
    client = mesh.client
    client.loaded(model, f"SIZE_{2 * MIB}_60_0")
    client.set_alias(f"{model}-alias", model)
    for _ in range(3):
        client.predict(model)
    client.predict("", "x" * 2_000_000, metadata=(("mm-vmodel-id", f"{model}-alias"),))
    with pytest.raises(RpcError):
        client.predict(model, "test:error:code=ABORTED:message=no")

    own = {"method": "predict", "modelId": model, "vModelId": ""}
    until(lambda: value(mesh, "modelmesh_api_request_milliseconds_count", code="ABORTED", **own) == 1)
    for name in ("modelmesh_api_request_milliseconds", "modelmesh_invoke_model_milliseconds", "modelmesh_request_size_bytes"):
        assert value(mesh, f"{name}_count", code="OK", **own) == 3
        assert value(mesh, f"{name}_count", code="OK", **{**own, "vModelId": f"{model}-alias"}) == 1
        assert value(mesh, f"{name}_count", code="ABORTED", **own) == 1
    assert value(mesh, "modelmesh_response_size_bytes_count", code="OK", **own) == 3
    assert value(mesh, "modelmesh_request_size_bytes_bucket", code="OK", le="128.0", **own) in (3, None)
    by_model = {"modelId": model, "vModelId": ""}
    assert value(mesh, "modelmesh_loadmodel_milliseconds_count", **by_model) == 1
    assert value(mesh, "modelmesh_loadmodel_milliseconds_bucket", le="50.0", **by_model) == 0, "the load took 60 ms"
    assert value(mesh, "modelmesh_loaded_model_size_bytes_sum", **by_model) == 2 * MIB
    assert value(mesh, "modelmesh_model_sizing_milliseconds_count", **by_model) == 1
    assert value(mesh, "modelmesh_loading_queue_delay_milliseconds_count", **by_model) == 1


def test_names_and_labels_are_modelmesh_s(mesh: Mesh, model: str) -> None:
    client = mesh.client
    client.register(model)
    client.predict(model)
    client.unregister(model)
    client.register(f"{model}-broken", "FAILALWAYS_broken", load=True, sync=True)
    until(lambda: value(mesh, "modelmesh_unloadmodel_milliseconds_count", modelId=model, vModelId="") == 1)
    samples = parsed(mesh.router.scrape())
    of_calls = frozenset({"method", "code", "modelId", "vModelId"})
    for name in ("api_request_milliseconds", "invoke_model_milliseconds", "request_size_bytes", "response_size_bytes"):
        assert labels_of(samples, f"modelmesh_{name}_count") == {of_calls}
        assert labels_of(samples, f"modelmesh_{name}_bucket") == {of_calls | {"le"}}
    for name in ("cache_miss", "loadmodel", "unloadmodel", "loading_queue_delay", "model_sizing"):
        assert labels_of(samples, f"modelmesh_{name}_milliseconds_sum") == {frozenset({"modelId", "vModelId"})}
    for name in ("modelmesh_loadmodel_failure", "modelmesh_unloadmodel_failure", "modelmesh_unloadmodel_attempt_failure"):
        assert labels_of(samples, name) == labels_of(samples, f"{name}_total") == {frozenset()}
        assert samples[name, frozenset()] == samples[f"{name}_total", frozenset()]
    for name in ("models_loaded_total", "models_with_failure_total", "models_managed_total", "instance_lru_seconds",
                 "instance_lru_age_seconds", "instance_capacity_bytes", "instance_used_bytes", "instance_used_bps",
                 "instance_models_total"):  # fmt: skip
        assert labels_of(samples, f"modelmesh_{name}") == {frozenset()}, name
    assert samples["modelmesh_loadmodel_failure", frozenset()] >= 1
    assert samples["modelmesh_models_with_failure_total", frozenset()] >= 1
    assert samples["modelmesh_instance_capacity_bytes", frozenset()] == (131_072 - 9_600) * 8192


def test_the_pod_s_gauges_follow_its_models(mesh: Mesh, model: str) -> None:
    count = value(mesh, "modelmesh_instance_models_total")
    assert count is not None
    mesh.client.loaded(model)
    until(lambda: value(mesh, "modelmesh_instance_models_total") == count + 1)
    mesh.client.unregister(model)
    until(lambda: value(mesh, "modelmesh_instance_models_total") == count)


def test_an_info_metric_has_its_labels(mesh: Mesh) -> None:
    assert value(mesh, "assistant_deployment_info:relabel", deployment="dev", slot="blue") == 1


def test_calls_that_the_mesh_itself_refuses_are_counted_by_class(mesh: Mesh, model: str) -> None:
    before = value(mesh, "mesh_refusals_total", **{"class": "unknown"}) or 0
    with pytest.raises(RpcError):
        mesh.client.predict(f"{model}-nobody-registered")
    until(lambda: value(mesh, "mesh_refusals_total", **{"class": "unknown"}) == before + 1)


def test_scrapes_are_in_the_log_and_may_ask_for_names(mesh: Mesh) -> None:
    text = mesh.router.scrape("/?name[]=modelmesh_instance_models_total&name[]=modelmesh_loadmodel_milliseconds_count")
    assert {name for name, _ in parsed(text)} == {"modelmesh_instance_models_total", "modelmesh_loadmodel_milliseconds_count"}
    until(lambda: '"names": ["modelmesh_instance_models_total"' in mesh.router.process.output(), "the line about the scrape")


def test_a_refused_unload_is_counted(mesh: Mesh, runtime: RuntimeProcess, model: str) -> None:
    before = value(mesh, "modelmesh_unloadmodel_attempt_failure") or 0
    mesh.client.loaded(model)
    with runtime.behaving(fail_unloads=1):
        mesh.client.unregister(model)
        until(lambda: value(mesh, "modelmesh_unloadmodel_attempt_failure") == before + 1)
        runtime.awaited("unloadModel", model, at="end", times=2)


def test_configured_headers_are_in_the_log_of_their_request(mesh: Mesh, client: Client, model: str) -> None:
    client.register(model)
    client.predict(model, metadata=(("x-one", "first"), ("x-two-bin", "zwölf".encode()), ("x-other", "secret")))

    def line() -> dict[str, str] | None:
        lines = [json.loads(text) for text in mesh.router.process.output().splitlines() if text.startswith("{")]
        told = [item for item in lines if "invoking model runtime gRPC method" in item.get("message", "")]
        return next((item for item in told if item.get("one") == "first"), None)

    found = until(line, "the line about the invocation")
    assert found is not None
    assert (found["one"], found["two"]) == ("first", "zwölf")
    assert "absent" not in found
    assert "secret" not in json.dumps(found)


def test_a_pod_tells_its_state_for_a_model_that_is_none(mesh: Mesh, client: Client, model: str) -> None:
    client.loaded(model, f"SIZE_{2 * MIB}_0_0")
    sized = f"CACHESTATE: {model} state=ready size={2 * MIB} "
    until(lambda: any(line.startswith(sized) for line in client.status("***GETSTATE***").errors), "the model with its size")
    status = client.status("***GETSTATE***")
    assert status.status == Status.UNKNOWN
    own = [line for line in status.errors if line.startswith("CACHESTATE: ")]
    others = [line for line in status.errors if line.startswith("CLUSTSTATE: ")]
    assert len(own) + len(others) == len(status.errors)
    assert own[0].startswith(f"CACHESTATE: instance {INSTANCE_ID} at 127.0.0.1:{mesh.router.ports['peer']}, ")
    assert f" leader={INSTANCE_ID}" in others[0]
    assert others[-1].startswith(f"CLUSTSTATE: {INSTANCE_ID} ")


def test_a_pod_logs_its_state_and_goes_on(mesh: Mesh, client: Client, model: str) -> None:
    client.loaded(model)
    assert client.status("***LOGCACHE***").status == Status.NOT_FOUND
    until(lambda: f"CACHESTATE: {model} state=" in mesh.router.process.output(), "the state in the log")
