"""The id of a request: read from what its sender sent, kept along hops, given back with an answer that was no plain hit."""

from __future__ import annotations

import pytest

from mesh.core.errors import Code, Unknown
from mesh.core.ids import ModelId, PodId
from mesh.core.routing.hops import Hop, Kind
from mesh.protocols.inference_pb2 import ModelInferResponse
from mesh.wire.call import REQUEST_ID, Answer, Call, Metadata, RuntimeStatus
from mesh.wire.headers import to_runtime
from mesh.wire.hops import to_peer
from tests.unit.rest.door import Mesh, failing

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ((), ""),
        (((REQUEST_ID, "a"), ("x-request-id", "b"), ("traceparent", PARENT)), "a"),
        ((("traceparent", PARENT), ("x-request-id", "b")), "b"),
        ((("traceparent", PARENT),), TRACE),
        ((("traceparent", "garbage"),), ""),
        ((("traceparent", f"00-{TRACE[:-1]}-00f067aa0ba902b7-01"),), ""),
        (((REQUEST_ID, ""), ("x-request-id", b"\xff")), ""),
    ],
)
def test_it_is_the_senders_by_the_most_particular_header(metadata: Metadata, found: str) -> None:
    assert Call("a/B", metadata).request_id() == found


def test_one_that_the_mesh_gave_goes_along_hops_and_never_to_a_runtime() -> None:
    hop = Hop(Kind.LOAD, ModelId("m"), PodId("a"), PodId("b"), request="r-1")
    sent = to_peer((("x", "y"),), hop)
    assert Call("a/B", sent).request_id() == "r-1"
    assert to_peer(((REQUEST_ID, "mine"),), hop)[:1] == ((REQUEST_ID, "mine"),)
    assert [value for name, value in to_peer(((REQUEST_ID, "mine"),), hop) if name == REQUEST_ID] == ["mine"]
    assert REQUEST_ID not in dict(to_runtime(sent, ModelId("m")))


async def test_over_rest_it_is_a_header_of_answers_and_errors() -> None:
    payload = ModelInferResponse(model_name="iris").SerializeToString()
    given = await Mesh(lambda _call, _payload: Answer(payload, trailers=((REQUEST_ID, "r-1"),))).infer(BODY)
    assert (given.status_code, given.headers[REQUEST_ID]) == (200, "r-1")
    plain = await Mesh(lambda _call, _payload: Answer(payload)).infer(BODY)
    assert REQUEST_ID not in plain.headers
    error = Unknown("gone")
    error.request = "r-2"
    assert (await Mesh(failing(error)).infer(BODY)).headers[REQUEST_ID] == "r-2"
    status = RuntimeStatus(Code.INTERNAL, "broken", trailers=((REQUEST_ID, "r-3"),))
    assert (await Mesh(failing(status)).infer(BODY)).headers[REQUEST_ID] == "r-3"
