"""What many services cost a router: `python -m benchmarks.scale --services N`, where N may be a million.

A service is two records in a real etcd: a model with what its document says, and the alias that points at it. A real router reads them
while it starts, is then called for the one model that is loaded, reads them all again while it is called (etcd was restarted and has
forgotten the changes since), and hears of further ones. What holds the event loop is measured from within (`benchmarks/holds.py`), and how
late it was at most by the router's own histogram.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from grpc import aio

from benchmarks import decisions, holds
from benchmarks.load import Target, table
from benchmarks.services import FLAGS, TYPES, Services, model_type
from mesh.protocols import inference_pb2 as v2
from tests.integration.etcd.server import Etcd
from tests.support import environments
from tests.support.cluster import PodProcesses, a_cluster
from tests.support.waiting import until, until_async

SERVICE = "scale"
HOT = "hot"
PACE = 0.02
"""Seconds between two calls of the loaded model."""
RATE, SECONDS = 500, 5.0
"""Services that are registered a second elsewhere, and for how long."""
PATIENCE = 600.0
LAG = "mesh_loop_lag_milliseconds"


@dataclass
class Calls:
    """Of the loaded model, one after the other while something else goes on."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0

    def shown(self) -> str:
        found = sorted(self.seconds)
        middle, late = found[len(found) // 2] * 1e3, found[len(found) * 99 // 100] * 1e3
        return f"{len(found)} calls, {self.errors} errors, median {middle:.1f} ms, p99 {late:.1f} ms"

    async def during(self, pod: PodProcesses, work: Awaitable[None]) -> None:
        """Calls until the work is done."""
        request = v2.ModelInferRequest(model_name=HOT, inputs=[v2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])])
        method = "/inference.GRPCInferenceService/ModelInfer"
        target = Target(pod.router.address, method, request.SerializeToString(), (("mm-model-id", HOT),))
        task = asyncio.ensure_future(work)
        async with target.channel() as channel:
            while not task.done():
                begun = time.perf_counter()
                try:
                    await target.call(channel)
                except aio.AioRpcError:
                    self.errors += 1
                self.seconds.append(time.perf_counter() - begun)
                await asyncio.sleep(PACE)
        await task


def lag(pod: PodProcesses) -> dict[float, float]:
    """How often the event loop was how late: counts by upper bound in ms, of that bound and below."""
    lines = [line for line in pod.router.scrape().splitlines() if line.startswith(f"{LAG}_bucket")]
    return {float(line.partition('le="')[2].partition('"')[0]): float(line.rpartition(" ")[2]) for line in lines}


def latest(before: dict[float, float], after: dict[float, float]) -> str:
    """The bound that no wake-up between two looks exceeded, and how many of all exceeded 20 ms."""
    counts = {bound: count - before.get(bound, 0) for bound, count in after.items()}
    every = counts[max(counts)]
    bound = min(bound for bound, count in counts.items() if count == every)
    twenty = max(bound for bound in counts if bound <= 20)
    return f"<= {bound:g} ms; {every - counts[twenty]:.0f} of {every:.0f} looks above {twenty:g} ms"


def memory(pid: int, what: str = "VmRSS") -> int:
    """MiB resident, or at most so far (`VmHWM`)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) >> 10


def cpu(pid: int) -> float:
    """Seconds of CPU that a process used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(services: int, etcd: Etcd, folder: Path) -> list[list[str]]:
    """Rows of a table."""
    written = Services(f"etcd:{etcd.address}", SERVICE)
    begun = time.perf_counter()
    written.count = await written.there()
    # A folder of an earlier run has those that came then as well.
    await written.more(max(0, services - written.count))
    services = written.count
    rows = [["services (models with an alias)", f"{services:,}"], ["written to etcd", f"in {time.perf_counter() - begun:.0f} s"]]
    types = {model_type(number): {"required": [f"label-{number}"]} for number in range(TYPES)}
    given = {"MESH_LOG_LEVEL": "INFO", "MM_TYPE_CONSTRAINTS": json.dumps(types), "MESH_START_TIMEOUT": "600"}
    held = holds.Holds(folder / "holds")
    given |= holds.environment(folder / "holds")
    with a_cluster(folder, f"etcd:{etcd.address}", 0, service=SERVICE, environment=given) as mesh:
        begun = time.perf_counter()
        await asyncio.to_thread(lambda: mesh.add(1, ready=False))
        pod = mesh[0]
        await asyncio.to_thread(lambda: until(pod.router._ready, "the router is ready", within=PATIENCE))
        pod.client = mesh.connect(pod.router)
        pid = pod.router.process.pid
        rows.append(["start of the router, from nothing to ready", f"{time.perf_counter() - begun:.1f} s ({cpu(pid):.1f} s of its CPU)"])
        rows.append(["longest hold of the event loop at the start", held.shown()])
        rows.append(["how late it was", latest({}, lag(pod))])
        rows.append(["memory after the start (most so far)", f"{memory(pid)} MiB ({memory(pid, 'VmHWM')} MiB)"])
        await asyncio.to_thread(pod.client.loaded, HOT)
        await seen(pod, services + 1)
        phases: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("as it is", lambda: asyncio.sleep(SECONDS)),
            (f"{RATE} registrations a second elsewhere", lambda: written.steadily(RATE, SECONDS)),
            ("everything is read again", lambda: read_again(etcd, written, pod)),
        ]
        for name, work in phases:
            held.since()
            calls, before, used, began = Calls(), lag(pod), cpu(pid), time.perf_counter()
            await calls.during(pod, work())
            rows.append([f"{name}: a model that is called meanwhile", calls.shown()])
            busy = 100 * (cpu(pid) - used) / (time.perf_counter() - began)
            rows.append(["longest hold of the event loop meanwhile", held.shown()])
            rows.append(["how late it was; CPU of the router", f"{latest(before, lag(pod))}; {busy:.0f} %"])
        rows.append(["memory in the end (most so far)", f"{memory(pid)} MiB ({memory(pid, 'VmHWM')} MiB)"])
    await written.close()
    return rows


async def read_again(etcd: Etcd, written: Services, pod: PodProcesses) -> None:
    """Ends etcd for a moment, and has it forget what changed before the router is back: it reads everything again."""
    await asyncio.to_thread(etcd.stop)
    await asyncio.to_thread(etcd.start)
    await written.touch(range(3))
    await written.touch(range(3))
    await written.compact()
    await written.more(1)
    await seen(pod, written.count + 1)


async def seen(pod: PodProcesses, models: int) -> None:
    """Waits until a pod knows of so many models."""

    async def knows() -> bool:
        facts = await asyncio.to_thread(pod.facts, "models?limit=1")
        return bool(facts["total"] == models)

    await until_async(knows, f"{pod.id} knows of {models} models", within=PATIENCE)


async def run(services: int, data: Path | None) -> list[list[str]]:
    """Rows of a table; `data` keeps etcd's data from run to run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "mesh").mkdir()
        place = data or folder / "etcd"
        place.mkdir(parents=True, exist_ok=True)
        etcd = Etcd(environments.made("etcd"), place, flags=FLAGS)
        etcd.start()
        try:
            return await measure(services, etcd, folder / "mesh")
        finally:
            etcd.stop()


def report(services: int, data: Path | None) -> str:
    """The whole table, and what it was measured on."""
    load = os.getloadavg()[0]
    head = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, load average {load:.1f} before the run"
    return head + "\n" + table([*asyncio.run(run(services, data)), *decisions.shown()])
