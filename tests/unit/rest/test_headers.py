"""Headers: what becomes metadata, what does not, deadlines, and what comes back."""

from __future__ import annotations

import asyncio

import pytest

from mesh.protocols.inference_pb2 import ModelInferResponse
from mesh.wire.call import Answer, Call
from tests.unit.rest.door import Mesh, refused, tensor

BODY = tensor("INT8", [1], [1])


async def sent(**headers: str) -> Call:
    mesh = Mesh()
    answer = await mesh.infer(BODY, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status_code == 200, answer.text
    return mesh.calls[0]


async def test_headers_of_the_mesh_tracing_and_authorization_travel_and_others_do_not() -> None:
    call = await sent(
        Mm_Something="a", Traceparent="t", Tracestate="s", X_Request_Id="r", Authorization="Bearer z", Cookie="c", X_Other="o", Accept="*/*"
    )
    assert call.metadata == (
        ("mm-something", "a"),
        ("traceparent", "t"),
        ("tracestate", "s"),
        ("x-request-id", "r"),
        ("authorization", "Bearer z"),
    )


async def test_grpc_metadata_headers_travel_without_their_prefix_binary_ones_decoded() -> None:
    call = await sent(Grpc_Metadata_Some_Key="v", Grpc_Metadata_Blob_Bin="AAH/", Mm_Blob_Bin="AQ")
    assert set(call.metadata) == {("some-key", "v"), ("blob-bin", b"\0\1\xff"), ("mm-blob-bin", b"\1")}


@pytest.mark.parametrize("name", ["mm-model-id", "mm-vmodel-id", "mm-model-id-bin", "mm-vmodel-id-bin"])
async def test_the_path_names_the_model_whatever_the_headers_say(name: str) -> None:
    assert (await sent(**{name: "b3RoZXI="})).metadata == ()
    assert (await sent(**{"grpc-metadata-" + name: "b3RoZXI="})).metadata == ()


@pytest.mark.parametrize("name", ["grpc-timeout", "grpc-encoding", "content-type", "te", "user-agent"])
async def test_metadata_cannot_set_what_belongs_to_the_transport(name: str) -> None:
    assert (await sent(**{"grpc-metadata-" + name: "1S"})).metadata == ()


@pytest.mark.parametrize("header", ["mm-balanced", "grpc-metadata-mm-balanced"])
async def test_a_caller_may_say_that_it_balances(header: str) -> None:
    assert (await sent(**{header: "true"})).balanced
    assert not (await sent(**{header: "false"})).balanced


@pytest.mark.parametrize(
    ("value", "seconds"), [("2H", 7200), ("3M", 180), ("90S", 90), ("90000m", 90), ("90000000u", 90), ("99999999n", 0.099999999)]
)
async def test_a_grpc_timeout_becomes_a_deadline_on_the_clock_of_the_loop(value: str, seconds: float) -> None:
    before = asyncio.get_running_loop().time()
    call = await sent(Grpc_Timeout=value)
    assert call.deadline is not None
    assert before + seconds <= call.deadline <= asyncio.get_running_loop().time() + seconds


async def test_without_a_timeout_there_is_no_deadline() -> None:
    assert (await sent()).deadline is None


@pytest.mark.parametrize("value", ["5", "S", "5s", "-5S", "5.0S", "123456789S", ""])
async def test_a_malformed_timeout_is_refused(value: str) -> None:
    assert "header Grpc-Timeout" in await refused(BODY, headers={"Grpc-Timeout": value})


@pytest.mark.parametrize(
    ("header", "value", "text"),
    [
        ("mm-x-bin", "%", "the value of a name ending in '-bin' must be base64"),
        ("grpc-metadata-a!b", "v", "'a!b' is no name of gRPC metadata"),
        ("grpc-metadata-", "v", "'' is no name of gRPC metadata"),
    ],
)
async def test_a_header_that_grpc_cannot_carry_is_refused(header: str, value: str, text: str) -> None:
    error = await refused(BODY, headers={header: value})
    assert error.startswith(f"header {header}: ")
    assert text in error


async def test_a_value_outside_printable_ascii_is_refused() -> None:
    mesh = Mesh()
    answer = await mesh.send("GET", "/v2/models/iris", headers=[(b"x-request-id", b"\xe9")])
    assert answer.status_code == 400
    assert "outside printable ASCII" in answer.json()["error"]
    assert mesh.calls == []


async def test_headers_of_the_runtime_come_back_under_a_prefix() -> None:
    payload = ModelInferResponse(model_name="m").SerializeToString()
    mesh = Mesh(lambda _call, _payload: Answer(payload, headers=(("x-a", "1"), ("x-a", "2"), ("x-bin", b"\0"), ("x-odd", "a\r\nb"))))
    answer = await mesh.infer(BODY)
    assert answer.headers["grpc-metadata-x-a"] == "1, 2"
    assert answer.headers["grpc-metadata-x-bin"] == "AA=="
    assert answer.headers["grpc-metadata-x-odd"] == "a b"
