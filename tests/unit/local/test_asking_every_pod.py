"""Pods are asked while they come and go: whoever asks is told of those that are there, and never that something went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mesh.core.errors import PeerUnavailable
from mesh.core.ids import AliasId
from mesh.doors.facts import PREFIX
from mesh.doors.http_small import Request
from mesh.doors.probes import Answer, probes
from mesh.local.kits import Kit
from mesh.local.options import UpOptions
from mesh.local.pods import AnyRouter, LocalPod, ask_each
from mesh.local.router_client import RouterClient
from mesh.local.supervisor import Supervisor
from tests.support import ports


class Pods:
    """Pods whose routers tell their name, and hold every answer back until `told` is set."""

    def __init__(self, folder: Path, running: AsyncExitStack) -> None:
        grpc, rest = ports.free(2)
        supervisor = Supervisor(UpOptions(folder, {"mlserver": folder}, grpc_port=grpc, rest_port=rest), lambda _who, _what: None)
        supervisor._prepare()
        (self._model,) = supervisor.pods
        running.push_async_callback(self._model.router.close)
        self.there: list[LocalPod] = []
        self.told, self.asked = asyncio.Event(), asyncio.Event()
        self._running = running

    async def add(self, *, ready: bool = True) -> LocalPod:
        """A pod more."""
        number = len(self.there)

        async def answer(_: Request) -> Answer:
            self.asked.set()
            await self.told.wait()
            return 200, {"number": number}

        server = probes("127.0.0.1", 0, str, {PREFIX: answer})
        port = await server.start()
        self._running.push_async_callback(server.stop)
        kit: Kit = self._model.kit
        pod = LocalPod(self._model.setup, kit, lambda _who, _what: None, lambda: None)
        await pod.router.close()
        pod.router, pod.ready = RouterClient(1, port), ready
        self._running.push_async_callback(pod.router.close)
        self.there.append(pod)
        return pod

    async def asking(self) -> asyncio.Task[dict[str, Any]]:
        """Asks all of them; the first has got the question."""
        self.asked.clear()
        task = asyncio.create_task(ask_each(self.there, "pod", {}))
        await self.asked.wait()
        return task


@pytest.fixture
async def pods(tmp_path: Path) -> AsyncIterator[Pods]:
    async with AsyncExitStack() as running:
        yield Pods(tmp_path, running)


async def test_a_pod_that_comes_meanwhile_is_asked_the_next_time(pods: Pods) -> None:
    first = await pods.add()
    asking = await pods.asking()
    await pods.add()
    pods.told.set()
    assert await asking == {first.name: {"number": 0}}


async def test_a_pod_that_is_taken_away_meanwhile_tells_nothing(pods: Pods) -> None:
    first = await pods.add()
    asking = await pods.asking()
    pods.there.remove(first)
    await first.router.close()
    pods.told.set()
    assert await asking == {}


async def test_a_pod_that_takes_calls_since_is_asked_too(pods: Pods) -> None:
    pods.told.set()
    late = await pods.add(ready=False)
    assert await ask_each(pods.there, "pod", {}) == {late.name: {"number": 0}}
    assert late.ready


@pytest.mark.parametrize("ready", [True, False])
async def test_a_pod_whose_end_nobody_was_told_of_tells_nothing(pods: Pods, ready: bool) -> None:
    pods.told.set()
    gone = await pods.add(ready=ready)
    await gone.router.close()
    assert await ask_each(pods.there, "pod", {}) == {}


async def test_calls_of_any_router_go_past_a_pod_that_was_taken_away(pods: Pods) -> None:
    pods.told.set()
    gone, _there = await pods.add(), await pods.add()
    await gone.router.close()
    assert await AnyRouter(pods.there).details("pod", {}) == {"number": 1}


async def test_a_router_that_was_taken_away_is_unavailable_whatever_is_asked(pods: Pods) -> None:
    gone = await pods.add()
    await gone.router.close()
    router = AnyRouter(pods.there)
    with pytest.raises(PeerUnavailable, match="was taken away"):
        await router.alias(AliasId("a"))
    with pytest.raises(PeerUnavailable, match="was taken away"):
        await router.details("pod", {})
