"""What any KServe or gRPC client asks of a server: health, reflection, and the mesh as one v2 server."""

from __future__ import annotations

import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from mesh.protocols import inference_pb2 as v2
from tests.support.client import Client, Status, answer, refused
from tests.support.mesh import RuntimeProcess

V2 = "inference.GRPCInferenceService"


def test_the_health_service_says_serving(client: Client) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=20).status == health_pb2.HealthCheckResponse.SERVING
    for service in (V2, "mmesh.ModelMesh"):
        assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status == health_pb2.HealthCheckResponse.SERVING
    with refused(StatusCode.NOT_FOUND):
        health.Check(health_pb2.HealthCheckRequest(service="no.such"), timeout=20)


def test_health_can_be_watched(client: Client) -> None:
    watch = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_reflection_lists_and_describes_the_services(client: Client) -> None:
    database = ProtoReflectionDescriptorDatabase(client.channel)
    services = set(database.get_services())
    assert {"mmesh.ModelMesh", V2, "grpc.health.v1.Health"} <= services
    described = database.FindFileContainingSymbol("mmesh.ModelMesh")
    assert "registerModel" in {method.name for service in described.service for method in service.method}


def test_the_server_is_live_and_ready_and_has_a_name(client: Client) -> None:
    assert client.v2.ServerLive(v2.ServerLiveRequest(), timeout=20).live
    assert client.v2.ServerReady(v2.ServerReadyRequest(), timeout=20).ready
    metadata = client.v2.ServerMetadata(v2.ServerMetadataRequest(), timeout=20)
    assert metadata.name
    assert metadata.version


def ready(client: Client, name: str) -> bool:
    return client.v2.ModelReady(v2.ModelReadyRequest(name=name), timeout=20).ready


def test_a_model_is_ready_if_a_call_would_be_served(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    client.set_alias(f"{model}-alias", model)
    assert ready(client, model)
    assert ready(client, f"{model}-alias")
    assert runtime.loads(model) == 0, "asking does not load"
    client.ensure(model, sync=True)
    assert ready(client, model)


def test_a_model_that_does_not_load_is_not_ready(client: Client, model: str) -> None:
    client.register(model, "FAILALWAYS_broken", load=True, sync=True)
    client.set_alias(f"{model}-alias", model)
    assert not ready(client, model)
    assert not ready(client, f"{model}-alias")


def test_an_unknown_model_is_not_found(client: Client, model: str) -> None:
    with refused(StatusCode.NOT_FOUND, model):
        ready(client, model)
    with refused(StatusCode.NOT_FOUND):
        client.v2.ModelMetadata(v2.ModelMetadataRequest(name=model), timeout=20)


def test_the_metadata_of_a_model_come_from_the_runtime(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    got = client.v2.ModelMetadata(v2.ModelMetadataRequest(name=model), timeout=20)
    assert (got.name, got.platform, [item.name for item in got.inputs]) == (model, "example", ["any"])
    assert runtime.loads(model) == 1


def index(client: Client, ready: bool = False) -> dict[str, str]:
    return {item.name: item.state for item in client.v2.RepositoryIndex(v2.RepositoryIndexRequest(ready=ready), timeout=20).models}


def test_the_index_lists_aliases_and_models_without_one(client: Client, runtime: RuntimeProcess, model: str) -> None:
    cold = f"{model}-cold"
    client.register(cold)
    client.loaded(f"{model}-warm")
    client.loaded(f"{model}-behind")
    client.set_alias(f"{model}-alias", f"{model}-behind")
    found = index(client)
    assert found[f"{model}-warm"] == found[f"{model}-alias"] == "READY"
    assert cold in found
    assert f"{model}-behind" not in found
    assert {f"{model}-warm", f"{model}-alias"} <= index(client, ready=True).keys()
    assert runtime.loads(cold) == 0


def test_the_index_comes_in_pages(client: Client, model: str) -> None:
    for number in range(5):
        client.register(f"{model}-{number}")
    found: list[str] = []
    after = f"{model}-"
    while after.startswith(model):
        metadata = (("mesh-index-limit", "2"), ("mesh-index-after", after))
        page, call = client.v2.RepositoryIndex.with_call(v2.RepositoryIndexRequest(), metadata=metadata, timeout=20)
        found.extend(item.name for item in page.models)
        after = str(dict(call.trailing_metadata()).get("mesh-index-after", ""))
        assert len(page.models) == 2 or not after
    assert [name for name in found if name.startswith(f"{model}-")] == [f"{model}-{number}" for number in range(5)]


def test_the_index_tells_why_a_model_is_not_there(client: Client, model: str) -> None:
    client.register(model, "FAILALWAYS_the disk is broken", load=True, sync=True)
    (entry,) = [item for item in client.v2.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=20).models if item.name == model]
    assert entry.state == "UNAVAILABLE"
    assert "the disk is broken" in entry.reason
    assert model not in index(client, ready=True)


def test_loading_from_the_repository_is_ensuring(client: Client, runtime: RuntimeProcess, model: str) -> None:
    client.register(model)
    for _ in range(2):
        client.v2.RepositoryModelLoad(v2.RepositoryModelLoadRequest(model_name=model), timeout=20)
    assert client.status(model).status == Status.LOADED
    assert runtime.loads(model) == 1
    with refused(StatusCode.NOT_FOUND):
        client.v2.RepositoryModelLoad(v2.RepositoryModelLoadRequest(model_name=f"{model}-no"), timeout=20)
    client.register(f"{model}-broken", "FAILALWAYS_broken")
    with refused(StatusCode.INTERNAL, "broken"):
        client.v2.RepositoryModelLoad(v2.RepositoryModelLoadRequest(model_name=f"{model}-broken"), timeout=20)


UNSUPPORTED = [
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "CudaSharedMemoryRegister",
    "TraceSetting",
    "LogSettings",
]


@pytest.mark.parametrize("method", UNSUPPORTED)
def test_what_makes_no_sense_in_a_mesh_says_what_to_use(client: Client, model: str, method: str) -> None:
    with refused(StatusCode.UNIMPLEMENTED) as refusal:
        client.raw(f"{V2}/{method}", v2.RepositoryModelUnloadRequest(model_name=model).SerializeToString())
    assert len(refusal.details) > 20, "a hint what to use instead"
    if method == "RepositoryModelUnload":
        assert "unregisterModel" in refusal.details or "delete" in refusal.details


def test_a_call_by_v2_is_answered(client: Client, model: str) -> None:
    client.register(model)
    request = v2.ModelInferRequest(model_name=model, id="a", raw_input_contents=[b"\x00\x01"])
    request.inputs.add(name="x", datatype="UINT8", shape=[2])
    got = client.v2.ModelInfer(request, timeout=20)
    assert (got.model_name, got.id, list(got.raw_output_contents)) == (model, "a", [b"\x00\x01"])
    assert client.said(model) == answer(model)
