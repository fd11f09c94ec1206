"""The lane's REST port before the Python door: calls of resident models are answered as the door answers them, all else by the door."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from grpc import StatusCode

from tests.lane.conftest import LARGEST, PYTHONS, RULES, V2, Pod, a_lane
from tests.support.mesh import Mesh
from tests.support.waiting import PATIENCE, until

METHOD = f"{V2}/ModelInfer"
OK, CANCELLED = 0, 1
AS_SENT: Any = ([(METHOD, ([1], False, True, []))], ([], False, False, []), PYTHONS)
"""The scripted runtime does not ask for the id in the request."""
JSON_LENGTH = "inference-header-content-length"
VARYING = ("date", "content-length", "mm-request-id", JSON_LENGTH)
"""Headers that differ from answer to answer, or with the spelling of numbers."""


@pytest.fixture(scope="module")
def pod(mesh: Mesh) -> Iterator[Pod]:
    behind = f"127.0.0.1:{mesh.router.ports['rest']}"
    with a_lane(mesh, rest=("127.0.0.1:0", behind), workers=1) as pod:
        pod.published(rules=AS_SENT)
        yield pod


@pytest.fixture(scope="module", autouse=True)
def slow(pod: Pod) -> Iterator[socket.socket]:
    """A connection whose first head began with this module, and goes on with none of its stories."""
    with connection(pod) as stream:
        stream.sendall(b"GET /v2 HTTP/1.1\r\n")
        yield stream


@pytest.fixture
def doors(pod: Pod) -> Iterator[Doors]:
    with httpx.Client(trust_env=False, timeout=60) as lane, httpx.Client(trust_env=False, timeout=60) as python:
        lane.base_url, python.base_url = httpx.URL(f"http://{pod.lane.rest_address}"), httpx.URL(pod.mesh.router.rest)
        yield Doors(pod, lane, python)


class Doors:
    """Clients of the lane and of the Python door behind it."""

    def __init__(self, pod: Pod, lane: httpx.Client, python: httpx.Client) -> None:
        self.pod, self.lane, self.python = pod, lane, python

    def straight(self, model: str, code: int = OK) -> int:
        """Calls of a model that the lane answered itself since this was asked last."""
        return sum(
            calls for (name, _, method, found, (calls, *_), *_) in self.pod.lane.collect() if (name, method, found) == (model, METHOD, code)
        )

    def alike(self, method: str, path: str, **request: Any) -> httpx.Response:
        """The lane's answer, which is the Python door's but for its date."""
        found, expected = (door.request(method, path, **request) for door in (self.lane, self.python))
        assert (found.status_code, comparable(found)) == (expected.status_code, comparable(expected))
        return found

    def infer(self, model: str, **request: Any) -> httpx.Response:
        """`alike` of an inference."""
        return self.alike("POST", f"/v2/models/{model}/infer", **request)


def comparable(answer: httpx.Response) -> tuple[dict[str, str], Any, bytes]:
    """Headers, JSON and raw tensors of an answer."""
    headers = {name: value for name, value in answer.headers.items() if name not in VARYING}
    length = int(answer.headers.get(JSON_LENGTH, len(answer.content)))
    text = answer.content[:length]
    return headers, json.loads(text) if text.startswith(b"{") else text, answer.content[length:]


def tensor(datatype: str, shape: list[int], data: Any, **more: Any) -> dict[str, Any]:
    """A request of one tensor."""
    return {"inputs": [{"name": "a", "shape": shape, "datatype": datatype, "data": data} | more]}


def asking(command: str) -> dict[str, Any]:
    """A request that the scripted runtime obeys."""
    return tensor("INT8", [1], [1]) | {"parameters": {"test": f"test:{command}"}}


def raw(data: bytes, **request: Any) -> dict[str, Any]:
    """A request with a raw tensor behind its JSON, as httpx takes it."""
    item = {"name": "a", "shape": [len(data) // 4], "datatype": "FP32", "parameters": {"binary_data_size": len(data)}}
    text = json.dumps({"inputs": [item]} | request).encode()
    return {"content": text + data, "headers": {JSON_LENGTH: str(len(text))}}


# Which are answered

BODIES: dict[str, dict[str, Any]] = {
    "flat": tensor("FP32", [2, 2], [0.1, 2, 1e-20, "NaN"]),
    "nested": tensor("INT64", [2, 1], [[-(2**63)], [2**63 - 1]]) | {"id": "é", "parameters": {"x": 1.5, "y": None}},
    "strings": tensor("BYTES", [2], ["é\n", '"']),
    "base64": tensor("BYTES", [1], ["/w=="], parameters={"content_type": "base64"}),
    "halves": tensor("FP16", [3], [1.5, 65504, 1e-7]),
    "wanted": tensor("UINT16", [2], [1, 65535]) | {"outputs": [{"name": "a", "parameters": {"binary_data": True}}]},
    "all wanted": tensor("BOOL", [2], [True, False]) | {"parameters": {"binary_data_output": True}},
    "nothing": {"inputs": []},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_resident_model_is_called_straight(doors: Doors, model: str, body: dict[str, Any]) -> None:
    doors.pod.resident(model)
    assert doors.infer(model, json=body).status_code == 200
    assert doors.straight(model) == 1


def test_raw_tensors_come_back_as_they_were_sent(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    data = struct.pack("<3f", 1.5, float("nan"), -0.0)
    found = doors.infer(model, **raw(data, parameters={"binary_data_output": True}))
    assert found.content.endswith(data)
    doors.infer(model, **raw(data))
    assert doors.straight(model) == 2


def test_a_body_of_megabytes_is_answered(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    numbers = [number / 7 for number in range(200_000)]
    found = doors.infer(model, json=tensor("FP32", [2, 100_000], [numbers[:100_000], numbers[100_000:]]))
    assert found.json()["outputs"][0]["data"] == list(struct.unpack("<200000f", struct.pack("<200000f", *numbers)))
    assert doors.straight(model) == 1


def test_version_and_name_are_those_of_the_path(doors: Doors, model: str) -> None:
    name = f"{model}/é x"
    doors.pod.resident(name)
    found = doors.alike("POST", f"/v2/models/{model}%2F%C3%A9%20x/versions/7/infer", json=tensor("INT8", [1], [1]))
    assert (found.json()["model_name"], found.json()["model_version"]) == (name, "7")
    assert doors.straight(name) == 1


def test_an_alias_leads_to_its_model(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    doors.pod.client.set_alias(f"alias-{model}", model)
    doors.pod.published(aliases=[(f"alias-{model}", model)])
    doors.infer(f"alias-{model}", json=tensor("INT8", [1], [1]))
    doors.pod.published(rules=RULES)
    try:
        found = doors.lane.post(f"/v2/models/alias-{model}/infer", json=tensor("INT8", [1], [1]))
    finally:
        doors.pod.published(rules=AS_SENT)
    assert found.json()["model_name"] == model
    assert doors.straight(model) == 2


@pytest.mark.parametrize(
    "code", ["INVALID_ARGUMENT", "INTERNAL", "UNAUTHENTICATED", "FAILED_PRECONDITION", "ABORTED", "DATA_LOSS", "CANCELLED"]
)
def test_a_status_of_the_runtime_is_told_as_the_door_tells_it(doors: Doors, model: str, code: str) -> None:
    doors.pod.resident(model)
    assert doors.infer(model, json=asking(f'error:code={code}:message=é "broken"')).status_code >= 400
    assert doors.straight(model, StatusCode[code].value[0]) == 1


def test_metadata_travels(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "grpc-metadata-x-mine": "a b", "x-other": "no"}
    found = doors.infer(model, json=tensor("INT8", [1], [1]), headers=headers)
    assert (found.headers["grpc-metadata-x-runtime"], found.headers["grpc-metadata-x-runtime-bin"]) == ("example", "/wA=")
    assert doors.straight(model) == 1


# Which are the door's

OTHERS = [
    ("GET", "/v2"),
    ("HEAD", "/v2"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/{}"),
    ("DELETE", "/v2/models/{}"),
    ("GET", "/v2/models/{}/ready"),
    ("GET", "/v2/models/{}/infer"),
    ("POST", "/v2/models//infer"),
    ("POST", "/v2/models/{}/generate"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_other_paths_are_the_doors(doors: Doors, model: str, method: str, path: str) -> None:
    doors.pod.resident(model)
    doors.alike(method, path.format(model))
    assert doors.straight(model) == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"inputs":[{}]}', b'{"inputs":[],"inputs":[]}', b'{"inputs":[],"x":NaN}', b"\xff"])
def test_what_is_no_plain_request_is_answered_in_the_doors_words(doors: Doors, model: str, body: bytes) -> None:
    doors.pod.resident(model)
    doors.infer(model, content=body)
    assert doors.straight(model) == 0


def test_forms_that_the_lane_does_not_read_are_the_doors(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    text = json.dumps(tensor("INT8", [1], [1])).encode()
    for request in (
        {"json": {"inputs": [{"name": "a", "shape": ["1"], "datatype": "INT32", "contents": {"intContents": [1]}}]}},
        {"content": gzip.compress(text), "headers": {"content-encoding": "gzip"}},
        {"content": text, "headers": {"grpc-timeout": "20S"}},
        {"content": text, "headers": {"mm-balanced": "true"}},
        {"content": text, "headers": {"connection": "close"}},
        {"content": text, "headers": {"expect": "100-continue"}},
    ):
        assert doors.infer(model, **request).status_code == 200
    assert doors.straight(model) == 0


def test_models_that_nobody_published_are_the_doors(doors: Doors, model: str) -> None:
    doors.infer(f"no-such-{model}", json=tensor("INT8", [1], [1]))
    doors.pod.client.register(model)
    assert doors.lane.post(f"/v2/models/{model}/infer", json=tensor("INT8", [1], [1])).status_code == 200
    assert doors.straight(model) == 0


def test_too_large_a_body_is_refused_in_the_doors_words(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    found = doors.lane.post(f"/v2/models/{model}/infer", content=b" " * (LARGEST + 1))
    assert (found.status_code, str(LARGEST) in found.json()["error"]) == (413, True)
    assert doors.infer(model, json=tensor("INT8", [1], [1])).status_code == 200


def test_a_call_that_fails_here_is_the_doors_to_answer(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    doors.pod.mesh.runtime.do("purge")
    assert doors.lane.post(f"/v2/models/{model}/infer", json=tensor("INT8", [1], [7])).json()["outputs"][0]["data"] == [7]
    assert doors.straight(model) == 0


# Connections


@contextmanager
def connection(pod: Pod) -> Iterator[socket.socket]:
    assert pod.lane.rest_address is not None
    host, _, port = pod.lane.rest_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as stream:
        yield stream


def request(path: str, body: bytes | None = None) -> bytes:
    """As it is sent."""
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: mesh\r\n\r\n".encode()
    return b"POST %s HTTP/1.1\r\nHost: mesh\r\nContent-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)


def answers(stream: socket.socket) -> Iterator[Any]:
    """The JSON of what is answered, one after the other."""
    with stream.makefile("rb") as file:
        while line := file.readline():
            assert line.startswith(b"HTTP/1.1 2")
            headers = dict(header.decode().lower().split(": ") for header in iter(lambda: file.readline().strip(), b""))
            yield json.loads(file.read(int(headers["content-length"])))


def test_a_connection_takes_calls_of_both_ways_in_their_order(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    infer = [request(f"/v2/models/{model}/infer", json.dumps(tensor("INT8", [1], [number])).encode()) for number in range(6)]
    between = [request(f"/v2/models/{model}/ready")] * 6
    with connection(doors.pod) as stream:
        stream.sendall(b"".join(itertools.chain.from_iterable(zip(infer, between, strict=True))))
        found = list(itertools.islice(answers(stream), 12))
    assert [answer["outputs"][0]["data"] for answer in found[::2]] == [[number] for number in range(6)]
    assert all(answer == {"name": model, "ready": True} for answer in found[1::2])
    assert doors.straight(model) == 6


def test_a_request_may_come_in_pieces(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    whole = request(f"/v2/models/{model}/infer", json.dumps(tensor("INT8", [1], [5])).encode()) + request("/v2/health/live")
    with connection(doors.pod) as stream:
        for byte in whole:
            stream.sendall(bytes([byte]))
        found = list(itertools.islice(answers(stream), 2))
    assert (found[0]["outputs"][0]["data"], found[1]) == ([5], {"live": True})
    assert doors.straight(model) == 1


@pytest.mark.parametrize(
    "begin", [b"garbage\r\n\r\n", b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"\x00" * 99]
)
def test_garbage_is_answered_by_the_door_and_its_connection_ends(doors: Doors, begin: bytes) -> None:
    with connection(doors.pod) as stream:
        stream.sendall(begin)
        stream.shutdown(socket.SHUT_WR)
        found = b"".join(iter(lambda: stream.recv(1024), b""))
    assert not found or found.startswith(b"HTTP/1.1 4")
    assert doors.lane.get("/v2/health/live").status_code == 200


def test_a_caller_that_leaves_ends_its_call(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    with doors.pod.mesh.runtime.holding(f"call:{model}"):
        with connection(doors.pod) as stream:
            stream.sendall(request(f"/v2/models/{model}/infer", json.dumps(asking("hold")).encode()))
            doors.pod.mesh.runtime.awaited("hold", model)
        until(lambda: doors.straight(model, CANCELLED) == 1, "the call is counted as cancelled")


def test_a_copy_that_is_taken_away_ends_its_calls(doors: Doors, model: str) -> None:
    copy = doors.pod.resident(model)
    with doors.pod.mesh.runtime.holding(f"call:{model}"), connection(doors.pod) as stream:
        stream.sendall(request(f"/v2/models/{model}/infer", json.dumps(asking("hold")).encode()))
        doors.pod.mesh.runtime.awaited("hold", model)
        copy.close()
        copy.end("the model is unloaded")
        found = stream.recv(4096)
    assert found.startswith(b"HTTP/1.1 503 ")
    assert b"the model is unloaded" in found


@pytest.mark.parametrize("more", ["", "Connection: Keep-Alive, x\r\n"], ids=["between calls", "the door's for good"])
def test_a_lane_that_stops_closes_connections_on_which_nothing_is_asked(mesh: Mesh, more: str) -> None:
    with a_lane(mesh, rest=("127.0.0.1:0", f"127.0.0.1:{mesh.router.ports['rest']}")) as pod, connection(pod) as stream:
        stream.sendall(f"GET /v2/health/live HTTP/1.1\r\nHost: mesh\r\n{more}\r\n".encode())
        assert next(answers(stream)) == {"live": True}
        with ThreadPoolExecutor() as other:
            assert other.submit(pod.lane.stop, 3600).result(PATIENCE) == []
        assert stream.recv(1) == b""


def test_who_had_connected_when_a_lane_stops_is_answered(mesh: Mesh) -> None:
    with a_lane(mesh, rest=("127.0.0.1:0", f"127.0.0.1:{mesh.router.ports['rest']}")) as pod, ExitStack() as stack:
        callers = [stack.enter_context(connection(pod)) for _ in range(32)]
        for caller in callers:
            caller.sendall(request("/v2/health/live"))
        pod.lane.stop(60)
        assert [list(answers(caller)) for caller in callers] == [[{"live": True}]] * 32


def test_who_does_not_end_a_head_is_sent_away(slow: socket.socket) -> None:
    assert slow.recv(1) == b""
