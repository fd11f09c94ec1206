"""The proto3 JSON form of the walkthrough: asked in it, answered in it."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from mesh.protocols.inference_pb2 import ModelInferResponse
from tests.unit.rest.door import Mesh, answering, proto, refused, tensor


async def test_the_walkthrough_is_answered_with_64_bit_numbers_as_strings() -> None:
    response = ModelInferResponse(model_name="sklearn-mnist__isvc-3c10c62d34")
    response.outputs.add(name="predict", datatype="INT64", shape=[1, 1]).contents.int64_contents.append(8)
    mesh = Mesh(answering(response))
    answer = await mesh.infer(proto("FP32", [1, 64], fp32_contents=[float(i) for i in range(64)]))
    assert answer.json() == {
        "modelName": "sklearn-mnist__isvc-3c10c62d34",
        "outputs": [{"name": "predict", "datatype": "INT64", "shape": ["1", "1"], "contents": {"int64Contents": ["8"]}}],
    }
    assert list(mesh.request.inputs[0].contents.fp32_contents) == list(range(64))


async def test_text_travels_as_base64_with_its_parameters() -> None:
    response = ModelInferResponse(model_name="peft-demo")
    output = response.outputs.add(name="output-0", datatype="BYTES", shape=[1, 1])
    output.parameters["content_type"].string_param = "str"
    output.contents.bytes_contents.append(b"Tweet text")
    mesh = Mesh(answering(response))
    answer = await mesh.infer(proto("BYTES", [1], bytes_contents=[b64encode(b"Every day").decode()]))
    assert answer.json()["outputs"] == [
        {
            "name": "output-0",
            "datatype": "BYTES",
            "shape": ["1", "1"],
            "parameters": {"content_type": {"stringParam": "str"}},
            "contents": {"bytesContents": [b64encode(b"Tweet text").decode()]},
        }
    ]
    assert list(mesh.request.inputs[0].contents.bytes_contents) == [b"Every day"]


@pytest.mark.parametrize("key", ["int64_contents", "int64Contents"])
@pytest.mark.parametrize("values", [[5, -6], ["5", "-6"]])
@pytest.mark.parametrize("shape", [[2], ["2"]])
async def test_names_in_either_case_and_numbers_as_strings_are_taken(key: str, values: list[Any], shape: list[Any]) -> None:
    mesh = Mesh()
    answer = await mesh.infer(proto("INT64", shape, **{key: values}))
    assert list(mesh.request.inputs[0].contents.int64_contents) == [5, -6]
    assert answer.json()["outputs"][0]["contents"] == {"int64Contents": ["5", "-6"]}


async def test_nan_and_infinities_are_strings_both_ways() -> None:
    answer = await Mesh().infer(proto("FP64", [4], fp64Contents=["NaN", "Infinity", "-Infinity", "1.5e3"]))
    assert answer.json()["outputs"][0]["contents"] == {"fp64Contents": ["NaN", "Infinity", "-Infinity", 1500.0]}


async def test_parameters_are_named_choices_both_ways() -> None:
    response = ModelInferResponse(model_name="m", model_version="2", id="7")
    response.parameters["b"].bool_param = True
    response.parameters["d"].double_param = 0.5
    response.parameters["i"].int64_param = -1
    response.parameters["n"].SetInParent()
    response.parameters["u"].uint64_param = 2**64 - 1
    mesh = Mesh(answering(response))
    sent = {"b": {"bool_param": True}, "d": {"doubleParam": 0.5}, "i": {"int64Param": "-1"}, "n": {}, "u": {"uint64Param": str(2**64 - 1)}}
    answer = await mesh.infer(proto("INT32", [1], intContents=[1]) | {"id": "7", "parameters": sent, "outputs": [{"name": "y"}]})
    assert dict(mesh.request.parameters) == dict(response.parameters)
    assert [output.name for output in mesh.request.outputs] == ["y"]
    assert answer.json() == {
        "modelName": "m",
        "modelVersion": "2",
        "id": "7",
        "parameters": sent | {"b": {"boolParam": True}},
        "outputs": [],
    }


@pytest.mark.parametrize("key", ["raw_input_contents", "rawInputContents"])
async def test_raw_contents_go_raw_and_a_raw_answer_is_shown_typed(key: str) -> None:
    mesh = Mesh()
    document = {"inputs": [{"name": "x", "datatype": "INT32", "shape": [2]}], key: [b64encode(b"\1\0\0\0\2\0\0\0").decode()]}
    answer = await mesh.infer(document)
    assert list(mesh.request.raw_input_contents) == [b"\1\0\0\0\2\0\0\0"]
    assert answer.json()["outputs"][0]["contents"] == {"intContents": [1, 2]}


async def test_an_answer_with_half_precision_stays_raw_as_no_typed_field_holds_it() -> None:
    document = {
        "inputs": [{"name": "x", "datatype": "FP16", "shape": [1]}, {"name": "y", "datatype": "INT8", "shape": [1]}],
        "rawInputContents": ["ADw=", "BQ=="],
    }
    answer = (await Mesh().infer(document)).json()
    assert answer["rawOutputContents"] == ["ADw=", "BQ=="]
    assert not any("contents" in output for output in answer["outputs"])


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (
            {"inputs": [*proto("INT32", [1], intContents=[1])["inputs"], *tensor("INT32", [1], [1])["inputs"]]},
            "the request mixes two forms: 'data' (v2) and 'contents'",
        ),
        (tensor("INT32", [1], [1]) | {"rawInputContents": ["AAAAAA=="]}, "the request mixes two forms"),
        (proto("FP32", [1], fp32_content=[1]), "input 'x': 'contents' has no field 'fp32_content'; FP32 goes into fp32_contents"),
        (proto("INT64", [1], int_contents=[1]), "input 'x': datatype INT64 goes into int64_contents, not int_contents"),
        (proto("FP32", [2], fp32_contents=[1]), "input 'x': shape [2] takes 2 elements; 'contents' has 1"),
        (proto("FP32", [1], fp32_contents=5), "input 'x': fp32_contents must be a list"),
        (proto("INT8", [1], int_contents=[128]), "input 'x': element 0 of datatype INT8 must be a whole number from -128 to 127"),
        (proto("INT64", [1], int64_contents=["1.5"]), "input 'x': '1.5' is no value of datatype INT64"),
        (proto("FP32", [1], fp32_contents=["one"]), "input 'x': 'one' is no value of datatype FP32"),
        (proto("FP64", [1], fp64_contents=["1e999"]), "input 'x': '1e999' is no value of datatype FP64"),
        (proto("BYTES", [1], bytes_contents=["%"]), "input 'x': element 0 of bytes_contents: must be a base64 string"),
        (proto("FP16", [1]), "input 'x': FP16 has no field in 'contents'; send it in rawInputContents"),
        (proto("FP64", ["x"], fp64_contents=[1]), "input 'x': the dimensions in 'shape' must be whole numbers from 0; 'x' is not"),
        (proto("INT32", [1], intContents=[1]) | {"parameters": {"p": "plain"}}, "request: parameter 'p' must be an object with one of"),
        (proto("INT32", [1], intContents=[1]) | {"parameters": {"p": {"x": 1}}}, "request: parameter 'p': 'x' is none of boolParam"),
        (proto("INT32", [1], intContents=[1]) | {"parameters": {"p": {"stringParam": 1}}}, "1 is no value for stringParam"),
        (proto("INT32", [1], intContents=[1]) | {"parameters": {"p": {"int64Param": "x"}}}, "'x' is no value of datatype INT64"),
        ({"inputs": [], "rawInputContents": ["AA=="]}, "request: there are 0 inputs, but 1 rawInputContents"),
        ({"inputs": [], "rawInputContents": "AA=="}, "request: 'rawInputContents' must be a list of base64 strings"),
        (
            {"inputs": [{"name": "x", "datatype": "INT32", "shape": [1]}], "rawInputContents": ["AA=="]},
            "input 'x': its element of rawInputContents has 1 bytes; 1 elements of INT32 take 4",
        ),
        (proto("INT8", [1], intContents=[1]) | {"rawInputContents": ["AA=="]}, "input 'x': has 'contents' beside rawInputContents"),
    ],
)
async def test_a_wrong_tensor_is_refused_by_name(document: object, text: str) -> None:
    assert text in await refused(document)
