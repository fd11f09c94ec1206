"""The binary tensor extension: raw bytes behind the JSON part, both ways."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mesh.protocols.inference_pb2 import ModelInferResponse
from tests.unit.rest.door import Mesh, answering, proto, tensor

LENGTH = "Inference-Header-Content-Length"


async def post(mesh: Mesh, document: dict[str, Any], tail: bytes, length: str | None = None) -> Any:
    part = json.dumps(document).encode()
    headers = {LENGTH: str(len(part)) if length is None else length}
    return await mesh.send("POST", "/v2/models/iris/infer", content=part + tail, headers=headers)


def binary(size: object, shape: list[int] | None = None) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "INT16", "shape": shape or [2], "parameters": {"binary_data_size": size, "k": "v"}}]}


async def test_binary_inputs_go_raw_and_the_answer_is_json_unless_asked_otherwise() -> None:
    mesh = Mesh()
    answer = await post(mesh, binary(4), b"\1\0\2\0")
    assert list(mesh.request.raw_input_contents) == [b"\1\0\2\0"]
    assert dict(mesh.request.inputs[0].parameters).keys() == {"k"}
    assert LENGTH not in answer.headers
    assert answer.json()["outputs"][0]["data"] == [1, 2]


async def test_inputs_in_json_and_in_binary_may_stand_side_by_side() -> None:
    mesh = Mesh()
    document = tensor("BOOL", [1], [True])
    document["inputs"] += binary(4)["inputs"]
    await post(mesh, document, b"\1\0\2\0")
    assert list(mesh.request.raw_input_contents) == [b"\1", b"\1\0\2\0"]


async def test_all_outputs_are_binary_if_the_request_says_so_and_one_can_be_left_out() -> None:
    response = ModelInferResponse(model_name="m")
    for name in ("a", "b", "c"):
        response.outputs.add(name=name, datatype="UINT16", shape=[2]).contents.uint_contents.extend([1, 2])
    mesh = Mesh(answering(response))
    document = tensor("BOOL", [1], [True]) | {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
    }
    answer = await mesh.infer(document)
    length = int(answer.headers[LENGTH])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content[length:] == b"\1\0\2\0" * 2
    outputs = json.loads(answer.content[:length])["outputs"]
    assert [output.get("parameters") for output in outputs] == [{"binary_data_size": 4}, None, {"binary_data_size": 4}]
    assert outputs[1]["data"] == [1, 2]
    assert not mesh.request.parameters
    assert not mesh.request.outputs[1].parameters


async def test_one_output_alone_can_be_binary() -> None:
    answer = await Mesh().infer(tensor("BYTES", [2], ["a", "bc"]) | {"outputs": [{"name": "x", "parameters": {"binary_data": True}}]})
    assert answer.content[int(answer.headers[LENGTH]) :] == b"\1\0\0\0a\2\0\0\0bc"


async def test_a_raw_answer_in_a_datatype_unknown_here_passes_in_binary() -> None:
    response = ModelInferResponse(model_name="m", raw_output_contents=[b"abc"])
    response.outputs.add(name="y", datatype="FP8", shape=[3])
    answer = await Mesh(answering(response)).infer(tensor("BOOL", [1], [True]) | {"parameters": {"binary_data_output": True}})
    assert answer.content.endswith(b"abc")


@pytest.mark.parametrize(
    ("document", "tail", "length", "text"),
    [
        (binary(4), b"\1\0\2\0", "0", "0, a raw request without JSON, is not taken"),
        (binary(4), b"\1\0\2\0", "-1", "'-1' is no number of bytes"),
        (binary(4), b"\1\0\2\0", "x", "'x' is no number of bytes"),
        (binary(4), b"\1\0\2\0", "100000", "the JSON part has 100000 bytes, the body only"),
        (binary(4), b"\1\0\2\0", "9" * 30, "the body only"),
        (binary(4), b"\1\0\2", None, "input 'x': 'binary_data_size' is 4, but 3 bytes are left behind the JSON part"),
        (binary(4), b"\1\0\2\0\3", None, "1 bytes behind the JSON part belong to no input"),
        (binary("4"), b"\1\0\2\0", None, "input 'x': parameter 'binary_data_size' must be a whole number from 0"),
        (binary(-1), b"\1\0\2\0", None, "input 'x': parameter 'binary_data_size' must be a whole number from 0"),
        (binary(4, [3]), b"\1\0\2\0", None, "input 'x': its binary data has 4 bytes; 3 elements of INT16 take 6"),
        (tensor("INT8", [1], [1], parameters={"binary_data_size": 1}), b"\1", None, "input 'x': has both 'data' and 'binary_data_size'"),
        (proto("INT8", [1], intContents=[1]), b"\1", None, "1 bytes behind the JSON part belong to no input"),
    ],
)
async def test_a_binary_request_that_does_not_add_up_is_refused(document: Any, tail: bytes, length: str | None, text: str) -> None:
    mesh = Mesh()
    answer = await post(mesh, document, tail, length)
    assert answer.status_code == 400
    assert text in answer.json()["error"]
    assert mesh.calls == []


async def test_a_size_without_the_header_says_what_is_missing() -> None:
    answer = await Mesh().infer(binary(4))
    assert "set the header Inference-Header-Content-Length" in answer.json()["error"]


async def test_whether_an_output_is_binary_is_true_or_false() -> None:
    answer = await Mesh().infer(tensor("INT8", [1], [1]) | {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]})
    assert answer.json()["error"] == "output 'y': parameter 'binary_data' must be true or false"
