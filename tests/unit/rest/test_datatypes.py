"""Every datatype in every form: what goes in comes out again."""

from __future__ import annotations

import json
import math
import struct
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.doors.rest import binary, inference, tensors
from mesh.protocols.inference_pb2 import ModelInferRequest, ModelInferResponse
from tests.unit.rest.door import proto, tensor

WIDTHS = {"FP16": 16, "FP32": 32, "FP64": 64}
CASES = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64", "BYTES"]


def elements(kind: tensors.Datatype) -> st.SearchStrategy[Any]:
    if kind.family == "bool":
        return st.booleans()
    if kind.family == "int":
        return st.integers(int(kind.low), int(kind.high))
    if kind.family == "bytes":
        return st.binary(max_size=20)
    if kind.name == "BF16":
        # Any upper half of a float32.
        return st.integers(0, 0xFFFF).map(lambda bits: struct.unpack("<f", struct.pack("<I", bits << 16))[0])
    return st.floats(width=WIDTHS[kind.name])  # type: ignore[arg-type]  # one of 16, 32, 64


@st.composite
def filled(draw: st.DrawFn) -> tuple[tensors.Datatype, list[Any]]:
    kind = tensors.TABLE[draw(st.sampled_from(CASES))]
    return kind, draw(st.lists(elements(kind), max_size=12))


def echoed(message: ModelInferRequest) -> bytes:
    response = ModelInferResponse(raw_output_contents=message.raw_input_contents)
    for item in message.inputs:
        response.outputs.add(name=item.name, datatype=item.datatype, shape=item.shape).contents.CopyFrom(item.contents)
    return response.SerializeToString()


def through(document: dict[str, Any], tail: bytes = b"") -> tuple[dict[str, Any], bytes]:
    """The answer to a request that is echoed: its document, and what follows it."""
    message, reply = inference.decode(json.dumps(document).encode(), binary.Tail(tail))
    text, length = inference.encode(echoed(message), reply)
    return json.loads(text[:length]), b"" if length is None else text[length:]


def same(found: list[Any], values: list[Any]) -> bool:
    """Equal, where NaN equals NaN and the strings of JSON are the numbers they stand for."""
    numbers: list[Any] = [tensors.NAMES.get(value, value) if isinstance(value, str) else value for value in found]
    return len(numbers) == len(values) and all(
        one == two or (isinstance(two, float) and math.isnan(one) and math.isnan(two)) for one, two in zip(numbers, values, strict=True)
    )


def singles(values: list[Any]) -> list[Any]:
    return list(struct.unpack(f"<{len(values)}f", struct.pack(f"<{len(values)}f", *(float(value) for value in values))))


def test_the_table_has_every_datatype_of_the_protocol() -> None:
    assert list(tensors.TABLE) == CASES


@given(filled())
def test_data_in_the_v2_form_comes_back(case: tuple[tensors.Datatype, list[Any]]) -> None:
    kind, values = case
    data = [list(value) for value in values] if kind.family == "bytes" else values
    output = through(tensor(kind.name, [len(values)], data))[0]["outputs"][0]
    if kind.family == "bytes":
        encoded = output.get("parameters") == {"content_type": "base64"}
        assert output["data"] == [b64encode(value).decode() if encoded else value.decode() for value in values]
    else:
        found = [tensors.NAMES.get(value, value) if isinstance(value, str) else value for value in output["data"]]
        assert same(singles(found) if kind.name == "FP32" else found, values)


@given(filled())
def test_contents_in_the_proto_form_come_back(case: tuple[tensors.Datatype, list[Any]]) -> None:
    kind, values = case
    if not kind.field:
        document: dict[str, Any] = {"inputs": [{"name": "x", "datatype": kind.name, "shape": [len(values)]}]}
        raw = b64encode(tensors.pack(kind, values)).decode()
        assert through(document | {"rawInputContents": [raw]})[0]["rawOutputContents"] == [raw]
        return
    sent = [b64encode(value).decode() for value in values] if kind.family == "bytes" else values
    contents = through(proto(kind.name, [len(values)], **{kind.field: sent}))[0]["outputs"][0]["contents"]
    (found,) = contents.values()
    if kind.name in ("INT64", "UINT64"):
        assert found == list(map(str, values))
    elif kind.name == "FP32":
        assert same(singles([tensors.NAMES.get(value, value) if isinstance(value, str) else value for value in found]), values)
    else:
        assert same(found, sent)


@given(filled())
def test_binary_data_comes_back_byte_by_byte(case: tuple[tensors.Datatype, list[Any]]) -> None:
    kind, values = case
    raw = tensors.pack(kind, values)
    document = tensor(kind.name, [len(values)], None, parameters={binary.SIZE: len(raw)}) | {"parameters": {binary.WANTED_ALL: True}}
    answer, tail = through(document, raw)
    assert tail == raw
    assert answer["outputs"][0]["parameters"] == {binary.SIZE: len(raw)}


@given(filled())
def test_packing_and_unpacking_are_inverse_and_the_length_is_measured(case: tuple[tensors.Datatype, list[Any]]) -> None:
    kind, values = case
    raw = tensors.pack(kind, values)
    assert tensors.measure(kind, raw, len(values)) == ""
    assert tensors.measure(kind, raw, len(values) + 1)
    assert tensors.measure(kind, raw + b"\0", len(values))
    assert same(tensors.unpack(kind, raw), values)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_printed_float32_has_at_most_nine_digits_and_the_same_value(values: list[float]) -> None:
    printed = tensors.spell(tensors.TABLE["FP32"], values)
    assert singles(printed) == values
    assert all(float(f"{value:.9g}") == value for value in printed)


def test_a_large_float32_tensor_is_printed_as_exact_doubles() -> None:
    values = singles([0.1] * (tensors.SHORT + 1))
    assert tensors.spell(tensors.TABLE["FP32"], values) is values


@pytest.mark.parametrize("raw", [b"\1", b"\5\0\0\0abc"])
def test_a_cut_raw_tensor_of_bytes_is_noticed(raw: bytes) -> None:
    assert "ends inside" in tensors.measure(tensors.TABLE["BYTES"], raw, 1)
