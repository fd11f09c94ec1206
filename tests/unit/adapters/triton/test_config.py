"""`config.pbtxt`, rewritten through protobuf's own text format: everything stays but name, inputs and outputs."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from mesh.protocols import triton_model_config_pb2 as pb
from runtime_adapters.errors import InvalidRequest
from runtime_adapters.schema import DATATYPES, Schema, Tensor
from runtime_adapters.triton import config
from runtime_adapters.triton.settings import TritonSettings

SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_FLOAT: st.floats(allow_nan=False, width=32),
    FieldDescriptor.TYPE_DOUBLE: st.floats(allow_nan=False),
}
SHAPES = st.lists(st.integers(-1, 1000), max_size=4).map(tuple)
TENSORS = st.lists(st.builds(Tensor, st.text("abc_0", min_size=1), st.sampled_from(sorted(DATATYPES)), SHAPES), max_size=3).map(tuple)


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, depth: int = 3) -> Any:
    """Any message: a few of its fields set, whatever their types."""
    message: Any = GetMessageClass(descriptor)()
    usable = [field for field in descriptor.fields if depth or field.message_type is None]
    for field in draw(st.lists(st.sampled_from(usable), max_size=4, unique_by=lambda one: one.number)) if usable else ():
        fill(draw, message, field, depth - 1)
    return message


def fill(draw: st.DrawFn, message: Any, field: FieldDescriptor, depth: int) -> None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        target = getattr(message, field.name)
        for one in draw(st.lists(SCALARS[key.type], min_size=1, max_size=2)):
            if value.message_type is None:
                target[one] = draw(SCALARS[value.type])
            else:
                target[one].CopyFrom(draw(messages(value.message_type, depth)))
    elif field.message_type is not None:
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(messages(field.message_type, depth), min_size=1, max_size=2)))
        else:
            getattr(message, field.name).CopyFrom(draw(messages(field.message_type, depth)))
    else:
        values = st.sampled_from([one.number for one in field.enum_type.values]) if field.enum_type else SCALARS[field.type]
        if field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(values, min_size=1, max_size=2)))
        else:
            setattr(message, field.name, draw(values))


def stripped(message: pb.ModelConfig, *fields: str) -> pb.ModelConfig:
    copy = pb.ModelConfig()
    copy.CopyFrom(message)
    for field in fields:
        copy.ClearField(field)  # type: ignore[arg-type] # any field's name
    return copy


@given(messages(pb.ModelConfig.DESCRIPTOR), st.none() | st.builds(Schema, st.none() | TENSORS, st.none() | TENSORS))
def test_a_rewritten_configuration_keeps_all_but_name_inputs_and_outputs(message: pb.ModelConfig, schema: Schema | None) -> None:
    message.ClearField("default_model_filename")
    message.ClearField("cc_model_filenames")
    message.max_batch_size = min(message.max_batch_size, 0)
    text = text_format.MessageToString(message).encode()
    new = config.rewrite(text, "model-id", schema)
    found = text_format.Parse(new if new is not None else text.decode(), pb.ModelConfig())
    assert not found.name
    assert stripped(found, "input", "output") == stripped(message, "name", "input", "output")
    for side, tensors in (("input", schema and schema.inputs), ("output", schema and schema.outputs)):
        if tensors is None:
            assert getattr(found, side) == getattr(message, side)
        else:
            assert [(one.name, tuple(one.dims)) for one in getattr(found, side)] == [(one.name, one.shape) for one in tensors]


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_datatype_has_its_name_in_a_configuration(datatype: str) -> None:
    text = config.generate("", Schema((Tensor("x", datatype, (1,)),), None))
    wanted = "TYPE_STRING" if datatype in ("BYTES", "STRING") else f"TYPE_{datatype}"
    assert f"data_type: {wanted}\n" in text


class TestASchemaOverAConfiguration:
    OWN = 'name: "theirs" input [{name: "IN" data_type: TYPE_FP32 dims: [1]}] output [{name: "OUT" data_type: TYPE_FP32 dims: [-1, 1]}]'

    def test_replaces_what_it_mentions(self) -> None:
        new = config.rewrite(self.OWN.encode(), "id", Schema((Tensor("NEW", "BYTES", (7,)),), None))
        assert new is not None
        found = text_format.Parse(new, pb.ModelConfig())
        assert [(one.name, one.data_type, list(one.dims)) for one in found.input] == [("NEW", pb.TYPE_STRING, [7])]
        assert [one.name for one in found.output] == ["OUT"]
        assert found.name == ""

    def test_is_without_the_batch_where_the_model_batches(self) -> None:
        schema = Schema((Tensor("A", "FP32", (-1, 64, 64)), Tensor("B", "FP32", (-1, 1))), (Tensor("C", "FP32", (-1, 10)),))
        new = config.rewrite(b"max_batch_size: 100", "id", schema)
        assert new is not None
        found = text_format.Parse(new, pb.ModelConfig())
        assert [list(one.dims) for one in found.input] == [[64, 64], [1]]
        assert [list(one.dims) for one in found.output] == [[10]]

    @pytest.mark.parametrize(("shape", "found"), [((10,), "10"), ((1, 10), "1"), ((), "missing")])
    def test_conflicts_with_batching_if_it_has_no_batch(self, shape: tuple[int, ...], found: str) -> None:
        schema = Schema(None, (Tensor("OUT", "FP32", shape),))
        with pytest.raises(InvalidRequest, match=f"Conflicting model configuration: max_batch_size is 100.* of OUT is {found}"):
            config.rewrite(b"max_batch_size: 100", "id", schema)


class TestAConfigurationThatMakesNoSense:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (b"name: {", "cannot be read: line and column 1:7"),
            (b'max_batch_size: "many"', "cannot be read"),
            (b"\xff", "is not UTF-8"),
            (b'name: "x" from_the_future: 1', "has what this adapter does not know .* remove `name`"),
            (b'default_model_filename: "../../other/1/model.onnx"', "has default_model_filename .* leads out of the model"),
            (b'default_model_filename: "/etc/passwd"', "leads out of the model"),
            (b'cc_model_filenames [{key: "7.5" value: "a/../../b"}]', "has cc_model_filenames .* leads out of the model"),
        ],
    )
    def test_is_refused_with_its_reason(self, text: bytes, said: str) -> None:
        with pytest.raises(InvalidRequest, match=said) as failure:
            config.rewrite(text, "model-id", None)
        assert "config.pbtxt of model model-id" in failure.value.message

    def test_fields_of_a_newer_triton_pass_if_nothing_has_to_be_changed(self) -> None:
        newer = b'max_batch_size: 4 from_the_future { deep: [1, 2] } backend: "python"'
        assert config.rewrite(newer, "id", None) is None
        with pytest.raises(InvalidRequest, match="give no schema"):
            config.rewrite(newer, "id", Schema(None, None))


def test_memory_is_read_from_the_field_that_triton_writes() -> None:
    """Field 8 of ModelStatistics; no backend that runs here fills it, so the bytes are those of the protocol."""
    memory = b"\x0a\x03CPU" + b"\x18\x80\x08"
    statistics = b"\x42" + bytes([len(memory)]) + memory
    answer = pb.ModelStatisticsAnswer.FromString(b"\x0a" + bytes([len(statistics)]) + statistics)
    (part,) = answer.model_stats[0].memory_usage
    assert (part.type, part.byte_size) == ("CPU", 1024)


def test_every_field_of_a_configuration_is_described() -> None:
    """Messages are compared as wholes above; this guards against a field that is left out of both sides."""
    numbers = {field.number for field in pb.ModelConfig.DESCRIPTOR.fields}
    assert numbers >= set(range(1, 27)) - {22}
    assert issubclass(GetMessageClass(pb.ModelConfig.DESCRIPTOR), Message)


def test_settings_have_bounds() -> None:
    assert TritonSettings.load({}).unload_timeout == 30_000
    with pytest.raises(Exception, match="UNLOADTIME_TIMEOUT='0'"):
        TritonSettings.load({"UNLOADTIME_TIMEOUT": "0"})
