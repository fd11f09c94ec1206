"""The description of a model as JSON: shapes as numbers, parameters as native values."""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message

from mesh.doors.rest import answers, parameters
from mesh.doors.rest.errors import BadAnswer
from mesh.doors.rest.fields import Object
from mesh.protocols.inference_pb2 import ModelMetadataResponse

PROPERTIES = 6
"""Field of `ModelMetadataResponse` that MLServer fills with parameters and the open inference protocol with a map of strings."""


def write(payload: bytes) -> Object:
    """The document of a `ModelMetadataResponse`, whichever of the two protocols its sender follows.

    Raises:
        BadAnswer: it is something else.
    """
    try:
        return _document(answers.parse(ModelMetadataResponse(), payload))
    except BadAnswer:
        found = _properties(payload)
        if found is None:
            raise
    strings, rest = found
    document = _document(answers.parse(ModelMetadataResponse(), rest))
    return document | {"properties": strings}


def _document(response: ModelMetadataResponse) -> Object:
    document: Object = {"name": response.name}
    if response.versions:
        document["versions"] = list(response.versions)
    document["platform"] = response.platform
    document["inputs"] = [_tensor(item) for item in response.inputs]
    document["outputs"] = [_tensor(item) for item in response.outputs]
    if response.parameters:
        document["parameters"] = parameters.write_native(response.parameters)
    return document


def _tensor(item: ModelMetadataResponse.TensorMetadata) -> Object:
    document: Object = {"name": item.name, "datatype": item.datatype, "shape": list(item.shape)}
    if item.parameters:
        document["parameters"] = parameters.write_native(item.parameters)
    return document


def _properties(payload: bytes) -> tuple[dict[str, str], bytes] | None:
    """The map of strings in field 6 and the message without it; None if there is no such map."""
    message = _SIBLING()
    try:
        message.ParseFromString(payload)
    except DecodeError:
        return None
    strings = dict(sorted(message.properties.items()))  # type: ignore[attr-defined]  # a class made at run time
    message.ClearField("properties")
    # Fields that the class does not know are kept as they came.
    return strings, message.SerializeToString()


def _sibling() -> type[Message]:
    """A message whose only field is `map<string, string> properties`, in a pool of its own."""
    file = descriptor_pb2.FileDescriptorProto(name="properties.proto", package="mesh.rest", syntax="proto3")
    kind = file.message_type.add(name="Properties")
    entry = kind.nested_type.add(name="PropertiesEntry")
    entry.options.map_entry = True
    field = descriptor_pb2.FieldDescriptorProto
    for number, name in enumerate(("key", "value"), start=1):
        entry.field.add(name=name, number=number, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    kind.field.add(
        name="properties",
        number=PROPERTIES,
        type=field.TYPE_MESSAGE,
        label=field.LABEL_REPEATED,
        type_name=".mesh.rest.Properties.PropertiesEntry",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("mesh.rest.Properties"))


_SIBLING = _sibling()
