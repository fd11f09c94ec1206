"""What a router keeps in memory: resident memory of its whole process with many models registered, with the express lane and without.

`python -m benchmarks.memory [--models N ...] [--output FILE]`. The models are in a real etcd, each with an alias that points at it, as
services have them (`benchmarks/services.py`); a real router reads them while it starts, loads one model, and is called for it over gRPC
and REST. Memory is read when it is ready and after the calls. For a million, etcd takes 2 GB of disk and 3 GB of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from benchmarks.load import Target, rate, table
from benchmarks.million import HOT, PATIENCE, SERVICE, seen
from benchmarks.services import FLAGS, Services
from mesh.protocols import inference_pb2 as v2
from tests.integration.etcd.server import Etcd
from tests.support import environments, lane
from tests.support.cluster import PodProcesses, a_cluster
from tests.support.waiting import until

CALLS = 5000
REST_CALLS = 500
WANTED = {10_000: 96, 1_000_000: 768}
"""MiB that the issue and `docs/scale.md` allow."""


@dataclass(frozen=True)
class Row:
    """MiB of one router: resident when it was ready, the part of it that is no file's, and both after the calls."""

    models: int
    lane: str
    ready: float
    ready_anonymous: float
    called: float
    called_anonymous: float


def resident(pid: int) -> tuple[float, float]:
    """MiB resident, and those of it that are no file's."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    every, anonymous = (int(status[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))
    return every, anonymous


async def _called(pod: PodProcesses) -> None:
    """Calls the loaded model on both ports."""
    tensor = v2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])
    tensor.contents.fp32_contents.append(1.0)
    request = v2.ModelInferRequest(model_name=HOT, inputs=[tensor]).SerializeToString()
    target = Target(pod.router.address, "/inference.GRPCInferenceService/ModelInfer", request, (("mm-model-id", HOT),))
    async with target.channel() as channel:
        await target.call(channel)
    await rate(target, CALLS)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1.0]}]}
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        for _ in range(REST_CALLS):
            answer = await http.post(f"{pod.router.rest}/v2/models/{HOT}/infer", json=body)
            assert answer.json()["outputs"][0]["data"] == [1.0], answer.text


async def measure(etcd: Etcd, folder: Path, models: int, mode: str) -> Row:
    """One router that starts with so many."""
    given = {"MESH_LOG_LEVEL": "WARNING", "MESH_START_TIMEOUT": "600"} | lane.variables(mode)
    with a_cluster(folder, f"etcd:{etcd.address}", 0, service=SERVICE, environment=given) as mesh:
        await asyncio.to_thread(lambda: mesh.add(1, ready=False))
        pod = mesh[0]
        await asyncio.to_thread(lambda: until(pod.router._ready, "the router is ready", within=PATIENCE))
        pod.client = mesh.connect(pod.router)
        await seen(pod, models)
        before = resident(pod.router.process.pid)
        await asyncio.to_thread(pod.client.loaded, HOT)
        await _called(pod)
        after = resident(pod.router.process.pid)
        await asyncio.to_thread(pod.client.unregister, HOT)
    return Row(models, mode, *before, *after)


async def run(models: int) -> list[Row]:
    """With the lane, if it is built, and without."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "etcd").mkdir()
        etcd = Etcd(environments.made("etcd"), folder / "etcd", flags=FLAGS)
        etcd.start()
        try:
            written = Services(f"etcd:{etcd.address}", SERVICE)
            await written.more(models)
            await written.close()
            rows = []
            for mode in ["auto", "off"] if lane.built() else ["off"]:
                place = folder / mode
                place.mkdir()
                rows.append(await measure(etcd, place, models, mode))
            return rows
        finally:
            etcd.stop()


def shown(rows: list[Row]) -> str:
    cells = [["models, each with an alias", "lane", "ready", "of it no file's", "after calls", "of it no file's", "wanted"]]
    for row in rows:
        figures = [f"{one:.1f} MiB" for one in (row.ready, row.ready_anonymous, row.called, row.called_anonymous)]
        cells.append([f"{row.models:,}", row.lane, *figures, f"{WANTED[row.models]} MiB" if row.models in WANTED else "-"])
    return table(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, nargs="+", default=[10_000])
    parser.add_argument("--output", type=Path, help="where the figures are written as JSON")
    given = parser.parse_args()
    if not lane.built():
        print("memory: the express lane is not compiled (`make lane`), so only routers without it are measured", flush=True)
    rows = [row for models in given.models for row in asyncio.run(run(models))]
    print(shown(rows))
    if given.output:
        given.output.write_text(json.dumps({"at": time.time(), "memory": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
