"""The wire contracts are those that ModelMesh's and KServe's users have: names and numbers, written down once more by hand."""

from __future__ import annotations

import re

import pytest
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto

from mesh.protocols import inference_pb2, model_mesh_pb2, model_runtime_pb2

MANAGEMENT = """
RegisterModelRequest: 1 modelId, 2 modelInfo, 3 loadNow, 4 sync, 5 lastUsedTime
ModelInfo: 1 type, 2 path, 3 key
ModelStatusInfo: 1 status, 2 errors, 3 modelCopyInfos
ModelStatusInfo.ModelCopyInfo: 1 location, 2 copyStatus, 3 time
UnregisterModelRequest: 1 modelId
UnregisterModelResponse:
GetStatusRequest: 1 modelId
EnsureLoadedRequest: 1 modelId, 2 lastUsedTime, 4 sync
VModelStatusInfo: 1 status, 2 activeModelId, 3 targetModelId, 4 activeModelStatus, 5 targetModelStatus, 6 owner
DeleteVModelRequest: 1 vModelId, 2 owner
DeleteVModelResponse:
SetVModelRequest: 1 vModelId, 2 targetModelId, 3 updateOnly, 4 modelInfo, 5 autoDeleteTargetModel, 6 loadNow, 7 force, 8 sync,
                  9 expectedTargetModelId, 10 owner
GetVModelStatusRequest: 1 vModelId, 2 owner
"""
RUNTIME = """
LoadModelRequest: 1 modelId, 2 modelType, 3 modelPath, 4 modelKey
LoadModelResponse: 1 sizeInBytes, 2 maxConcurrency
UnloadModelRequest: 1 modelId
UnloadModelResponse:
PredictModelSizeRequest: 1 modelId, 2 modelType, 3 modelPath, 4 modelKey
PredictModelSizeResponse: 1 sizeInBytes
ModelSizeRequest: 1 modelId
ModelSizeResponse: 1 sizeInBytes
RuntimeStatusRequest:
RuntimeStatusResponse: 1 status, 2 capacityInBytes, 3 maxLoadingConcurrency, 4 modelLoadingTimeoutMs, 5 defaultModelSizeInBytes,
                       6 runtimeVersion, 7 numericRuntimeVersion, 8 methodInfos, 9 limitModelConcurrency, 10 allowAnyMethod
RuntimeStatusResponse.MethodInfo: 1 idInjectionPath
"""
INFERENCE = """
ModelInferRequest: 1 model_name, 2 model_version, 3 id, 4 parameters, 5 inputs, 6 outputs, 7 raw_input_contents
ModelInferRequest.InferInputTensor: 1 name, 2 datatype, 3 shape, 4 parameters, 5 contents
ModelInferRequest.InferRequestedOutputTensor: 1 name, 2 parameters
ModelInferResponse: 1 model_name, 2 model_version, 3 id, 4 parameters, 5 outputs, 6 raw_output_contents
ModelInferResponse.InferOutputTensor: 1 name, 2 datatype, 3 shape, 4 parameters, 5 contents
InferTensorContents: 1 bool_contents, 2 int_contents, 3 int64_contents, 4 uint_contents, 5 uint64_contents, 6 fp32_contents,
                     7 fp64_contents, 8 bytes_contents
ModelReadyRequest: 1 name, 2 version
ModelMetadataRequest: 1 name, 2 version
ServerMetadataResponse: 1 name, 2 version, 3 extensions
"""
METHODS = {
    "mmesh.ModelMesh": "registerModel unregisterModel getModelStatus ensureLoaded setVModel deleteVModel getVModelStatus",
    "mmesh.ModelRuntime": "loadModel unloadModel predictModelSize modelSize runtimeStatus",
    "inference.GRPCInferenceService": (
        "ServerLive ServerReady ModelReady ServerMetadata ModelMetadata ModelInfer ModelStreamInfer"
        " RepositoryIndex RepositoryModelLoad RepositoryModelUnload"
    ),
}
STATES = {
    "ModelStatusInfo.ModelStatus": "NOT_FOUND=0 NOT_LOADED=1 LOADING=2 LOADED=3 LOADING_FAILED=4 UNKNOWN=5",
    "VModelStatusInfo.VModelStatus": "NOT_FOUND=0 DEFINED=1 TRANSITIONING=2 TRANSITION_FAILED=3 UNKNOWN=5",
    "RuntimeStatusResponse.Status": "STARTING=0 READY=1 FAILING=2",
}
FILES: list[FileDescriptor] = [inference_pb2.DESCRIPTOR, model_mesh_pb2.DESCRIPTOR, model_runtime_pb2.DESCRIPTOR]


def contract(text: str) -> list[tuple[str, dict[str, int]]]:
    """Messages with their fields' numbers."""
    lines = re.findall(r"^([\w.]+):((?:[^:]|\n )*?)(?=\n[\w.]+:|\Z)", text.strip(), re.MULTILINE)
    return [(name, {field: int(number) for number, field in re.findall(r"(\d+) (\w+)", fields)}) for name, fields in lines]


def messages() -> dict[str, Descriptor]:
    """All messages, nested ones with the name of what they are in."""
    found: dict[str, Descriptor] = {}
    waiting = [message for file in FILES for message in file.message_types_by_name.values()]
    while waiting:
        message = waiting.pop()
        found[message.full_name.removeprefix(f"{message.file.package}.")] = message
        waiting += message.nested_types
    return found


ALL = contract(MANAGEMENT) + contract(RUNTIME) + contract(INFERENCE)


@pytest.mark.parametrize(("name", "fields"), ALL, ids=[name for name, _ in ALL])
def test_fields_have_their_numbers(name: str, fields: dict[str, int]) -> None:
    assert {field.name: field.number for field in messages()[name].fields} == fields


def test_management_and_runtime_have_these_messages_and_no_others() -> None:
    ours = {name for name, message in messages().items() if message.file.package == "mmesh" and not message.GetOptions().map_entry}
    assert ours == {name for name, _ in contract(MANAGEMENT) + contract(RUNTIME)}


@pytest.mark.parametrize(("service", "names"), METHODS.items(), ids=METHODS)
def test_services_have_their_methods(service: str, names: str) -> None:
    (found,) = (file.services_by_name[service.split(".")[1]] for file in FILES if service.split(".")[1] in file.services_by_name)
    assert found.full_name == service
    assert set(names.split()) <= set(found.methods_by_name)
    if service.startswith("mmesh"):
        assert set(names.split()) == set(found.methods_by_name)
        assert not any(method.client_streaming or method.server_streaming for method in found.methods)


@pytest.mark.parametrize(("name", "values"), STATES.items(), ids=STATES)
def test_states_have_their_numbers(name: str, values: str) -> None:
    message, _, state = name.partition(".")
    found = messages()[message].enum_types_by_name[state]
    assert {value.name: value.number for value in found.values} == {one.split("=")[0]: int(one.split("=")[1]) for one in values.split()}


def test_a_retired_number_stays_retired() -> None:
    proto = DescriptorProto()
    messages()["EnsureLoadedRequest"].CopyToProto(proto)
    assert [(reserved.start, reserved.end) for reserved in proto.reserved_range] == [(3, 4)]


def test_streams_of_inference_go_both_ways() -> None:
    method = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name["ModelStreamInfer"]
    assert (method.client_streaming, method.server_streaming) == (True, True)
