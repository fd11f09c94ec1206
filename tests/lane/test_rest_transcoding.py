"""The lane's REST transcoder beside the Python door's own: the same messages, the same answers, or it leaves them to Python."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import MeshError
from mesh.doors.rest import binary, body_v2, inference, tensors
from mesh.protocols.inference_pb2 import InferParameter, ModelInferRequest, ModelInferResponse
from tests.lane import built
from tests.lane.fuzzing import examples

if TYPE_CHECKING:
    import mesh_lane

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "rest.json").read_text())
KINDS = tuple(tensors.TABLE.values())
PLAIN: mesh_lane.Wanted = ({}, False, False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
SHAPES = st.lists(st.integers(0, 3), max_size=3)


@pytest.fixture(scope="module")
def lane() -> Any:
    module = built.load()
    if module is None:
        pytest.skip("the express lane is not compiled: `make lane` does it where cargo is")
    return module


def python(body: bytes, length: int | None) -> tuple[ModelInferRequest, body_v2.Reply] | None:
    """What the Python door makes of a body; None if it refuses it, or reads it as the proto3 JSON form."""
    try:
        part, tail = binary.split(body, None if length is None else str(length))
        message, reply = inference.decode(part, tail)
    except MeshError:
        return None
    return None if reply is None else (message, reply)


def reply_of(wanted: mesh_lane.Wanted) -> body_v2.Reply:
    """The lane's way of answering as the Python door's."""
    outputs, all_binary, all_base64 = wanted
    named = {name: raw for name, (raw, _) in outputs.items() if raw is not None}
    return body_v2.Reply(named, all_binary, frozenset(name for name, (_, base64) in outputs.items() if base64), all_base64)


def agree(lane: Any, body: bytes, length: int | None = None) -> bool:
    """Whether the lane took the body; if it did, then to the same end as the Python door, to the bit."""
    found, expected = lane.transcode_request(body, length, model="m", version="1"), python(body, length)
    if found is None:
        return False
    assert expected is not None, "the Python door refuses what the lane takes"
    message, reply = expected
    message.model_name, message.model_version = "m", "1"
    taken = ModelInferRequest.FromString(found[0])
    assert taken.SerializeToString(deterministic=True) == message.SerializeToString(deterministic=True)
    assert reply_of(found[1]) == reply
    return True


def values(kind: tensors.Datatype) -> st.SearchStrategy[Any]:
    """JSON values of one datatype."""
    if kind.family == "bool":
        return st.booleans()
    if kind.family == "int":
        return st.integers(int(kind.low), int(kind.high))
    if kind.family == "bytes":
        return TEXT
    reals = st.floats(-kind.high, kind.high, allow_nan=False, allow_infinity=False)
    return reals | reals.map(lambda real: round(real, 3)) | st.integers(-(2**13), 2**13) | st.sampled_from(list(tensors.NAMES))


def nested(elements: list[Any], shape: list[int]) -> list[Any]:
    """Elements in rows, as deep as the shape."""
    if len(shape) < 2:
        return elements
    size = len(elements) // shape[0] if shape[0] else 0
    return [nested(elements[row * size : (row + 1) * size], shape[1:]) for row in range(shape[0])]


PARAMETERS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    NAMES,
    st.none() | st.booleans() | TEXT | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    max_size=3,
)


@st.composite
def inputs(draw: st.DrawFn, *, raw: bool) -> tuple[dict[str, Any], bytes]:
    """An input, and its raw bytes if it is to come raw."""
    kind = draw(st.sampled_from(KINDS))
    shape = draw(SHAPES)
    count = math.prod(shape)
    item: dict[str, Any] = {"name": draw(NAMES), "shape": shape, "datatype": kind.name}
    more = draw(PARAMETERS)
    if raw and draw(st.booleans()):
        data = draw(elements_of(kind, count))
        return item | {"parameters": more | {binary.SIZE: len(data)}}, data
    elements = draw(st.lists(values(kind), min_size=count, max_size=count))
    # Strings are nested once at most, and not without elements: of more the lane knows nothing.
    deep = kind.name != "BYTES" or (len(shape) == 2 and count > 0)
    deep = deep and draw(st.booleans())
    item["data"] = nested(elements, shape) if deep else elements
    if draw(st.booleans()) or more:
        item["parameters"] = more
    return dict(draw(st.permutations(list(item.items())))), b""


def elements_of(kind: tensors.Datatype, count: int) -> st.SearchStrategy[bytes]:
    """The raw form of so many elements: any bytes are right where they have a size."""
    if kind.size:
        return st.binary(min_size=count * kind.size, max_size=count * kind.size)
    texts = st.lists(st.binary(max_size=8), min_size=count, max_size=count)
    return texts.map(lambda texts: b"".join(struct.pack("<I", len(text)) + text for text in texts))


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, int | None]:
    """A right request, and the length of its JSON part if raw tensors follow."""
    raw = draw(st.booleans())
    every = draw(st.lists(inputs(raw=raw), max_size=3))
    document: dict[str, Any] = {"inputs": [item for item, _ in every]}
    if draw(st.booleans()):
        document["id"] = draw(TEXT)
    if draw(st.booleans()):
        ways: list[dict[str, Any]] = [{}, {binary.WANTED_ALL: True}, {"content_type": "Base64"}]
        document["parameters"] = draw(PARAMETERS) | draw(st.sampled_from(ways))
    if draw(st.booleans()):
        wanted: list[dict[str, Any]] = [{}, {binary.WANTED: True}, {binary.WANTED: False}, {"content_type": "b64"}]
        names = draw(st.lists(NAMES, max_size=3, unique=True))
        document["outputs"] = [{"name": name, "parameters": draw(PARAMETERS) | draw(st.sampled_from(wanted))} for name in names]
    document |= draw(st.dictionaries(st.sampled_from(["x", "unknown", "é"]), st.recursive(st.none() | TEXT, st.lists), max_size=1))
    document = dict(draw(st.permutations(list(document.items()))))
    text = json.dumps(document, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))).encode()
    tail = b"".join(data for _, data in every)
    return text + tail, len(text) if tail or draw(st.booleans()) else None


@given(requests())
@examples(400)
def test_a_right_request_becomes_the_message_that_the_python_door_makes(lane: Any, request_: tuple[bytes, int | None]) -> None:
    body, length = request_
    assert agree(lane, body, length)


@given(requests(), st.data())
@examples(600)
def test_a_request_with_a_mistake_becomes_the_same_message_or_is_left_to_python(
    lane: Any, request_: tuple[bytes, int | None], data: st.DataObject
) -> None:
    body, length = request_
    at = data.draw(st.integers(0, len(body)))
    cut = data.draw(st.integers(0, 3))
    put = data.draw(
        st.sampled_from([b"", b"0", b"1", b"-", b".", b"e", b'"', b",", b"[", b"]", b"{", b"}", b"null", b"\\", b"\xff", b"9" * 20])
    )
    agree(lane, body[:at] + put + body[at + cut :], length)


@given(
    st.binary(max_size=40) | st.text(alphabet='{}[]":,0129.eE+-\\ utfalsrn', max_size=40).map(str.encode),
    st.sampled_from([b"", b'{"inputs":[', b'{"inputs":[{"name":"a","shape":[2],"datatype":"FP32","data":[']),
    st.sampled_from([b"", b"]}", b"]}]}"]),
)
@examples(1000)
def test_garbage_is_left_to_python(lane: Any, middle: bytes, before: bytes, behind: bytes) -> None:
    agree(lane, before + middle + behind)


@given(st.floats(allow_nan=False, allow_infinity=False, width=64), st.sampled_from(["FP64", "FP32", "FP16", "BF16"]), st.integers(1, 25))
@examples(600)
def test_reals_are_rounded_to_the_same_bits(lane: Any, real: float, datatype: str, digits: int) -> None:
    shrunk = math.copysign(math.log1p(abs(real)), real)
    for value in (real, shrunk):
        for text in (repr(value), f"{value:.{digits}e}", f"{value:.{digits}g}"):
            agree(lane, b'{"inputs":[{"name":"a","shape":[1],"datatype":"%s","data":[%s]}]}' % (datatype.encode(), text.encode()))


@pytest.mark.parametrize("case", VECTORS["requests"], ids=lambda case: case["what"])
def test_what_is_straight_and_what_is_pythons(lane: Any, case: dict[str, Any]) -> None:
    body = case["body"].encode()
    assert agree(lane, body) is case["straight"]


def parameter(draw: st.DrawFn) -> InferParameter:
    """Any of an answer's parameters."""
    choice = draw(st.sampled_from(["", "bool_param", "int64_param", "string_param", "double_param", "uint64_param"]))
    value: dict[str, st.SearchStrategy[Any]] = {
        "bool_param": st.booleans(),
        "int64_param": st.integers(-(2**63), 2**63 - 1),
        "string_param": TEXT,
        "double_param": st.floats(),
        "uint64_param": st.integers(0, 2**64 - 1),
    }
    message = InferParameter()
    if choice:
        setattr(message, choice, draw(value[choice]))
    return message


def typed(kind: tensors.Datatype) -> st.SearchStrategy[Any]:
    """Elements of a typed field."""
    if kind.family == "float":
        return st.floats(width=32 if kind.name == "FP32" else 64) | st.integers(-(10**6), 10**6).map(lambda number: number / 1000)
    return st.binary(max_size=8) | TEXT.map(str.encode) if kind.family == "bytes" else values(kind)


@st.composite
def answers(draw: st.DrawFn) -> ModelInferResponse:
    """A right answer of a runtime, typed or raw."""
    response = ModelInferResponse(model_name=draw(TEXT), model_version=draw(TEXT), id=draw(TEXT))
    for name in draw(st.lists(TEXT, max_size=2)):
        response.parameters[name].CopyFrom(parameter(draw))
    raw = draw(st.booleans())
    for name in draw(st.lists(st.sampled_from(["a", "b", "é"]), max_size=3)):
        kind = draw(st.sampled_from([kind for kind in KINDS if raw or kind.field]))
        shape = draw(SHAPES)
        output = response.outputs.add(name=name, datatype=kind.name, shape=shape)
        for key in draw(st.lists(st.sampled_from(["x", "content_type", binary.SIZE]), max_size=2)):
            output.parameters[key].CopyFrom(draw(st.sampled_from([InferParameter(string_param="base64"), InferParameter(bool_param=True)])))
        count = math.prod(shape)
        if raw:
            response.raw_output_contents.append(draw(elements_of(kind, count)))
        else:
            getattr(output.contents, kind.field).extend(draw(st.lists(typed(kind), min_size=count, max_size=count)))
    return response


WANTED = st.tuples(
    st.dictionaries(st.sampled_from(["a", "b", "é"]), st.tuples(st.none() | st.booleans(), st.booleans()), max_size=2),
    st.booleans(),
    st.booleans(),
)


def written(body: bytes, length: int | None) -> tuple[str, bytes]:
    """JSON with its members in one order, in which 1 and 1.0 differ, and the raw bytes behind it."""
    part = body if length is None else body[:length]
    return json.dumps(orjson.loads(part), sort_keys=True), body[len(part) :]


def agree_on(lane: Any, payload: bytes, wanted: mesh_lane.Wanted) -> bool:
    """Whether the lane wrote the answer; if it did, then with the values and bytes of the Python door's."""
    found = lane.transcode_answer(payload, wanted)
    if found is None:
        return False
    text, length = inference.encode(payload, reply_of(wanted))
    assert (found[1] is None) is (length is None)
    assert written(*found) == written(text, length)
    return True


@given(answers(), WANTED)
@examples(600)
def test_a_right_answer_has_the_values_and_bytes_that_the_python_door_writes(
    lane: Any, answer: ModelInferResponse, wanted: mesh_lane.Wanted
) -> None:
    assert agree_on(lane, answer.SerializeToString(), wanted)


@given(answers(), WANTED, st.data())
@examples(600)
def test_a_broken_answer_is_written_alike_or_left_to_python(
    lane: Any, answer: ModelInferResponse, wanted: mesh_lane.Wanted, data: st.DataObject
) -> None:
    payload = answer.SerializeToString()
    at = data.draw(st.integers(0, len(payload)))
    changed = payload[:at] + data.draw(st.binary(max_size=3)) + payload[at + data.draw(st.integers(0, 3)) :]
    agree_on(lane, changed, wanted)


@given(st.lists(st.floats(width=32), min_size=1, max_size=8), st.booleans())
@examples(600)
def test_floats_have_the_python_doors_digits(lane: Any, floats: list[float], large: bool) -> None:
    floats = floats * (tensors.SHORT // len(floats) + 1) if large else floats
    response = ModelInferResponse()
    response.outputs.add(name="o", datatype="FP32", shape=[len(floats)]).contents.fp32_contents.extend(floats)
    assert agree_on(lane, response.SerializeToString(), PLAIN)
