"""The standard v2 form: what a request becomes, and how the answer is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.protocols.inference_pb2 import InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse
from mesh.wire.call import Target
from tests.unit.rest.door import Mesh, answering, refused, tensor

DIGIT = [0.0, 0.0, 1.0, 11.0, 14.0, 15.0, 3.0, 0.0, 0.0, 1.0, 13.0, 16.0, 12.0, 16.0, 8.0, 0.0] * 8


def nested(values: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) == 1:
        return values
    size = len(values) // shape[0]
    return [nested(values[start : start + size], shape[1:]) for start in range(0, len(values), size)]


@pytest.mark.parametrize(("shape", "nest"), [([2, 64], False), ([2, 64], True), ([2, 2, 32], True), ([2, 2, 2, 16], True)])
async def test_flat_and_nested_data_of_any_rank_become_the_same_flat_tensor(shape: list[int], nest: bool) -> None:
    mesh = Mesh()
    document = tensor(
        "FP32",
        shape,
        nested(DIGIT, shape) if nest else DIGIT,
        parameters={"content_type": "str", "headers": None, "int_param": 42, "bool_param": True},
    )
    document |= {"id": "foo", "parameters": {"top_level": "foo", "bool_param": False}}
    assert (await mesh.infer(document)).status_code == 200
    expected = ModelInferRequest(
        model_name="iris",
        id="foo",
        parameters={"top_level": InferParameter(string_param="foo"), "bool_param": InferParameter(bool_param=False)},
        inputs=[
            ModelInferRequest.InferInputTensor(
                name="x",
                datatype="FP32",
                shape=shape,
                contents=InferTensorContents(fp32_contents=DIGIT),
                parameters={
                    "content_type": InferParameter(string_param="str"),
                    "headers": InferParameter(),
                    "int_param": InferParameter(int64_param=42),
                    "bool_param": InferParameter(bool_param=True),
                },
            )
        ],
    )
    assert mesh.request == expected
    assert mesh.calls[0].method == "inference.GRPCInferenceService/ModelInfer"
    assert mesh.calls[0].target == Target(either="iris")


@pytest.mark.parametrize(
    ("shape", "data", "content_type", "expected"),
    [
        ([2], ["My UTF8 String", "Another string"], None, [b"My UTF8 String", b"Another string"]),
        ([1], [[77, 121, 32, 85, 84, 70, 56, 32, 83, 116, 114, 105, 110, 103]], None, [b"My UTF8 String"]),
        ([2, 1], [["String1"], ["String2"]], None, [b"String1", b"String2"]),
        ([2, 1], ["String1", "String2"], "str", [b"String1", b"String2"]),
        ([2, 1], [[[83, 49]], [[83, 49, 50]]], None, [b"S1", b"S12"]),
        ([2, 1], ["TXkgVVRGOCBTdHJpbmc=", "QW5vdGhlciBzdHJpbmc="], "base64", [b"My UTF8 String", b"Another string"]),
        ([1], ["QQ=="], "B64", [b"A"]),
        ([1], ["\u00e9\u4e2d\n"], None, "é中\n".encode()),
        ([2], [[], []], None, [b"", b""]),
        ([2, 0], [[], []], None, []),
        ([0], [], None, []),
    ],
)
async def test_bytes_come_as_strings_base64_or_lists_of_byte_values(
    shape: list[int], data: object, content_type: str | None, expected: list[bytes] | bytes
) -> None:
    mesh = Mesh()
    extra = {"parameters": {"content_type": content_type}} if content_type else {}
    assert (await mesh.infer(tensor("BYTES", shape, data, **extra))).status_code == 200
    sent = mesh.request.inputs[0]
    assert list(sent.contents.bytes_contents) == (expected if isinstance(expected, list) else [expected])
    assert sent.parameters["content_type"].string_param == (content_type or "")


async def test_an_answer_has_the_keys_in_the_order_and_spelling_that_clients_know() -> None:
    response = ModelInferResponse(
        model_name="example",
        id="foo",
        parameters={
            "content_type": InferParameter(string_param="bar"),
            "headers": InferParameter(),
            "int_param": InferParameter(int64_param=12345),
            "bool_param": InferParameter(bool_param=False),
        },
    )
    response.outputs.add(name="predict", datatype="INT64", shape=[2]).contents.int64_contents.extend([8, 8])
    answer = await Mesh(answering(response)).infer(tensor("INT64", [1], [1]))
    assert answer.headers["content-type"] == "application/json"
    assert answer.text == (
        '{"model_name":"example","id":"foo","parameters":{"bool_param":false,"content_type":"bar","headers":null,"int_param":12345},'
        '"outputs":[{"name":"predict","datatype":"INT64","shape":[2],"data":[8,8]}]}'
    )


async def test_a_raw_answer_is_unpacked() -> None:
    response = ModelInferResponse(model_name="m", model_version="3", raw_output_contents=[b"\7" + bytes(7), b"\1\xff"])
    response.outputs.add(name="a", datatype="INT64", shape=[1])
    response.outputs.add(name="b", datatype="UINT8", shape=[2])
    answer = (await Mesh(answering(response)).infer(tensor("INT64", [1], [1]))).json()
    assert answer["model_version"] == "3"
    assert [output["data"] for output in answer["outputs"]] == [[7], [1, 255]]


@pytest.mark.parametrize(
    ("values", "request_extra", "output_extra", "data", "parameters"),
    [
        ([b"hello", "é".encode()], {}, {}, ["hello", "é"], None),
        ([b"\xff\xfe", b"A"], {}, {}, ["//4=", "QQ=="], {"content_type": "base64"}),
        ([b"A"], {"parameters": {"content_type": "base64"}}, {}, ["QQ=="], {"content_type": "base64"}),
        ([b"A"], {"outputs": [{"name": "y", "parameters": {"content_type": "base64"}}]}, {}, ["QQ=="], {"content_type": "base64"}),
        ([b"QQ=="], {"parameters": {"content_type": "base64"}}, {"content_type": "base64"}, ["QQ=="], {"content_type": "base64"}),
        ([b"\xff"], {}, {"content_type": "str"}, ["/w=="], {"content_type": "base64"}),
    ],
)
async def test_bytes_are_answered_as_text_unless_that_is_impossible_or_base64_was_asked_for(
    values: list[bytes], request_extra: dict[str, Any], output_extra: dict[str, str], data: list[str], parameters: dict[str, str] | None
) -> None:
    response = ModelInferResponse(model_name="m")
    output = response.outputs.add(name="y", datatype="BYTES", shape=[len(values)])
    output.contents.bytes_contents.extend(values)
    for name, value in output_extra.items():
        output.parameters[name].string_param = value
    answer = (await Mesh(answering(response)).infer(tensor("INT64", [1], [1]) | request_extra)).json()["outputs"][0]
    assert answer["data"] == data
    assert answer.get("parameters") == parameters


async def test_float32_is_printed_in_few_digits_that_read_back_the_same() -> None:
    answer = await Mesh().infer(tensor("FP32", [3], [0.012412078, 0.1, 16777216]))
    assert '"data":[0.012412078,0.1,16777216.0]' in answer.text


async def test_nan_and_infinities_are_taken_as_literals_and_strings_and_answered_as_strings() -> None:
    mesh = Mesh()
    answer = await mesh.infer(tensor("FP32", [6], [float("nan"), float("inf"), float("-inf"), "NaN", "Infinity", "-Infinity"]))
    assert answer.json()["outputs"][0]["data"] == ["NaN", "Infinity", "-Infinity"] * 2


async def test_a_half_precision_input_makes_every_input_raw() -> None:
    mesh = Mesh()
    document = tensor("FP16", [2], [1.0, "NaN"])
    document["inputs"].append({"name": "y", "datatype": "INT32", "shape": [1], "data": [5]})
    document["inputs"].append({"name": "z", "datatype": "BYTES", "shape": [1], "data": ["ab"]})
    answer = await mesh.infer(document)
    assert list(mesh.request.raw_input_contents) == [b"\x00\x3c\x00\x7e", b"\5\0\0\0", b"\2\0\0\0ab"]
    assert not any(item.HasField("contents") for item in mesh.request.inputs)
    assert [output["data"] for output in answer.json()["outputs"]] == [[1.0, "NaN"], [5], ["ab"]]


async def test_bfloat16_rounds_to_nearest_even() -> None:
    mesh = Mesh()
    await mesh.infer(tensor("BF16", [4], [1.0, 1.00390625, 1.01171875, "NaN"]))
    assert mesh.request.raw_input_contents[0] == bytes.fromhex("803f 803f 823f c07f")


async def test_requested_outputs_travel_with_their_parameters() -> None:
    mesh = Mesh()
    await mesh.infer(tensor("INT64", [1], [1]) | {"outputs": [{"name": "y", "parameters": {"classification": 2}}, {"name": "z"}]})
    assert [output.name for output in mesh.request.outputs] == ["y", "z"]
    assert mesh.request.outputs[0].parameters["classification"].int64_param == 2


async def test_the_model_in_the_path_wins_over_one_in_the_body() -> None:
    mesh = Mesh()
    document = tensor("INT64", [1], [1]) | {"model_name": "other", "model_version": "9"}
    await mesh.send("POST", "/v2/models/iris/versions/2/infer", content=json.dumps(document))
    assert (mesh.request.model_name, mesh.request.model_version) == ("iris", "2")
    assert list(mesh.request.inputs[0].contents.int64_contents) == [1]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (tensor("FP32", [2, 2], [[1, 2], [3]]), "input 'x': 'data' is ragged at depth 2"),
        (tensor("FP32", [2], [[1], 2]), "input 'x': 'data' is ragged"),
        (tensor("FP32", [2, 3], [[1, 2], [3, 4], [5, 6]]), "input 'x': 'data' is nested as [3, 2]; shape says [2, 3]"),
        (tensor("FP32", [3], [1, 2]), "input 'x': shape [3] takes 3 elements; 'data' has 2"),
        (tensor("FP32", [1], 5), "input 'x': 'data' must be a list"),
        (tensor("FP32", [1], None), "input 'x': 'data' must be a list"),
        (tensor("FP32", [-1], [1]), "input 'x': the dimensions in 'shape' must be whole numbers from 0; -1 is not"),
        (tensor("FP32", ["1"], [1]), "input 'x': the dimensions in 'shape'"),
        (tensor("FP32", [True], [1]), "input 'x': the dimensions in 'shape'"),
        (tensor("fp32", [1], [1]), "input 'x': datatype 'fp32' is unknown; use one of BOOL"),
        (tensor("FP32", [1], ["1.0"]), "input 'x': element 0 of datatype FP32 must be a number"),
        (tensor("FP32", [2], [1, 1e39]), "input 'x': element 1 of datatype FP32 must be a number up to ±3.4028235e+38"),
        (tensor("FP32", [2], [float("nan"), 1e39]), "input 'x': element 1 of datatype FP32"),
        (tensor("FP16", [1], [65505]), "input 'x': element 0 of datatype FP16 must be a number up to ±65504"),
        (tensor("INT8", [2], [127, 128]), "input 'x': element 1 of datatype INT8 must be a whole number from -128 to 127; 128 is not"),
        (tensor("UINT8", [1], [-1]), "input 'x': element 0 of datatype UINT8 must be a whole number from 0 to 255"),
        (tensor("INT16", [1], [2**15]), "datatype INT16"),
        (tensor("UINT16", [1], [2**16]), "datatype UINT16"),
        (tensor("INT32", [1], [2**31]), "datatype INT32"),
        (tensor("UINT32", [1], [2**32]), "datatype UINT32"),
        (tensor("INT64", [1], [2**63]), "datatype INT64"),
        (tensor("UINT64", [1], [2**64]), "datatype UINT64"),
        (tensor("INT64", [1], [1.0]), "input 'x': element 0 of datatype INT64 must be a whole number"),
        (tensor("INT64", [1], [True]), "element 0 of datatype INT64 must be a whole number from -9223372036854775808"),
        (tensor("BOOL", [2], [True, 1]), "input 'x': element 1 of datatype BOOL must be true or false; 1 is not"),
        (tensor("BYTES", [2], [65, 66]), "input 'x': 'data' of datatype BYTES must be a list of strings, or of lists of byte values"),
        (tensor("BYTES", [2], ["a", 66]), "input 'x': 'data' of datatype BYTES must be"),
        (tensor("BYTES", [1], [[256]]), "input 'x': 'data' has a list with a number that is no byte"),
        (tensor("BYTES", [2], [["a", 66]]), "input 'x': 'data' mixes strings, numbers and lists"),
        (tensor("BYTES", [2], ["a"]), "input 'x': shape [2] takes 2 elements; 'data' has 1"),
        (tensor("BYTES", [1], ["%"], parameters={"content_type": "base64"}), "input 'x': 'data' has a string that is not base64"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1]}]}, "input 'x': has neither 'data' nor the parameter"),
        ({"inputs": [{"datatype": "FP32", "shape": [1], "data": [1]}]}, "inputs[0]: 'name' must be a non-empty string; it is missing"),
        ({"inputs": [{"name": "x", "shape": [1], "data": [1]}]}, "input 'x': 'datatype' must be a non-empty string; it is missing"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "data": [1]}]}, "input 'x': 'shape' must be a list of numbers; it is missing"),
        ({"inputs": [5]}, "request: inputs[0] must be an object"),
        ({"inputs": {}}, "request: 'inputs' must be a list of objects"),
        ({}, "request: 'inputs' is missing"),
        (tensor("FP32", [1], [1]) | {"id": 5}, "request: 'id' must be a string"),
        (tensor("FP32", [1], [1]) | {"parameters": []}, "request: 'parameters' must be an object"),
        (tensor("FP32", [1], [1], parameters={"p": [1]}), "input 'x': parameter 'p' must be a string, a number, true, false or null"),
        (tensor("FP32", [1], [1]) | {"parameters": {"p": {}}}, "request: parameter 'p' must be a string, a number"),
        (tensor("FP32", [1], [1]) | {"outputs": [{"name": "y", "parameters": {"p": []}}]}, "output 'y': parameter 'p' must be"),
        (tensor("FP32", [1], [1]) | {"outputs": [{}]}, "outputs[0]: 'name' must be a non-empty string"),
    ],
)
async def test_a_wrong_tensor_is_refused_by_name_and_never_reaches_the_mesh(document: object, text: str) -> None:
    assert text in await refused(document)
