"""What a v2 request becomes for a handler that takes rows, what its answers become, and who is told of what does not fit."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.protocols import inference_pb2 as v2
from runtime_adapters import schema
from runtime_adapters.torchserve import rows, tensors
from runtime_adapters.torchserve.rows import BINARY, JSON, Answer, Body
from runtime_adapters.torchserve.tensors import Tensor, TensorError


def asked(*inputs: Tensor) -> list[Any]:
    """The rows as a handler sees them: parsed JSON, or bytes."""
    return [body.content if body.type == BINARY else json.loads(body.content) for body in rows.split(inputs)]


def answered(*values: Any, outputs: list[schema.Tensor] | None = None) -> list[tuple[str, str, list[int], list[Any]]]:
    """The outputs that these answers become; bytes stand for what is no JSON."""
    given = [Answer(value if isinstance(value, bytes) else json.dumps(value).encode()) for value in values]
    return [(one.name, one.datatype, list(one.shape), list(one.values)) for one in rows.join(given, outputs or [])]


class TestRows:
    def test_of_one_input_are_its_slices(self) -> None:
        assert asked(Tensor("x", "FP32", [2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == [[1, 2, 3], [4, 5, 6]]
        assert asked(Tensor("x", "INT64", [2], [1, 2])) == [1, 2]
        assert asked(Tensor("x", "INT64", [], [1])) == [1]

    @pytest.mark.parametrize("shape", [[1], [1, 1], [1, 1, 1], []])
    def test_of_one_value_of_bytes_are_the_bare_bytes_as_over_rest(self, shape: list[int]) -> None:
        assert rows.split([Tensor("image", "BYTES", shape, [b"\xff\xd8\xff"])]) == [Body(b"\xff\xd8\xff", BINARY)]

    def test_of_several_inputs_are_objects_by_name(self) -> None:
        found = asked(Tensor("a", "INT64", [2, 1], [1, 2]), Tensor("b", "BYTES", [2], [b"text", b"\xff"]))
        assert found == [{"a": [1], "b": "text"}, {"a": [2], "b": base64.b64encode(b"\xff").decode()}]

    def test_of_a_handler_that_knows_v2_are_one_whole_request(self) -> None:
        (body,) = rows.whole("m", "7", [Tensor("x", "INT64", [2], [1, 2])])
        assert body.type == JSON
        inputs = [{"name": "x", "datatype": "INT64", "shape": [2], "data": [1, 2]}]
        assert json.loads(body.content) == {"model_name": "m", "id": "7", "inputs": inputs}

    @pytest.mark.parametrize(
        ("inputs", "said"),
        [
            ([], "the request has no inputs"),
            ([Tensor("x", "INT64", [0], [])], "the request has 0 rows"),
            ([Tensor("x", "INT64", [rows.MAX_ROWS + 1], [0] * (rows.MAX_ROWS + 1))], f"between 1 and {rows.MAX_ROWS} are taken"),
            ([Tensor("x", "INT64", [1], [0]), Tensor("y", "INT64", [2], [0, 0])], "input 'y' has 2 rows, but input 'x' has 1"),
        ],
    )
    def test_that_are_none_or_differ_are_refused(self, inputs: list[Tensor], said: str) -> None:
        with pytest.raises(TensorError, match=said):
            rows.split(inputs)


class TestAnswers:
    def test_that_are_tensors_are_stacked(self) -> None:
        assert answered([1, 2], [3, 4]) == [("predictions", "INT64", [2, 2], [1, 2, 3, 4])]
        assert answered(0.5, 1) == [("predictions", "FP64", [2], [0.5, 1])]
        assert answered(True, False) == [("predictions", "BOOL", [2], [True, False])]
        assert answered("a", "b") == [("predictions", "BYTES", [2], ["a", "b"])]
        assert answered(2**70) == [("predictions", "FP64", [1], [2**70])], "too large for any integer of the protocol"

    def test_that_are_objects_of_the_same_keys_have_an_output_each(self) -> None:
        found = answered({"tabby": 0.5, "names": ["a"]}, {"tabby": 0.25, "names": ["b"]})
        assert found == [("tabby", "FP64", [2], [0.5, 0.25]), ("names", "BYTES", [2, 1], ["a", "b"])]

    @pytest.mark.parametrize(
        "values",
        [([1], [1, 2]), ({"a": 1}, {"b": 1}), (1, "a"), ({"a": {"b": 1}},), (None,), ({},), ([1, "a"],), ([[1], 2],)],
    )
    def test_that_are_no_tensor_are_told_as_they_are(self, values: tuple[Any, ...]) -> None:
        ((name, datatype, shape, found),) = answered(*values)
        assert (name, datatype, shape) == ("predictions", "BYTES", [len(values)])
        assert [json.loads(one) if not isinstance(value, str) else one for one, value in zip(found, values, strict=True)] == list(values)

    def test_that_are_no_json_are_bytes(self) -> None:
        assert answered(b"\x89PNG", b"plain words") == [("predictions", "BYTES", [2], [b"\x89PNG", b"plain words"])]

    def test_of_v2_are_taken_and_joined_row_by_row(self) -> None:
        one = {"outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [[1, 2]]}]}
        assert answered(one, one) == [("y", "FP32", [2, 2], [1, 2, 1, 2])]
        other = {"outputs": [{"name": "z", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
        with pytest.raises(TensorError, match="output 'y' of the handler's v2 answers differs from row to row"):
            answered(one, other)

    @pytest.mark.parametrize(
        ("output", "said"),
        [
            (5, r"outputs\[0\] of the handler's v2 answer is no object"),
            ({"name": "y"}, "needs a name and a datatype"),
            ({"name": "y", "datatype": "FP32", "shape": [-1], "data": []}, "output 'y' .* needs a shape and `data`"),
            ({"name": "y", "datatype": "FP32", "shape": [True], "data": [1]}, "output 'y' .* needs a shape and `data`"),
        ],
    )
    def test_of_v2_that_are_written_wrongly_say_where(self, output: object, said: str) -> None:
        with pytest.raises(TensorError, match=said):
            answered({"outputs": [output]})

    def test_follow_the_schema(self) -> None:
        scores, label = schema.Tensor("scores", "FP32", (-1, 2)), schema.Tensor("label", "STRING", (-1,))
        assert answered([1, 2], [3, 4], outputs=[scores]) == [("scores", "FP32", [2, 2], [1, 2, 3, 4])]
        both = {"scores": [1, 2], "label": "cat", "more": 1}
        assert answered(both, outputs=[scores, label]) == [("scores", "FP32", [1, 2], [1, 2]), ("label", "BYTES", [1], ["cat"])]
        with pytest.raises(TensorError, match="must be an object with 'scores', 'label', the outputs in the model's schema"):
            answered([1, 2], outputs=[scores, label])
        with pytest.raises(TensorError, match="output 'scores' is FP32 in the model's schema, but the handler answered 'cat'"):
            answered(["cat", "dog"], outputs=[scores])
        with pytest.raises(TensorError, match="the handler's answers have different shapes"):
            answered([1, 2], [3], outputs=[scores])


LIMITS = {"BOOL": (False, True)} | {
    f"{'U' * unsigned}INT{bits}": (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for unsigned in (True, False)
    for bits in (8, 16, 32, 64)
}


@st.composite
def a_tensor(draw: st.DrawFn) -> Tensor:
    """Any tensor that the v2 protocol can say."""
    datatype = draw(st.sampled_from(sorted(tensors.DATATYPES)))
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    if datatype == "BYTES":
        value: st.SearchStrategy[Any] = st.binary(max_size=6)
    elif datatype == "BOOL":
        value = st.booleans()
    elif datatype.startswith("FP"):
        value = st.floats(width=int(datatype[2:]), allow_nan=False)  # type: ignore[arg-type] # 16, 32 or 64
    else:
        value = st.integers(*LIMITS[datatype])
    size = math.prod(shape)
    return Tensor("x", datatype, shape, draw(st.lists(value, min_size=size, max_size=size)))


class TestTensors:
    @given(st.lists(a_tensor(), max_size=3), st.booleans())
    def test_survive_the_wire(self, written: list[Tensor], raw: bool) -> None:
        """What is written as an answer and sent as a request is read as the same."""
        answer = v2.ModelInferResponse()
        tensors.write(answer, written, raw=raw)
        request = v2.ModelInferRequest(raw_input_contents=answer.raw_output_contents)
        for one in answer.outputs:
            request.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape, contents=one.contents)
        assert [(one.datatype, list(one.shape), list(one.values)) for one in tensors.read(request)] == [
            (one.datatype, list(one.shape), list(one.values)) for one in written
        ]

    @given(a_tensor())
    def test_are_lists_in_lists_and_flat_again(self, tensor: Tensor) -> None:
        assert tensors.flatten(tensor.nested(), tensor.shape) == list(tensor.values)

    @given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=12))
    def test_are_found_in_nested_lists_or_not_at_all(self, value: Any) -> None:
        found = tensors.infer("x", value)
        if found:
            assert len(found.values) == math.prod(found.shape)
            assert list(found.values) == tensors.flat(value)

    @pytest.mark.parametrize(
        ("tensor", "raw", "said"),
        [
            (("FP33", [1]), None, "datatype 'FP33'; known here are BOOL, BYTES,"),
            (("FP32", [-1]), None, r"shape \[-1\], which has a negative dimension"),
            (("FP32", [2, 3]), None, r"has 0 values, but shape \[2, 3\] takes 6"),
            (("FP16", [1]), None, "of datatype FP16 must be sent as raw_input_contents"),
            (("FP32", [1]), b"\0\0\0", "has 3 raw bytes, which is no number of FP32 values"),
            (("FP32", [2**40, 2**40]), b"\0\0\0\0", "has 1 values, but shape"),
            (("BYTES", [1]), struct.pack("<I", 5) + b"four", "raw bytes that end within a value"),
            (("BYTES", [1]), b"\1\0", "raw bytes that end within a value"),
        ],
    )
    def test_that_are_not_what_they_say_are_refused_by_name(self, tensor: tuple[str, list[int]], raw: bytes | None, said: str) -> None:
        datatype, shape = tensor
        request = v2.ModelInferRequest(raw_input_contents=[] if raw is None else [raw])
        request.inputs.add(name="wrong", datatype=datatype, shape=shape)
        with pytest.raises(TensorError, match=f"input 'wrong' .*{said}|input 'wrong' {said}"):
            tensors.read(request)

    def test_need_as_many_raw_contents_as_inputs(self) -> None:
        with pytest.raises(TensorError, match="2 raw_input_contents for 0 inputs"):
            tensors.read(v2.ModelInferRequest(raw_input_contents=[b"", b""]))

    @pytest.mark.parametrize(
        ("datatype", "value", "ways"),
        [
            ("INT64", 1.5, (True, False)),
            ("FP32", "x", (True, False)),
            ("UINT8", -1, (True, False)),
            ("FP99", 1, (True, False)),
            ("INT8", 300, (True,)),  # contents hold it in 32 bits
            ("BOOL", "yes", (False,)),  # raw, whatever is not empty is true
        ],
    )
    def test_that_an_answer_does_not_fit_are_refused(self, datatype: str, value: Any, ways: tuple[bool, ...]) -> None:
        for raw in ways:
            with pytest.raises(TensorError, match="output 'y' has "):
                tensors.write(v2.ModelInferResponse(), [Tensor("y", datatype, [1], [value])], raw=raw)
