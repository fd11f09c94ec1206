"""What many models cost: three pods on one etcd that has so many, and more that come.

`python -m benchmarks.scale [--models N ...] [--pods N] [--rate N] [--seconds N]`.
With `--services N` something else: see `benchmarks/million.py`. The records are written to etcd directly, so that only the routers are
measured. Of each number of models: what the start takes, and a router's memory afterwards; how late its event loop ran,
by its own metric; what the lists of models take; what a router's CPU has to do for each model that is registered elsewhere; and what all
that does to the calls of the one model that is loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aetcd import rpc
from rich.console import Console

from benchmarks import million
from benchmarks.load import Target, cpu, table
from mesh.cli import get, output
from mesh.cli.output import Format
from mesh.core.ids import PodId
from mesh.core.registry.records import ModelInfo, ModelRecord
from mesh.core.units import Millis
from mesh.protocols import inference_pb2 as v2
from mesh.settings import Settings
from mesh.store.etcd.configuration import parse
from mesh.store.etcd.connection import Connection
from mesh.store.etcd.layout import MODELS, Layout, encode
from tests.integration.etcd.server import Etcd
from tests.support import environments
from tests.support.cluster import PodProcesses, a_cluster
from tests.support.waiting import until_async

SERVICE = "scale"
TRANSACTION = 100
"""Records of one transaction; etcd takes 128."""
HOT = "hot"
"""The one model that is loaded and called."""
PACE = 0.02
"""Seconds between two calls of it."""
LAG = "mesh_loop_lag_milliseconds"


@dataclass(frozen=True)
class Figures:
    """Of one number of models; times in seconds, memory in bytes, lag as the bound in milliseconds that it did not exceed."""

    models: int
    start: float
    start_lag: float
    memory: int
    lists: dict[str, float]
    lists_lag: float
    event: float
    storm_lag: float
    calls: Sequence[float]


class Registered:
    """Models in etcd, written as a pod would have."""

    def __init__(self, store: str) -> None:
        self._connection = Connection(parse(store))
        self._layout = Layout(parse(store).root, Settings().kv_prefix, SERVICE)
        self.count = 0

    async def more(self, count: int) -> None:
        """Registers so many further models; one in ten failed on a pod that is gone, so that there is something to tell of it."""
        for begin in range(self.count, self.count + count, TRANSACTION):
            numbers = range(begin, min(begin + TRANSACTION, self.count + count))
            await self._connection.call("Txn", rpc.TxnRequest(success=[rpc.RequestOp(request_put=self._put(one)) for one in numbers]))
        self.count += count

    async def steadily(self, rate: int, seconds: float) -> None:
        """Registers `rate` models a second."""
        begun, first = time.monotonic(), self.count
        while (passed := time.monotonic() - begun) < seconds:
            if (due := int(passed * rate) - (self.count - first)) > 0:
                await self.more(min(due, TRANSACTION))
            await asyncio.sleep(0.02)

    def _put(self, number: int) -> Any:
        gone, used = PodId("pod-is-gone"), Millis(int(time.time() * 1000) - number)
        failed = {gone: used} if number % 10 == 0 else {}
        info = ModelInfo("example", f"models/of-team-{number % 50}/{number}", '{"bucket": "models"}')
        record = ModelRecord(info, failed=failed, failures=dict.fromkeys(failed, "no such file"), last_used=used)
        # Names as they come from documents, in no order.
        name = f"classifier-{number * 7919 % 1_000_003:07}__isvc-{number:010x}"
        return rpc.PutRequest(key=self._layout.key(MODELS, name), value=encode(MODELS, record, f"{number}"))

    async def close(self) -> None:
        await self._connection.close()


# What is measured


def lag(pod: PodProcesses) -> dict[float, float]:
    """How often the pod's event loop was how late: counts by upper bound, of that bound and below."""
    found: dict[float, float] = {}
    for line in pod.router.scrape().splitlines():
        if line.startswith(f"{LAG}_bucket"):
            found[float(line.partition('le="')[2].partition('"')[0])] = float(line.rpartition(" ")[2])
    return found


def latest(before: dict[float, float], after: dict[float, float]) -> float:
    """The bound that no wake-up between two looks exceeded."""
    counts = {bound: count - before.get(bound, 0) for bound, count in after.items()}
    return min(bound for bound, count in counts.items() if count == counts[max(counts)])


def memory(pid: int) -> int:
    """Bytes in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


class Lists:
    """Everything that lists models or pods, as a user gets it."""

    def __init__(self, pod: PodProcesses) -> None:
        self._pod, self._http = pod, httpx.Client(timeout=120)

    def get(self, path: str, **params: Any) -> Any:
        """In place of a mesh's control socket, which asks the router the same."""
        wanted = {name: value for name, value in params.items() if value not in (None, "")}
        url = f"http://127.0.0.1:{self._pod.router.ports['probe']}/mesh/v1/{path}"
        return self._http.get(url, params=wanted).raise_for_status().json()

    def times(self, models: int) -> dict[str, float]:
        """Seconds of each."""
        control: Any = self
        every = get.models(control, get.Choice())
        self._complete(len(every), models)
        grpc_index, rest_index = self._grpc(), self._rest()
        self._complete(len(grpc_index), models)
        self._complete(len(rest_index), models)
        return {
            "/mesh/v1/models": timed(lambda: get.models(control, get.Choice())),
            "/mesh/v1/pods": timed(lambda: self.get("pods")),
            "RepositoryIndex (gRPC)": timed(self._grpc),
            "/v2/repository/index": timed(self._rest),
            "ready ones only": timed(lambda: self._rest(ready=True)),
            "mesh get models": timed(self._command),
        }

    def _grpc(self) -> Sequence[object]:
        return list(self._pod.client.v2.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=120).models)

    def _rest(self, *, ready: bool = False) -> Sequence[object]:
        answer = self._http.get(f"{self._pod.router.rest}/v2/repository/index", params={"ready": ready})
        return list(answer.raise_for_status().json())

    def _command(self) -> None:
        control: Any = self
        screen, output.console = output.console, Console(file=io.StringIO(), highlight=False, soft_wrap=True)
        try:
            get._SHOWN[get.Kind.models](control, Format.table, get.Choice())
        finally:
            output.console = screen

    @staticmethod
    def _complete(found: int, wanted: int) -> None:
        if found != wanted:
            raise RuntimeError(f"{found} models are listed of {wanted}")


async def calls(pod: PodProcesses, until_done: asyncio.Task[Any]) -> list[float]:
    """Seconds of each call of the loaded model, one every `PACE`, until something else is over; sorted."""
    request = v2.ModelInferRequest(model_name=HOT, inputs=[v2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])])
    target = Target(pod.router.address, "/inference.GRPCInferenceService/ModelInfer", request.SerializeToString(), (("mm-model-id", HOT),))
    found = []
    async with target.channel() as channel:
        while not until_done.done():
            begun = time.perf_counter()
            await target.call(channel)
            found.append(time.perf_counter() - begun)
            await asyncio.sleep(PACE)
    return sorted(found)


async def measure(store: str, folder: Path, models: Registered, count: int, given: argparse.Namespace) -> Figures:
    """Figures of a mesh that starts with so many models."""
    await models.more(count - models.count)
    with a_cluster(folder, store, 0, service=SERVICE, environment={"MESH_LOG_LEVEL": "INFO"}) as mesh:
        start = timed(lambda: mesh.add(given.pods))
        pod = mesh[0]
        started, pid = lag(pod), pod.router.process.pid
        pod.client.loaded(HOT)
        lists = Lists(pod)
        expected = count + 1
        await until_seen(pod, expected)
        taken = memory(pid)
        before = lag(pod)
        # In a thread, so that the calls of the loop here go on.
        listing = asyncio.create_task(asyncio.to_thread(lists.times, expected))
        await calls(pod, listing)
        times, listed = listing.result(), lag(pod)
        idle = await idle_cpu(pid)
        used, storm = cpu(pid), asyncio.create_task(models.steadily(given.rate, given.seconds))
        first, begun = models.count, time.perf_counter()
        await storm
        await until_seen(pod, models.count + 1)
        event = (cpu(pid) - used - idle * (time.perf_counter() - begun)) / (models.count - first)
        stormed = lag(pod)
        storm = asyncio.create_task(models.steadily(given.rate, given.seconds))
        took = await calls(pod, storm)
        pod.client.unregister(HOT)
    return Figures(count, start, latest({}, started), taken, times, latest(before, listed), event, latest(listed, stormed), took)


async def idle_cpu(pid: int) -> float:
    """CPU seconds a second of a router that nobody asks for anything."""
    before = cpu(pid)
    await asyncio.sleep(2)
    return (cpu(pid) - before) / 2


async def until_seen(pod: PodProcesses, models: int) -> None:
    """Waits until a pod knows of so many models."""

    async def knows() -> bool:
        return bool(pod.facts("models?limit=1")["total"] == models)

    await until_async(knows, f"{pod.id} knows of {models} models", within=60)


def shown(found: Sequence[Figures]) -> str:
    """A column for each number of models."""

    def row(name: str, value: Callable[[Figures], str]) -> list[str]:
        return [name, *map(value, found)]

    return table(
        [
            row("models", lambda one: f"{one.models:,}"),
            row("start of all pods", lambda one: f"{one.start:.1f} s"),
            row("event loop late at the start, at most", lambda one: f"{one.start_lag:g} ms"),
            row("memory of a router", lambda one: f"{one.memory / (1 << 20):.0f} MiB"),
            *(row(name, lambda one, name=name: f"{one.lists[name] * 1e3:,.0f} ms") for name in found[0].lists),  # type: ignore[misc]
            row("event loop late meanwhile, at most", lambda one: f"{one.lists_lag:g} ms"),
            row("CPU of a registration elsewhere", lambda one: f"{one.event * 1e6:,.0f} µs"),
            row("event loop late meanwhile, at most", lambda one: f"{one.storm_lag:g} ms"),
            row("a call meanwhile, median", lambda one: f"{one.calls[len(one.calls) // 2] * 1e3:.1f} ms"),
            row("a call meanwhile, 99th percentile", lambda one: f"{one.calls[len(one.calls) * 99 // 100] * 1e3:.1f} ms"),
        ]
    )


async def run(given: argparse.Namespace) -> list[Figures]:
    found = []
    for count in given.models:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "etcd").mkdir()
            (folder / "mesh").mkdir()
            etcd = Etcd(environments.made("etcd"), folder / "etcd")
            etcd.start()
            store = f"etcd:{etcd.address}"
            models = Registered(store)
            try:
                found.append(await measure(store, folder / "mesh", models, count, given))
            finally:
                await models.close()
                etcd.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[100, 20_000])
    parser.add_argument("--pods", type=int, default=3)
    parser.add_argument("--rate", type=int, default=1000, help="models registered a second while the mesh runs")
    parser.add_argument("--seconds", type=float, default=4, help="for which they come")
    parser.add_argument("--services", type=int, help="measure one router with so many services instead, models with an alias each")
    parser.add_argument("--data", type=Path, help="where etcd keeps them for the next run; a temporary folder if it is not set")
    given = parser.parse_args()
    if given.services:
        print(million.report(given.services, given.data))
        return
    print(f"{given.pods} pods on one etcd; then {given.rate} registrations a second for {given.seconds:g} s.", flush=True)
    print(shown(asyncio.run(run(given))))


if __name__ == "__main__":
    main()
