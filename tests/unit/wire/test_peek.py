"""What a traffic rule sees of a request: the same as whoever decodes it whole, and no more of it than has to be looked at."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.errors import Malformed
from mesh.core.traffic.choice import Tensor
from mesh.protocols import inference_pb2 as pb
from mesh.wire.call import Call
from mesh.wire.peek import MOST_BYTES, MOST_FIELDS, Peeked

INFER = "inference.GRPCInferenceService/ModelInfer"
TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)


def peeked(request: pb.ModelInferRequest | bytes, method: str = INFER, **more: Any) -> Peeked:
    return Peeked(Call(method, **more), request if isinstance(request, bytes) else request.SerializeToString())


PARAMETERS = st.one_of(
    st.booleans().map(lambda value: pb.InferParameter(bool_param=value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: pb.InferParameter(int64_param=value)),
    TEXTS.map(lambda value: pb.InferParameter(string_param=value)),
    st.just(pb.InferParameter()),
)
INPUTS = st.builds(
    lambda name, datatype, shape, data: pb.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape, parameters={"a": pb.InferParameter(bool_param=True)}, contents=data
    ),
    *(TEXTS, TEXTS, st.lists(st.integers(-1, 2**40), max_size=3)),
    st.lists(st.floats(width=32, allow_nan=False), max_size=4).map(lambda floats: pb.InferTensorContents(fp32_contents=floats)),
)
REQUESTS = st.builds(
    lambda name, parameters, inputs, raw: pb.ModelInferRequest(
        model_name=name, parameters=parameters, inputs=inputs, raw_input_contents=raw
    ),
    *(TEXTS, st.dictionaries(TEXTS, PARAMETERS, max_size=3), st.lists(INPUTS, max_size=3), st.lists(st.binary(max_size=8), max_size=2)),
)


def text(parameter: pb.InferParameter) -> str | None:
    match parameter.WhichOneof("parameter_choice"):
        case "bool_param":
            return "true" if parameter.bool_param else "false"
        case "int64_param":
            return str(parameter.int64_param)
        case "string_param":
            return parameter.string_param
    return None


@given(REQUESTS)
def test_parameters_and_heads_of_inputs_are_those_of_the_whole_request(request: pb.ModelInferRequest) -> None:
    found = peeked(request)
    assert {name: found.parameter(name) for name in request.parameters} == {name: text(one) for name, one in request.parameters.items()}
    assert found.inputs() == tuple(Tensor(one.name, one.datatype, tuple(one.shape)) for one in request.inputs)
    assert found.parameter("nobody has this") is None


@given(st.binary(max_size=40))
def test_bytes_that_are_no_request_are_refused_in_words_or_have_something(payload: bytes) -> None:
    with suppress(Malformed):
        assert isinstance(peeked(payload).inputs(), tuple)


def test_other_methods_have_neither() -> None:
    request = pb.ModelInferRequest(
        parameters={"a": pb.InferParameter(bool_param=True)}, inputs=[pb.ModelInferRequest.InferInputTensor(name="x")]
    )
    other = peeked(request, "mmesh.ExamplePredictor/predict")
    assert (other.parameter("a"), other.inputs()) == (None, ())
    assert peeked(request, f"/{INFER}").parameter("a") == "true"


def test_what_is_too_much_is_not_looked_at() -> None:
    long = "x" * MOST_BYTES
    request = pb.ModelInferRequest(parameters={"a": pb.InferParameter(string_param=long)})
    request.inputs.add(name=long)
    request.inputs.add(name="y", contents=pb.InferTensorContents(fp32_contents=[0.0] * MOST_BYTES))
    assert (peeked(request).parameter("a"), peeked(request).inputs()) == (None, (Tensor("y", "", ()),))
    many = pb.ModelInferRequest(inputs=[pb.ModelInferRequest.InferInputTensor(name=str(number)) for number in range(MOST_FIELDS + 5)])
    assert len(peeked(many).inputs()) == MOST_FIELDS


def test_headers_are_metadata_or_those_of_http() -> None:
    call = peeked(b"", metadata=(("a", "1"), ("b-bin", b"\xc3\xa4")), headers=[(b"a", b"2"), (b"x-user", b"me"), (b"x-user", b"you")])
    assert [call.header(name) for name in ("a", "b-bin", "x-user", "none")] == ["1", "ä", "me", None]


@pytest.mark.parametrize("payload", [b"\x22\x02\x0a", b"\x2a\x03\x0a\x05x", b"\x22\x03\x12\x01\xff"])
def test_a_request_that_cannot_be_read_is_refused(payload: bytes) -> None:
    with pytest.raises(Malformed, match="the request is no "):
        peeked(payload).parameter("a")
