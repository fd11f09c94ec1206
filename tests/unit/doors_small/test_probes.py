"""Kubernetes and operators ask a pod how it is."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from mesh.core.errors import Unknown
from mesh.doors.http_small import Request
from mesh.doors.probes import Prestop, probes
from tests.unit.doors_small.waiting import until

HOST = "127.0.0.1"


async def get(port: int, path: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://{HOST}:{port}{path}", timeout=30)


# /ready and /live


@pytest.mark.parametrize("path", ["/ready", "/ready/"])
async def test_ready_follows_the_pod(path: str) -> None:
    why = ["it is starting"]
    door = probes(HOST, 0, lambda: why[0])
    port = await door.start()
    answer = await get(port, path)
    assert (answer.status_code, answer.text) == (503, "not ready: it is starting\n")
    why[0] = ""
    assert (await get(port, path)).status_code == 200
    await door.stop()


@pytest.mark.parametrize("path", ["/live", "/live/"])
async def test_a_pod_that_is_not_ready_lives(path: str) -> None:
    door = probes(HOST, 0, lambda: "it is starting")
    assert (await get(await door.start(), path)).status_code == 200
    await door.stop()


@pytest.mark.parametrize("path", ["/", "/readyx", "/ready/x", "/live/x", "/prestop"])
async def test_elsewhere_there_is_nothing(path: str) -> None:
    door = probes(HOST, 0, str)
    answer = await get(await door.start(), path)
    assert answer.status_code == 404
    assert "try /ready, /live" in answer.text
    await door.stop()


# State as JSON


async def test_further_routes_answer_below_their_paths() -> None:
    def pods(request: Request) -> tuple[int, Any]:
        return 200, {"asked": request.path, "wide": request.query.get("wide")}

    async def model(request: Request) -> tuple[int, Any]:
        await asyncio.sleep(0)
        raise Unknown(f"model {request.path.rsplit('/')[-1]} is not registered; see mesh get models")

    door = probes(HOST, 0, str, routes={"/mesh/v1/": pods, "/mesh/v1/models": model})
    port = await door.start()
    assert (await get(port, "/mesh/v1/pods?wide=1")).json() == {"asked": "/mesh/v1/pods", "wide": ["1"]}
    assert (await get(port, "/mesh/v1")).json()["asked"] == "/mesh/v1"
    unknown = await get(port, "/mesh/v1/models/digits")
    assert (unknown.status_code, unknown.json()) == (404, {"error": "model digits is not registered; see mesh get models"})
    assert (await get(port, "/mesh/v1x")).status_code == 404
    await door.stop()


# /prestop


async def test_every_hook_waits_by_itself_until_the_release() -> None:
    door = Prestop(HOST, 0, limit=60)
    port = await door.start()
    hooks = [asyncio.create_task(get(port, "/prestop")) for _ in range(3)]
    assert (await get(port, "/elsewhere")).status_code == 404
    await until(lambda: len(door._server._busy) == 3)
    assert not any(hook.done() for hook in hooks)
    door.release()
    assert [(await hook).status_code for hook in hooks] == [200] * 3
    assert (await get(port, "/prestop/")).status_code == 200
    await door.stop()


async def test_stopping_releases_whoever_waits() -> None:
    door = Prestop(HOST, 0, limit=60)
    port = await door.start()
    hook = asyncio.create_task(get(port, "/prestop"))
    await until(lambda: door._server._busy)
    await door.stop()
    assert (await hook).status_code == 200


async def test_a_wait_ends_by_itself() -> None:
    door = Prestop(HOST, 0, limit=0.01)
    answer = await get(await door.start(), "/prestop")
    assert (answer.status_code, answer.text) == (200, "not released within 0.01 s\n")
    await door.stop()
