"""Load on one gRPC method: `h2load` where it is installed, else a client in Python, which is slower than what it measures at times."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

CONNECTIONS, STREAMS = 4, 8
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
H2LOAD = shutil.which("h2load")


@dataclass(frozen=True)
class Target:
    """One unary method at one address, the metadata and the bytes of the request."""

    address: str
    method: str
    payload: bytes
    metadata: tuple[tuple[str, str], ...] = ()

    def channel(self) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.address, options=OPTIONS)

    async def call(self, channel: grpc.aio.Channel) -> bytes:
        caller: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self.method, None, None)
        return await caller(self.payload, metadata=self.metadata, timeout=30)


def generator() -> str:
    """What makes the load, in words."""
    return f"h2load ({H2LOAD})" if H2LOAD else "a Python client (h2load is not installed; Debian has it in nghttp2-client)"


async def latencies(target: Target, calls: int) -> list[float]:
    """Seconds of each of so many calls, one after the other on one connection; sorted."""
    found = []
    async with target.channel() as channel:
        await target.call(channel)
        for _ in range(calls):
            begun = time.perf_counter()
            await target.call(channel)
            found.append(time.perf_counter() - begun)
    return sorted(found)


async def rate(target: Target, calls: int, streams: int = STREAMS) -> float:
    """Calls a second with `CONNECTIONS` connections of so many calls at a time."""
    return await asyncio.to_thread(_h2load, target, calls, streams) if H2LOAD else await _python(target, calls, streams)


async def _python(target: Target, calls: int, streams: int) -> float:
    left = calls

    async def caller(channel: grpc.aio.Channel) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await target.call(channel)

    channels = [target.channel() for _ in range(CONNECTIONS)]
    try:
        await asyncio.gather(*(target.call(channel) for channel in channels))
        begun = time.perf_counter()
        await asyncio.gather(*(caller(channel) for channel in channels for _ in range(streams)))
        return calls / (time.perf_counter() - begun)
    finally:
        for channel in channels:
            await channel.close()


def _h2load(target: Target, calls: int, streams: int) -> float:
    headers = [("content-type", "application/grpc"), ("te", "trailers"), *target.metadata]
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\0" + len(target.payload).to_bytes(4, "big") + target.payload)
        body.flush()
        command = [str(H2LOAD), f"-n{calls}", f"-c{CONNECTIONS}", f"-m{streams}", f"-d{body.name}"]
        command += [part for name, value in headers for part in ("-H", f"{name}: {value}")]
        done = subprocess.run([*command, f"http://{target.address}{target.method}"], capture_output=True, text=True, check=True)
    # It counts HTTP statuses and is blind to those of gRPC, so the callers check an answer themselves beforehand.
    found = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    if found is None or f"{calls} succeeded" not in done.stdout:
        raise RuntimeError(f"h2load: {done.stdout}{done.stderr}")
    return float(found[1])


def cpu(pid: int) -> float:
    """Seconds of CPU that the threads of a process used, by the scheduler's account, which counts nanoseconds."""
    used = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            used += int((thread / "schedstat").read_text().split()[0])
    return used / 1e9


def table(rows: list[list[str]]) -> str:
    """Columns aligned, the first to the left; the first row is the header."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def middle(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)
