"""The stand-in's messages are made from tables; they are those of the contracts."""

from __future__ import annotations

import pytest
from google.protobuf import wrappers_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from mesh.protocols import inference_pb2 as v2
from runtime_adapters.openvino.standin.ovms_standin.messages import CLASSES, TABLES
from tests.support.protocols import tensorflow_pb2 as tf
from tests.support.protocols import tensorflow_serving_pb2 as tfs

CONTRACTS = {"inference": v2, "tensorflow": tf, "tensorflow.serving": tfs, "google.protobuf": wrappers_pb2}


def contract(name: str) -> Descriptor:
    """The message of that name as the contract has it."""
    package = max((package for package in CONTRACTS if name.startswith(f"{package}.")), key=len)
    outer, *inner = name.removeprefix(f"{package}.").split(".")
    found: Descriptor = CONTRACTS[package].DESCRIPTOR.message_types_by_name[outer]
    for part in inner:
        found = found.nested_types_by_name[part]
    return found


def kind(field: FieldDescriptor) -> tuple[int, bool, str]:
    """What its bytes depend on; an enum travels as an int32."""
    number = FieldDescriptor.TYPE_INT32 if field.type == FieldDescriptor.TYPE_ENUM else field.type
    return number, field.is_repeated, field.message_type.full_name if field.message_type else ""


@pytest.mark.parametrize("name", TABLES)
def test_every_field_has_the_contracts_number_and_type(name: str) -> None:
    expected = contract(name)
    made: Descriptor = CLASSES[name].DESCRIPTOR
    assert made.full_name == expected.full_name
    for field in made.fields:
        theirs = expected.fields_by_name[field.name]
        assert (field.number, kind(field)) == (theirs.number, kind(theirs)), field.name


def test_a_request_of_the_contract_is_read_and_what_is_not_in_the_table_is_skipped() -> None:
    request = v2.ModelInferRequest(model_name="m", id="7")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend([1.5, 2.5])
    request.parameters["priority"].int64_param = 3
    read = CLASSES["inference.ModelInferRequest"].FromString(request.SerializeToString())
    assert (read.model_name, read.id, list(read.inputs[0].shape)) == ("m", "7", [1, 2])
    assert list(read.inputs[0].contents.fp32_contents) == [1.5, 2.5]


def test_maps_and_wrappers_travel_both_ways() -> None:
    made = CLASSES["tensorflow.serving.PredictResponse"]()
    made.model_spec.version.value = 7
    made.outputs["scores"].dtype = 1
    made.outputs["scores"].float_val.extend([0.5])
    read = tfs.PredictResponse.FromString(made.SerializeToString())
    assert read.model_spec.version.value == 7
    assert list(read.outputs["scores"].float_val) == [0.5]
    assert read.outputs["scores"].dtype == tf.DT_FLOAT
