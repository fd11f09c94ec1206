"""The protobuf messages of the two services, made from tables: the environment has no compiler, and its protobuf is not the mesh's.

Only fields that are read or written are here; protobuf keeps or skips the others. `tests/unit/adapters/openvino` compares names, numbers
and types with the contracts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS: Mapping[str, Any] = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}

_CONTENTS = {
    "bool_contents": (1, "repeated bool"),
    "int_contents": (2, "repeated int32"),
    "int64_contents": (3, "repeated int64"),
    "uint_contents": (4, "repeated uint32"),
    "uint64_contents": (5, "repeated uint64"),
    "fp32_contents": (6, "repeated float"),
    "fp64_contents": (7, "repeated double"),
    "bytes_contents": (8, "repeated bytes"),
}
_DESCRIBED = {"name": (1, "string"), "datatype": (2, "string"), "shape": (3, "repeated int64")}
_TENSOR = {**_DESCRIBED, "contents": (5, "inference.InferTensorContents")}

TABLES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "inference.ServerLiveRequest": {},
    "inference.ServerLiveResponse": {"live": (1, "bool")},
    "inference.ServerReadyRequest": {},
    "inference.ServerReadyResponse": {"ready": (1, "bool")},
    "inference.ServerMetadataRequest": {},
    "inference.ServerMetadataResponse": {"name": (1, "string"), "version": (2, "string"), "extensions": (3, "repeated string")},
    "inference.ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "inference.ModelReadyResponse": {"ready": (1, "bool")},
    "inference.ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "inference.ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, "repeated string"),
        "platform": (3, "string"),
        "inputs": (4, "repeated inference.ModelMetadataResponse.TensorMetadata"),
        "outputs": (5, "repeated inference.ModelMetadataResponse.TensorMetadata"),
    },
    "inference.ModelMetadataResponse.TensorMetadata": _DESCRIBED,
    "inference.InferTensorContents": _CONTENTS,
    "inference.ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "inputs": (5, "repeated inference.ModelInferRequest.InferInputTensor"),
        "outputs": (6, "repeated inference.ModelInferRequest.InferRequestedOutputTensor"),
        "raw_input_contents": (7, "repeated bytes"),
    },
    "inference.ModelInferRequest.InferInputTensor": _TENSOR,
    "inference.ModelInferRequest.InferRequestedOutputTensor": {"name": (1, "string")},
    "inference.ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "outputs": (5, "repeated inference.ModelInferResponse.InferOutputTensor"),
        "raw_output_contents": (6, "repeated bytes"),
    },
    "inference.ModelInferResponse.InferOutputTensor": _TENSOR,
    "google.protobuf.Int64Value": {"value": (1, "int64")},
    "tensorflow.TensorShapeProto": {"dim": (2, "repeated tensorflow.TensorShapeProto.Dim"), "unknown_rank": (3, "bool")},
    "tensorflow.TensorShapeProto.Dim": {"size": (1, "int64")},
    "tensorflow.TensorProto": {
        "dtype": (1, "int32"),  # an enum, which travels as its number
        "tensor_shape": (2, "tensorflow.TensorShapeProto"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "repeated float"),
        "double_val": (6, "repeated double"),
        "int_val": (7, "repeated int32"),
        "int64_val": (10, "repeated int64"),
        "bool_val": (11, "repeated bool"),
        "half_val": (13, "repeated int32"),
        "uint32_val": (16, "repeated uint32"),
        "uint64_val": (17, "repeated uint64"),
    },
    "tensorflow.serving.ModelSpec": {
        "name": (1, "string"),
        "version": (2, "google.protobuf.Int64Value"),
        "signature_name": (3, "string"),
    },
    "tensorflow.serving.PredictRequest": {
        "model_spec": (1, "tensorflow.serving.ModelSpec"),
        "inputs": (2, "map tensorflow.TensorProto"),
        "output_filter": (3, "repeated string"),
    },
    "tensorflow.serving.PredictResponse": {
        "outputs": (1, "map tensorflow.TensorProto"),
        "model_spec": (2, "tensorflow.serving.ModelSpec"),
    },
}
"""By full name: fields with number and type; `map` has strings for keys."""


def _classes() -> Mapping[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, fields in TABLES.items():
        outer, _, own = name.rpartition(".")
        if outer not in made and outer not in files:
            files[outer] = descriptor_pb2.FileDescriptorProto(name=f"{outer}.proto", package=outer, syntax="proto3")
        message = made[outer].nested_type.add(name=own) if outer in made else files[outer].message_type.add(name=own)
        made[name] = message
        for field, (number, kind) in fields.items():
            _add(message, name, field, number, kind)
    # A file has to name those that it refers to, and these are the only ones that do.
    files["tensorflow.serving"].dependency.extend(["google.protobuf.proto", "tensorflow.proto"])
    for name in ("google.protobuf", "tensorflow", "tensorflow.serving", "inference"):
        pool.Add(files[name])
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in TABLES}


def _add(message: descriptor_pb2.DescriptorProto, full_name: str, name: str, number: int, kind: str) -> None:
    many, _, kind = kind.rpartition(" ")
    if many == "map":
        entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        pair = message.nested_type.add(name=entry)
        pair.options.map_entry = True
        _add(pair, f"{full_name}.{entry}", "key", 1, "string")
        _add(pair, f"{full_name}.{entry}", "value", 2, kind)
        kind = f"{full_name}.{entry}"
    field = message.field.add(name=name, number=number, label=_Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{kind}"


CLASSES = _classes()
"""The message classes by full name. They are made while the program runs, so a type checker knows nothing of them."""
