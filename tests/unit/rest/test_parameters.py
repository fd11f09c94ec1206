"""Parameters keep their kind in both directions."""

from __future__ import annotations

from typing import Any

import pytest

from mesh.protocols.inference_pb2 import ModelInferResponse
from tests.unit.rest.door import Mesh, answering, tensor


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        ("text", "string_param"),
        ("", "string_param"),
        (True, "bool_param"),
        (False, "bool_param"),
        (0, "int64_param"),
        (-(2**63), "int64_param"),
        (2**63 - 1, "int64_param"),
        (2**63, "uint64_param"),
        (2**64 - 1, "uint64_param"),
        (1.5, "double_param"),
        (1.0, "double_param"),
        (1e30, "double_param"),
        (None, None),
    ],
)
async def test_a_json_value_becomes_the_parameter_of_its_kind_and_comes_back(value: Any, choice: str | None) -> None:
    mesh = Mesh()
    document = tensor("INT8", [1], [1], parameters={"p": value}) | {
        "parameters": {"p": value},
        "outputs": [{"name": "x", "parameters": {"p": value}}],
    }
    await mesh.infer(document)
    sent = mesh.request
    for holder in (sent, sent.inputs[0], sent.outputs[0]):
        assert holder.parameters["p"].WhichOneof("parameter_choice") == choice
    response = ModelInferResponse(model_name="m", parameters=sent.parameters)
    response.outputs.add(name="x", datatype="INT8", shape=[1], parameters=sent.parameters).contents.int_contents.append(1)
    answer = (await Mesh(answering(response)).infer(document)).json()
    assert answer["parameters"] == answer["outputs"][0]["parameters"] == {"p": value}
    assert type(answer["parameters"]["p"]) is type(value)


async def test_a_parameter_that_is_nan_is_answered_as_a_string() -> None:
    response = ModelInferResponse(model_name="m")
    response.parameters["p"].double_param = float("nan")
    assert (await Mesh(answering(response)).infer(tensor("INT8", [1], [1]))).json()["parameters"] == {"p": "NaN"}
