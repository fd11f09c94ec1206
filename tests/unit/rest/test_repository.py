"""The index of the repository: all of it, in pages, ready ones only."""

from __future__ import annotations

import pytest

from mesh.pod.management import Listed
from tests.unit.rest.door import Mesh


def mesh_of(count: int) -> Mesh:
    mesh = Mesh()
    mesh.entries = [
        Listed(f"m{number:05}", "1", "UNAVAILABLE" if number % 2 else "READY", "why" if number % 2 else "") for number in range(count)
    ]
    return mesh


async def test_the_index_lists_every_model_with_its_state() -> None:
    expected = [
        {"name": "m00000", "version": "1", "state": "READY", "reason": ""},
        {"name": "m00001", "version": "1", "state": "UNAVAILABLE", "reason": "why"},
    ]
    assert (await mesh_of(2).send("GET", "/v2/repository/index")).json() == expected
    assert (await mesh_of(2).send("POST", "/v2/repository/index")).json() == expected
    assert (await mesh_of(0).send("POST", "/v2/repository/index", content=b"{}")).json() == []


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
async def test_an_index_of_any_length_is_complete(count: int) -> None:
    lines = (await mesh_of(count).send("GET", "/v2/repository/index")).json()
    assert [line["name"] for line in lines] == [f"m{number:05}" for number in range(count)]


async def test_pages_follow_each_other() -> None:
    mesh = mesh_of(2500)
    first = (await mesh.send("GET", "/v2/repository/index?limit=1200")).json()
    second = (await mesh.send("GET", "/v2/repository/index", params={"limit": "2000", "after": first[-1]["name"]})).json()
    assert len(first) == 1200
    assert [line["name"] for line in first + second] == [f"m{number:05}" for number in range(2500)]


async def test_ready_keeps_ready_models_only() -> None:
    mesh = mesh_of(4)
    for answer in (
        await mesh.send("GET", "/v2/repository/index?ready=true"),
        await mesh.send("POST", "/v2/repository/index", json={"ready": True}),
    ):
        assert [line["name"] for line in answer.json()] == ["m00000", "m00002"]
    assert len((await mesh.send("GET", "/v2/repository/index?ready=false")).json()) == 4
    assert len((await mesh.send("POST", "/v2/repository/index", json={"ready": False})).json()) == 4


@pytest.mark.parametrize(
    ("method", "query", "body", "text"),
    [
        ("GET", "?limit=0", b"", "query parameter 'limit': '0' is no whole number from 1"),
        ("GET", "?limit=x", b"", "query parameter 'limit': 'x'"),
        ("GET", "?ready=maybe", b"", "query parameter 'ready': 'maybe' is neither true nor false"),
        ("POST", "", b'{"ready": 1}', "request: 'ready' must be true or false"),
        ("POST", "", b"{", "the body is no valid JSON"),
    ],
)
async def test_a_wrong_question_is_refused(method: str, query: str, body: bytes, text: str) -> None:
    answer = await mesh_of(1).send(method, "/v2/repository/index" + query, content=body)
    assert answer.status_code == 400
    assert text in answer.json()["error"]
