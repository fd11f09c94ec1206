"""A holder in a process of its own, which can be killed and stopped; `python -m tests.unit.pod.pod_process [port]` prints its port."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import IO

from grpc import aio

from tests.unit.pod.pods import Pods


class PodProcess:
    """One such process; its server answers `wait` never, and a stream's messages with two each."""

    def __init__(self, port: int = 0) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "tests.unit.pod.pod_process", str(port)], stdout=subprocess.PIPE, text=True)
        out: IO[str] | None = self._process.stdout
        assert out is not None
        self.port = int(out.readline())

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


async def _say(payload: bytes, _: aio.ServicerContext[bytes, bytes]) -> bytes:
    if payload == b"wait":
        await asyncio.Event().wait()
    return payload


async def _talk(requests: AsyncIterator[bytes], _: aio.ServicerContext[bytes, bytes]) -> AsyncIterator[bytes]:
    async for message in requests:
        yield message
        yield message


async def _serve(port: int) -> None:
    pods = Pods()
    pods.server.say, pods.server.talk = _say, _talk
    await pods.start_holder(port)
    print(pods.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
