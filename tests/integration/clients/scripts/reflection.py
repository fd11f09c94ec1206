"""Stories of a client that knows no service beforehand: it asks the mesh what it offers, and calls that."""

from __future__ import annotations

from typing import Any

import grpc
import stories  # type: ignore[import-not-found]
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

Where = dict[str, Any]
SERVICE = "inference.GRPCInferenceService"


def the_services_are_listed(where: Where) -> None:
    with grpc.insecure_channel(where["grpc"]) as channel:
        services = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert {SERVICE, "mmesh.ModelMesh", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= services, services


def the_inference_method_is_described(where: Where) -> None:
    with grpc.insecure_channel(where["grpc"]) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName(SERVICE).methods_by_name["ModelInfer"]
        assert method.input_type.full_name == "inference.ModelInferRequest"
        assert method.output_type.full_name == "inference.ModelInferResponse"
        assert method.input_type.fields_by_name["model_name"].number == 1
        stream = pool.FindServiceByName(SERVICE).methods_by_name["ModelStreamInfer"]
        assert stream.client_streaming
        assert stream.server_streaming


def management_is_described(where: Where) -> None:
    with grpc.insecure_channel(where["grpc"]) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        assert "setVModel" in pool.FindServiceByName("mmesh.ModelMesh").methods_by_name


def what_was_described_can_be_called(where: Where) -> None:
    with grpc.insecure_channel(where["grpc"]) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName(SERVICE).methods_by_name["ModelInfer"]
        request_class, answer_class = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
        request = json_format.ParseDict({"model_name": where["model"], **where["body"]}, request_class())
        call = channel.unary_unary(f"/{SERVICE}/ModelInfer", request_class.SerializeToString, answer_class.FromString)
        answer = json_format.MessageToDict(call(request, timeout=30))
    assert answer["outputs"][0]["contents"]["int64Contents"] == ["8"], answer


if __name__ == "__main__":
    stories.run(globals())
