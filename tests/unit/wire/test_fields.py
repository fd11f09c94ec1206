"""A field is found and replaced in bytes exactly as the protobuf library would see it, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.protocols.inference_pb2 import InferParameter, InferTensorContents, ModelInferRequest
from mesh.protocols.model_mesh_pb2 import SetVModelRequest
from mesh.wire.fields import LARGEST_FIELD, read, replace

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "splice.json").read_text())


def cases(kind: str) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in VECTORS[kind]]


# The vectors, which every implementation of these rules runs


@pytest.mark.parametrize("vector", cases("read"))
def test_reading_follows_the_vectors(vector: dict[str, Any]) -> None:
    message, path = bytes.fromhex(vector["message"]), tuple(vector["path"])
    if "error_at" in vector:
        with pytest.raises(Malformed, match=f" at byte {vector['error_at']} of {len(message)};"):
            read(message, path)
    else:
        assert read(message, path) == (None if vector["value"] is None else bytes.fromhex(vector["value"]))


@pytest.mark.parametrize("vector", cases("replace"))
def test_replacing_follows_the_vectors(vector: dict[str, Any]) -> None:
    message, path, value = bytes.fromhex(vector["message"]), tuple(vector["path"]), bytes.fromhex(vector["value"])
    if "error_at" in vector:
        with pytest.raises(Malformed, match=f" at byte {vector['error_at']} of {len(message)};"):
            replace(message, path, value)
        return
    result = replace(message, path, value)
    assert result == bytes.fromhex(vector["result"])
    assert read(result, path) == value


def test_an_identical_value_gives_the_same_object() -> None:
    message = ModelInferRequest(model_name="digits", id="7").SerializeToString()
    assert replace(message, (1,), b"digits") is message


def test_the_error_names_the_field_and_what_to_send() -> None:
    with pytest.raises(Malformed) as caught:
        read(b"\x1a\x02\x28\x01", (3, 5))
    assert str(caught.value) == (
        "field 3.5 of the request message cannot be found: wire type 0 instead of 2 for field 5 at byte 2 of 4; "
        "send a protobuf message that has a string in field 3.5"
    )


@pytest.mark.parametrize("path", [(), (0,), (1, -1), (LARGEST_FIELD + 1,)])
def test_what_is_no_path_is_a_mistake_of_the_program(path: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a field path is"):
        read(b"\x0a\x01a", path)
    with pytest.raises(ValueError, match="a field path is"):
        replace(b"\x0a\x01a", path, b"b")


# The protobuf library as oracle

text = st.text(max_size=300)
parameters = st.dictionaries(
    text,
    st.one_of(
        st.booleans().map(lambda value: InferParameter(bool_param=value)),
        st.integers(-(2**63), 2**63 - 1).map(lambda value: InferParameter(int64_param=value)),
        st.floats(allow_nan=False).map(lambda value: InferParameter(double_param=value)),
        text.map(lambda value: InferParameter(string_param=value)),
    ),
    max_size=3,
)
contents = st.one_of(
    st.lists(st.floats(width=32, allow_nan=False), max_size=50).map(lambda values: InferTensorContents(fp32_contents=values)),
    st.lists(st.binary(max_size=50), max_size=5).map(lambda values: InferTensorContents(bytes_contents=values)),
)
tensors = st.builds(
    ModelInferRequest.InferInputTensor,
    name=text,
    datatype=text,
    shape=st.lists(st.integers(0, 999)),
    parameters=parameters,
    contents=contents,
)
infer_requests = st.builds(
    ModelInferRequest,
    model_name=text,
    model_version=text,
    id=text,
    parameters=parameters,
    inputs=st.lists(tensors, max_size=3),
    raw_input_contents=st.lists(st.binary(max_size=200), max_size=2),
)


def canonical(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


@given(infer_requests)
def test_the_name_read_is_the_name_sent(request: ModelInferRequest) -> None:
    assert (read(request.SerializeToString(), (1,)) or b"").decode() == request.model_name


@given(infer_requests, text)
def test_replacing_the_name_is_setting_it(request: ModelInferRequest, name: str) -> None:
    spliced = ModelInferRequest.FromString(replace(request.SerializeToString(), (1,), name.encode()))
    request.model_name = name
    assert canonical(spliced) == canonical(request)


@given(infer_requests, text)
def test_replacing_in_the_first_tensor_is_setting_it_there(request: ModelInferRequest, name: str) -> None:
    spliced = ModelInferRequest.FromString(replace(request.SerializeToString(), (5, 1), name.encode()))
    (request.inputs[0] if request.inputs else request.inputs.add()).name = name
    assert canonical(spliced) == canonical(request)


@given(st.builds(SetVModelRequest, vModelId=text, targetModelId=text, owner=text), text)
def test_an_absent_container_is_created_with_its_field(request: SetVModelRequest, path: str) -> None:
    spliced = SetVModelRequest.FromString(replace(request.SerializeToString(), (4, 2), path.encode()))
    request.modelInfo.path = path
    assert canonical(spliced) == canonical(request)


# Any well-formed message, groups and odd encodings included, against a plain tree

Tree = list[tuple[int, int, Any]]
"""Fields as (number, wire type, content); content is a number, bytes, or the tree of a group or a nested message."""

numbers = st.integers(1, 20)
scalars = st.one_of(
    st.tuples(numbers, st.just(0), st.integers(0, 2**64 - 1)),
    st.tuples(numbers, st.just(1), st.binary(min_size=8, max_size=8)),
    st.tuples(numbers, st.just(5), st.binary(min_size=4, max_size=4)),
    st.tuples(st.integers(11, 20), st.just(2), st.binary(max_size=140)),
)
trees = st.recursive(
    st.lists(scalars, max_size=4),
    lambda inner: st.lists(st.one_of(scalars, st.tuples(numbers, st.sampled_from([2, 3]), inner)), max_size=5),
    max_leaves=12,
)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def encode(tree: Tree) -> bytes:
    out = b""
    for number, kind, content in tree:
        out += varint(number << 3 | kind)
        if kind == 0:
            out += varint(content)
        elif kind == 3:
            out += encode(content) + varint(number << 3 | 4)
        else:
            body = encode(content) if isinstance(content, list) else content
            out += (varint(len(body)) if kind == 2 else b"") + body
    return out


def first(tree: Tree, number: int) -> int | None:
    return next((index for index, field in enumerate(tree) if field[0] == number), None)


def changed(tree: Tree, path: tuple[int, ...], value: bytes) -> Tree | None:
    """The tree with `value` at `path`; None where a field of the path is not what the path needs."""
    at = first(tree, path[0])
    inside: Any = tree[at][2] if at is not None else []
    if at is not None and (tree[at][1] != 2 or (len(path) > 1 and not isinstance(inside, list))):
        return None
    content = value if len(path) == 1 else changed(inside, path[1:], value)
    if content is None:
        return None
    field = (path[0], 2, content)
    return [*tree, field] if at is None else [*tree[:at], field, *tree[at + 1 :]]


@given(trees, st.lists(st.integers(1, 10), min_size=1, max_size=3).map(tuple), st.binary(max_size=300))
def test_every_other_byte_is_preserved(tree: Tree, path: tuple[int, ...], value: bytes) -> None:
    expected = changed(tree, path, value)
    if expected is None:
        with pytest.raises(Malformed):
            replace(encode(tree), path, value)
    else:
        assert replace(encode(tree), path, value) == encode(expected)


@given(st.binary(max_size=60), st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), st.binary(max_size=5))
def test_rubbish_is_refused_or_understood_but_nothing_else(message: bytes, path: tuple[int, ...], value: bytes) -> None:
    try:
        result = replace(message, path, value)
    except Malformed:
        return
    assert read(result, path) == value
    read(message, path)
