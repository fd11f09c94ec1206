"""Clients older than ModelMesh's own names still find what they call."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc import StatusCode

from mesh.protocols import model_mesh_pb2 as mm
from tests.support.client import Client, Status, answer, example, refused
from tests.support.mesh import a_mesh
from tests.support.runtime_state import Behaviour

TAS = "com.ibm.watson.tas.proto.TasRuntime"
MM = "mmesh.ModelMesh"


def add(client: Client, service: str, model: str) -> Status:
    request = mm.RegisterModelRequest(modelId=model, modelInfo=mm.ModelInfo(type="example"), loadNow=True, sync=True)
    return Status.FromString(client.raw(f"{service}/addModel", request.SerializeToString()))


@pytest.mark.parametrize("service", [TAS, MM])
def test_the_old_names_of_methods_add_and_delete_models(client: Client, model: str, service: str) -> None:
    assert add(client, service, model).status == Status.LOADED
    assert client.said(model) == answer(model)
    client.raw(f"{service}/deleteModel", mm.UnregisterModelRequest(modelId=model).SerializeToString())
    assert client.status(model).status == Status.NOT_FOUND


def test_the_old_service_has_the_other_methods_too(client: Client, model: str) -> None:
    add(client, TAS, model)
    request = mm.GetStatusRequest(modelId=model).SerializeToString()
    assert Status.FromString(client.raw(f"{TAS}/getModelStatus", request)).status == Status.LOADED
    request = mm.EnsureLoadedRequest(modelId=model, sync=True).SerializeToString()
    assert Status.FromString(client.raw(f"{TAS}/ensureLoaded", request)).status == Status.LOADED


def test_the_old_service_refuses_in_the_same_words(client: Client) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, exactly="must provide non-empty modelId"):
        client.raw(f"{TAS}/getModelStatus", b"")


def test_a_runtime_of_the_old_service_is_served(tmp_path: Path, model: str) -> None:
    with a_mesh(tmp_path, Behaviour(old_service=True)) as mesh:
        mesh.client.register(model)
        assert mesh.client.said(model) == answer(model)
        mesh.client.unregister(model)
        mesh.runtime.awaited("unloadModel", model, at="end")


def test_the_old_header_names_a_model(client: Client, model: str) -> None:
    client.register(model)
    request = example.PredictRequest(text="old")
    got = client.predictor.predict(request, metadata=(("tas-model-id", model),), timeout=20)
    assert got.results[0].category == answer(model, "old")


def test_the_old_header_counts_only_without_a_new_one(client: Client, model: str) -> None:
    client.register(model)
    assert client.said(model, metadata=(("tas-model-id", "another"),)) == answer(model)
    client.set_alias(f"{model}-alias", model)
    metadata = (("mm-vmodel-id", f"{model}-alias"), ("tas-model-id", "another"))
    assert client.said("", metadata=metadata) == answer(model)
