"""HTTP/2 on the lane's REST port, in plaintext: answered as HTTP/1.1 is, by the lane or by the Python door behind it."""

from __future__ import annotations

import gzip
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from grpc import StatusCode

from tests.lane.conftest import LARGEST, Pod, a_lane
from tests.lane.curl import PRIOR, Answer, curl, run
from tests.lane.test_rest import (
    AS_SENT,
    BODIES,
    CANCELLED,
    JSON_LENGTH,
    METHOD,
    OTHERS,
    Doors,
    asking,
    comparable,
    connection,
    raw,
    request,
    tensor,
)
from tests.support.mesh import Mesh
from tests.support.waiting import PATIENCE, until

FLOATS = [number / 7 for number in range(200_000)]
HOP = {"connection", "transfer-encoding"}
"""Headers that HTTP/2 has not."""


@pytest.fixture(scope="module")
def pod(mesh: Mesh) -> Iterator[Pod]:
    behind = f"127.0.0.1:{mesh.router.ports['rest']}"
    with a_lane(mesh, rest=("127.0.0.1:0", behind), workers=1) as pod:
        pod.published(rules=AS_SENT)
        yield pod


@pytest.fixture
def doors(pod: Pod) -> Iterator[Doors]:
    with httpx.Client(trust_env=False, timeout=60) as python:
        python.base_url = httpx.URL(pod.mesh.router.rest)
        yield Doors(pod, python, python)


def url(doors: Doors, path: str) -> str:
    return f"http://{doors.pod.lane.rest_address}{path}"


def ask(doors: Doors, path: str, *options: str, **request: Any) -> Answer:
    """Over HTTP/2, of the lane."""
    found = curl(url(doors, path), PRIOR, *options, **request)
    assert found.version == "2"
    assert not HOP & found.headers.keys()
    return found


def alike(doors: Doors, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
    """The lane's answer over HTTP/2, which is the Python door's over HTTP/1.1."""
    found = ask(doors, path, method=method, body=body, headers=headers)
    told = {"accept": "*/*"} | (headers or {})
    expected = doors.python.request(method, path, content=body, headers=told)
    assert found.status_code == expected.status_code
    answer = httpx.Response(found.status_code, headers=found.headers, content=found.content)
    assert comparable(answer) == comparable(expected)
    return found


def infer(doors: Doors, model: str, document: Any) -> Answer:
    return alike(doors, "POST", f"/v2/models/{model}/infer", json.dumps(document).encode())


# Straight


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_resident_model_is_called_straight(doors: Doors, model: str, body: dict[str, Any]) -> None:
    doors.pod.resident(model)
    assert infer(doors, model, body).status_code == 200
    assert doors.straight(model) == 1


def test_raw_tensors_travel(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    data = bytes(range(256)) * 4
    sent = raw(data, parameters={"binary_data_output": True})
    found = alike(doors, "POST", f"/v2/models/{model}/infer", sent["content"], sent["headers"])
    assert found.content.endswith(data)
    assert JSON_LENGTH in found.headers
    assert doors.straight(model) == 1


def test_bodies_of_megabytes_pass_both_ways(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    found = infer(doors, model, tensor("FP64", [len(FLOATS)], FLOATS))
    assert json.loads(found.content)["outputs"][0]["data"] == FLOATS
    assert doors.straight(model) == 1


def test_a_status_of_the_runtime_is_told(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    assert infer(doors, model, asking('error:code=ABORTED:message=é "broken"')).status_code == 409
    assert doors.straight(model, StatusCode.ABORTED.value[0]) == 1


def test_a_body_without_a_told_length_is_called_straight(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    text = json.dumps(tensor("INT8", [1], [4]))
    command = ["curl", "-sS", "--noproxy", "*", PRIOR, "--max-time", "60", "-T", "-", "-X", "POST", url(doors, f"/v2/models/{model}/infer")]
    found = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(found.stdout)["outputs"][0]["data"] == [4]
    assert doors.straight(model) == 1


# Handed over


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_other_paths_are_the_doors(doors: Doors, model: str, method: str, path: str) -> None:
    doors.pod.resident(model)
    alike(doors, method, path.format(model))
    assert doors.straight(model) == 0


@pytest.mark.parametrize("body", [b"", b"{", b'{"inputs":[{}]}', b"\xff"])
def test_what_is_no_plain_request_is_answered_in_the_doors_words(doors: Doors, model: str, body: bytes) -> None:
    doors.pod.resident(model)
    assert alike(doors, "POST", f"/v2/models/{model}/infer", body).status_code == 400
    assert doors.straight(model) == 0


def test_forms_that_the_lane_does_not_read_are_the_doors(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    path, text = f"/v2/models/{model}/infer", json.dumps(tensor("INT8", [1], [1])).encode()
    assert alike(doors, "POST", path, gzip.compress(text), {"content-encoding": "gzip"}).status_code == 200
    for header in ({"grpc-timeout": "20S"}, {"mm-balanced": "true"}, {"expect": "100-continue"}):
        assert alike(doors, "POST", path, text, header).status_code == 200
    assert doors.straight(model) == 1


def test_megabytes_of_a_model_that_nobody_published_are_handed_over(doors: Doors, model: str) -> None:
    doors.pod.client.register(model)
    found = infer(doors, model, tensor("FP64", [len(FLOATS)], FLOATS))
    assert json.loads(found.content)["outputs"][0]["data"] == FLOATS
    text = json.dumps(tensor("FP64", [len(FLOATS)], FLOATS))
    command = ["curl", "-sS", "--noproxy", "*", PRIOR, "--max-time", "60", "-T", "-", "-X", "POST", url(doors, f"/v2/models/{model}/infer")]
    streamed = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(streamed.stdout)["outputs"][0]["data"] == FLOATS
    assert doors.straight(model) == 0


def test_too_large_a_body_is_refused_in_the_doors_words(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    done, head, content = run(url(doors, f"/v2/models/{model}/infer"), PRIOR, method="POST", body=b" " * (LARGEST + 1))
    assert head.startswith(b"HTTP/2 413"), done
    assert str(LARGEST) in json.loads(content)["error"], done


def test_a_call_that_fails_here_is_the_doors_to_answer(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    doors.pod.mesh.runtime.do("purge")
    found = ask(doors, f"/v2/models/{model}/infer", method="POST", body=json.dumps(tensor("INT8", [1], [7])).encode())
    assert json.loads(found.content)["outputs"][0]["data"] == [7]
    assert doors.straight(model) == 0


# Connections


def test_a_question_for_http_2_may_be_declined(doors: Doors) -> None:
    """`Upgrade: h2c`, which HTTP/2 has given up (RFC 9113, 3.1)."""
    found = curl(url(doors, "/v2/health/live"), "--http2")
    assert (found.version, found.status_code, json.loads(found.content)) == ("1.1", 200, {"live": True})


def test_streams_of_one_connection_do_not_wait_for_each_other(doors: Doors, model: str) -> None:
    """Those of both kinds: one is held by the runtime, while others are answered by the lane and by the door."""
    doors.pod.resident(model)
    infer, ready = (url(doors, f"/v2/models/{model}/{what}") for what in ("infer", "ready"))
    command = ["curl", "-sS", "--noproxy", "*", PRIOR, "--parallel", "--parallel-immediate", "--max-time", "60"]
    with doors.pod.mesh.runtime.holding(f"call:{model}"):
        held = subprocess.Popen(
            [*command, "-d", json.dumps(asking("hold")), "-o", "-", infer, *(["--next", *command[1:4], "-o", "-", ready] * 9)],
            stdout=subprocess.PIPE,
            text=True,
        )
        doors.pod.mesh.runtime.awaited("hold", model)
        assert held.stdout is not None
        said = [held.stdout.read(len('{"name":"","ready":true}') + len(model)) for _ in range(9)]
    assert [json.loads(one) for one in said] == [{"name": model, "ready": True}] * 9
    assert json.loads(held.communicate(timeout=60)[0])["model_name"] == model
    assert doors.straight(model) == 1


@pytest.mark.skipif(shutil.which("h2load") is None, reason="nghttp2-client is not installed")
def test_many_requests_are_answered_on_few_connections(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    address = url(doors, f"/v2/models/{model}/ready")
    command = ["h2load", "-n", "600", "-c", "2", "-m", "20", address]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "600 succeeded, 0 failed, 0 errored" in found.stdout, found.stdout


def test_a_caller_that_leaves_ends_its_call(doors: Doors, model: str) -> None:
    doors.pod.resident(model)
    command = ["curl", "-sS", "--noproxy", "*", PRIOR, "-d", json.dumps(asking("hold")), url(doors, f"/v2/models/{model}/infer")]
    with doors.pod.mesh.runtime.holding(f"call:{model}"):
        caller = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        doors.pod.mesh.runtime.awaited("hold", model)
        caller.kill()
        caller.wait(60)
        until(lambda: doors.straight(model, CANCELLED) == 1, "the call is counted as cancelled")


def test_http_2_does_not_begin_after_another_request(doors: Doors) -> None:
    with connection(doors.pod) as stream:
        stream.sendall(request("/v2/health/live") + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        found = b"".join(iter(lambda: stream.recv(1024), b""))
    assert found.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in found


@pytest.mark.parametrize("more", [b"", b"\x00" * 99, b"GET / HTTP/1.1\r\n\r\n"])
def test_what_only_begins_as_http_2_is_sent_away(doors: Doors, more: bytes) -> None:
    with connection(doors.pod) as stream:
        stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[: 20 if not more else None] + more)
        stream.shutdown(socket.SHUT_WR)
        assert not b"".join(iter(lambda: stream.recv(1024), b"")).startswith(b"HTTP/1.1")
    assert ask(doors, "/v2/health/live").status_code == 200


def test_a_lane_that_stops_lets_running_requests_end(mesh: Mesh, model: str) -> None:
    with a_lane(mesh, rest=("127.0.0.1:0", f"127.0.0.1:{mesh.router.ports['rest']}")) as pod:
        pod.published(rules=AS_SENT)
        pod.resident(model)
        address = f"http://{pod.lane.rest_address}/v2/models/{model}/infer"
        command = ["curl", "-sS", "--noproxy", "*", PRIOR, "-d", json.dumps(asking("hold")), address]
        with ThreadPoolExecutor() as other:
            with mesh.runtime.holding(f"call:{model}"):
                caller = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                mesh.runtime.awaited("hold", model)
                stopped = other.submit(pod.lane.stop, 3600)
                until(lambda: subprocess.run(["curl", "-s", "--noproxy", "*", address], check=False).returncode == 7, "no new connection")
                assert not stopped.done()
            counted = stopped.result(PATIENCE)
        assert json.loads(caller.communicate(timeout=60)[0])["model_name"] == model
    assert [(name, method) for name, _, method, *_ in counted] == [(model, METHOD)]
