"""Errors of the mesh, statuses of the runtime, answers that contradict themselves, and bugs, as HTTP."""

from __future__ import annotations

import logging

import pytest

from mesh.core import errors
from mesh.core.errors import Code, MeshError
from mesh.doors.rest.errors import HTTP
from mesh.protocols.inference_pb2 import InferTensorContents, ModelInferResponse
from mesh.wire.call import Answer, RuntimeStatus
from tests.unit.rest.door import Mesh, answering, failing, proto, tensor

BODY = tensor("INT8", [1], [1])
TABLE = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]


def kinds(root: type[MeshError]) -> list[type[MeshError]]:
    return [kind for child in root.__subclasses__() for kind in (child, *kinds(child))]


@pytest.mark.parametrize("kind", [kind for kind in kinds(MeshError) if kind.__module__ == errors.__name__])
async def test_each_error_of_the_mesh_has_its_own_status_and_one_body(kind: type[MeshError]) -> None:
    answer = await Mesh(failing(kind("what happened"))).infer(BODY)
    assert answer.status_code == kind.http
    assert answer.json() == {"error": "what happened", "code": kind.code.value, "message": "what happened"}
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
async def test_a_status_of_the_runtime_passes_by_the_table_with_its_headers(code: Code) -> None:
    assert HTTP[code] == TABLE[code.value]
    status = RuntimeStatus(code, "its own words", headers=(("x-a", "b"),))
    answer = await Mesh(failing(status)).infer(BODY)
    assert answer.status_code == TABLE[code.value]
    assert answer.json() == {"error": "its own words", "code": code.value, "message": "its own words"}
    assert answer.headers["grpc-metadata-x-a"] == "b"


async def test_a_status_without_words_is_named() -> None:
    assert (await Mesh(failing(RuntimeStatus(Code.ABORTED, ""))).infer(BODY)).json()["error"] == "ABORTED"


async def test_unauthenticated_says_so_in_the_header_that_http_wants() -> None:
    answer = await Mesh(failing(RuntimeStatus(Code.UNAUTHENTICATED, 'Bearer realm="x"\r\nSet-Cookie: a'))).infer(BODY)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="x" Set-Cookie: a'
    assert "set-cookie" not in answer.headers


async def test_a_bug_is_answered_with_an_id_that_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await Mesh(failing(ZeroDivisionError("secret detail"))).infer(BODY)
    assert answer.status_code == 500
    assert answer.json()["code"] == 13
    assert "secret" not in answer.text
    (record,) = caplog.records
    number = record.getMessage().split()[1]
    assert number in answer.json()["error"]
    assert record.exc_info is not None


def raw(*buffers: bytes, datatype: str = "INT32", outputs: int = 1) -> ModelInferResponse:
    response = ModelInferResponse(model_name="m", raw_output_contents=buffers)
    for number in range(outputs):
        response.outputs.add(name=f"y{number}", datatype=datatype, shape=[2])
    return response


def typed(datatype: str, **contents: list[int]) -> ModelInferResponse:
    response = ModelInferResponse(model_name="m")
    response.outputs.add(name="y0", datatype=datatype, shape=[2]).contents.CopyFrom(InferTensorContents(**contents))  # type: ignore[arg-type]
    return response


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (raw(bytes(7)), "output 'y0' with shape [2], but its raw data has 7 bytes; 2 elements of INT32 take 8"),
        (raw(bytes(9)), "its raw data has 9 bytes"),
        (raw(bytes(8), outputs=2), "2 outputs with 1 raw buffers"),
        (raw(b"\1\0\0\0a\5\0\0\0b", datatype="BYTES"), "its raw data ends inside element 1"),
        (raw(b"\1\0\0\0a", datatype="BYTES"), "its raw data has 1 elements of BYTES; its shape takes 2"),
        (raw(bytes(8), datatype="STRING"), "output 'y0' in the unknown datatype 'STRING'"),
        (raw(), "output 'y0' without data: int_contents is empty"),
        (raw(datatype="FP16"), "output 'y0' without raw_output_contents, which FP16 needs"),
        (typed("INT32", int64_contents=[1, 2]), "output 'y0' without data: int_contents is empty"),
    ],
)
@pytest.mark.parametrize("body", [BODY, proto("INT8", [1], intContents=[1])])
async def test_an_answer_that_contradicts_itself_is_a_500_that_names_the_output(
    response: ModelInferResponse, text: str, body: dict[str, object]
) -> None:
    answer = await Mesh(answering(response)).infer(body)
    assert answer.status_code == 500
    assert answer.json()["code"] == 13
    assert text in answer.json()["error"]


async def test_a_typed_value_that_its_datatype_cannot_hold_is_a_500_if_asked_for_in_binary() -> None:
    answer = await Mesh(answering(typed("INT8", int_contents=[1, 300]))).infer(BODY | {"parameters": {"binary_data_output": True}})
    assert answer.status_code == 500
    assert "a value that INT8 cannot hold" in answer.json()["error"]


async def test_an_answer_that_is_no_message_is_a_500() -> None:
    answer = await Mesh(lambda _call, _payload: Answer(b"\xff\xff")).infer(BODY)
    assert answer.status_code == 500
    assert answer.json()["error"] == "the runtime's answer is no inference.ModelInferResponse"


async def test_an_empty_answer_has_no_outputs() -> None:
    assert (await Mesh(lambda _call, _payload: Answer(b"")).infer(BODY)).json() == {"model_name": "", "outputs": []}
