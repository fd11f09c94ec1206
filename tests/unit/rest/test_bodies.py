"""Bodies that are no good: empty, no JSON, too large, compressed wrongly. Each is refused, and none reaches the mesh."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest

from mesh.core.errors import Malformed, TooLarge
from mesh.doors.rest import reading
from tests.unit.rest.door import LIMIT, Mesh, tensor

GOOD = json.dumps(tensor("INT8", [1], [1])).encode()
PATH = "/v2/models/iris/infer"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "the body is empty"),
        (b"  \n", "the body is empty"),
        (b'{"inputs": [\n  1,,2]}', "the body is no valid JSON: line 2, column 5"),
        (b'{"inputs": [NaN,\n ,]}', "the body is no valid JSON: line 2, column 2"),
        (b"\xff\xfe", "the body is no valid JSON: line 1"),
        (b'"NaN \xff"', "the body is no valid JSON: 'utf-8' codec"),
        (b'{"id": "\\ud800", "inputs": [NaN]}', "the body is no valid JSON"),
        (b'{"id": "\\ud800", "inputs": []}', "the body is no valid JSON"),
        (b'{"a": NaN, "inputs": ' + b"[" * 100_000, "the body is no valid JSON"),
        (b'{"inputs": ' + b"[" * 100_000, "the body is no valid JSON"),
        (b'{"inputs": [1e400]}', "the body is no valid JSON: line 1, column 13"),
        (b'{"inputs": [NaN, 1e400]}', "the body is no valid JSON: the number 1e400 is too large"),
        (b'{"inputs": [NaN, ' + b"1" * 5000 + b"]}", "the body is no valid JSON: the number 1111"),
        (b"[1]", "the body must be a JSON object, not a list"),
        (b"null", "the body must be a JSON object, not null"),
        (b"5", "the body must be a JSON object, not a number"),
    ],
)
async def test_what_is_no_json_object_is_refused_with_the_place(body: bytes, text: str) -> None:
    mesh = Mesh()
    answer = await mesh.send("POST", PATH, content=body)
    assert answer.status_code == 400
    assert text in answer.json()["error"]
    assert mesh.calls == []


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**64 - 1])
def test_whole_numbers_of_64_bits_stay_exact_beside_nan(number: int) -> None:
    assert reading.parse(b'{"a": NaN, "b": %d}' % number)["b"] == number


@pytest.mark.parametrize("digits", [str(2**64), str(-(2**63) - 1), "1" * 300])
def test_larger_whole_numbers_beside_nan_become_floats_as_they_do_without(digits: str) -> None:
    value = reading.parse(b'{"a": NaN, "b": %s}' % digits.encode())["b"]
    assert isinstance(value, float)
    assert value == float(digits)


async def test_a_body_over_the_limit_is_refused_by_its_announced_length() -> None:
    answer = await Mesh().send("POST", PATH, content=bytes(LIMIT + 1))
    assert answer.status_code == 413
    assert answer.json() == {
        "error": f"the body is {LIMIT + 1} bytes; the limit is {LIMIT} bytes (MM_SVC_GRPC_MAX_MSG_SIZE)",
        "code": 8,
        "message": f"the body is {LIMIT + 1} bytes; the limit is {LIMIT} bytes (MM_SVC_GRPC_MAX_MSG_SIZE)",
    }


async def test_a_body_of_unknown_length_is_read_to_the_limit_and_no_further() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 100_000
            yield bytes(100_000)

    assert (await Mesh().send("POST", PATH, content=endless())).status_code == 413
    assert taken == LIMIT + 100_000


@pytest.mark.parametrize(
    ("encoding", "packed"), [("gzip", gzip.compress(GOOD, mtime=0)), ("deflate", zlib.compress(GOOD)), ("identity", GOOD)]
)
async def test_compressed_bodies_are_taken(encoding: str, packed: bytes) -> None:
    mesh = Mesh()
    assert (await mesh.send("POST", PATH, content=packed, headers={"Content-Encoding": encoding})).status_code == 200
    assert mesh.request.inputs[0].name == "x"


def test_gzip_of_several_members_is_one_body() -> None:
    assert reading.unpack(gzip.compress(b"ab") + gzip.compress(b"cd"), 4) == b"abcd"


@pytest.mark.parametrize(
    ("encoding", "body", "text"),
    [
        ("gzip", GOOD, "the body is not compressed as Content-Encoding says"),
        ("gzip", gzip.compress(GOOD, mtime=0)[:-4], "the compressed body ends too early"),
        ("br", GOOD, "Content-Encoding 'br' is not taken; send gzip, deflate or no encoding"),
        ("gzip", b"", "the body is empty"),
    ],
)
async def test_a_wrongly_compressed_body_is_refused(encoding: str, body: bytes, text: str) -> None:
    answer = await Mesh().send("POST", PATH, content=body, headers={"Content-Encoding": encoding})
    assert answer.status_code == 400
    assert text in answer.json()["error"]


def test_a_small_body_that_unpacks_to_a_large_one_is_refused() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(TooLarge, match=r"larger when unpacked; the limit is 1000 bytes"):
        reading.unpack(bomb, 1000)
    assert reading.unpack(gzip.compress(bytes(1000)), 1000) == bytes(1000)
    with pytest.raises(Malformed):
        reading.unpack(b"\x1f\x8b", 1000)


async def test_a_large_body_is_transcoded_too() -> None:
    mesh = Mesh()
    answer = await mesh.infer(tensor("FP32", [100_000], [1.5] * 100_000))
    assert answer.json()["outputs"][0]["data"] == [1.5] * 100_000
