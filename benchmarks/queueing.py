"""How long a call for a cold model waits while loads that nobody waits for are queued, and what running calls notice of it all.

`python -m benchmarks.queueing [--rounds N]`. The runtime is the scripted one of the tests; each load takes it half a second. A dozen
loads are ordered in the background; while they run, a call comes for a model that is not loaded, and calls of a model that serves go on
at a fixed pace. With several loading slots one is kept for such a call; with one, it waits for the load that has begun and no other.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.disturbance import await_loaded
from benchmarks.hop import INFER
from benchmarks.load import Target, middle, table
from tests.integration.models.stack import digit_request
from tests.support.mesh import Mesh, a_mesh
from tests.support.runtime_state import MIB, Behaviour

LOAD = 0.5
"""Seconds of one load."""
PATH = f"SIZE_{MIB}_{LOAD * 1000:.0f}_0"
QUEUED = 12
"""Loads in the background."""
PACE = 0.01
"""Seconds between two calls of the model that serves."""
WINDOW = 3.0
"""Seconds of calls beside which nothing else happens."""
QUIET_LOG = {"MESH_LOG_LEVEL": "INFO"}
SLOTS = (1, 2, 4)


@dataclass
class Figures:
    """Seconds, a value per round; of the calls that go on, all of all rounds."""

    alone: list[float] = field(default_factory=list)
    among: list[float] = field(default_factory=list)
    background: list[float] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)


def target(mesh: Mesh, model: str) -> Target:
    return Target(mesh.router.address, INFER, digit_request(model).SerializeToString(), (("mm-model-id", model),))


async def cold(mesh: Mesh, model: str) -> float:
    """Seconds of a call for a model that is registered and not loaded."""
    await asyncio.to_thread(mesh.client.register, model, PATH)
    async with target(mesh, model).channel() as channel:
        begun = time.perf_counter()
        await target(mesh, model).call(channel)
        return time.perf_counter() - begun


@asynccontextmanager
async def going_on(mesh: Mesh, times: list[float]) -> AsyncIterator[None]:
    """Calls of the model that serves, at a fixed pace, while inside."""
    warm = target(mesh, "warm")
    async with warm.channel() as channel:
        await warm.call(channel)

        async def call() -> None:
            begun = time.perf_counter()
            await warm.call(channel)
            times.append(time.perf_counter() - begun)

        async def pace(calls: asyncio.TaskGroup) -> None:
            while True:
                calls.create_task(call())
                await asyncio.sleep(PACE)

        async with asyncio.TaskGroup() as calls:
            pacing = asyncio.create_task(pace(calls))
            yield
            pacing.cancel()


async def round_of(mesh: Mesh, number: int, figures: Figures) -> None:
    """A cold call alone, then one among loads in the background; other calls go on beside these, and for a while beside nothing."""
    names = [f"background-{number}-{one}" for one in range(QUEUED)]
    figures.alone.append(await cold(mesh, f"alone-{number}"))
    async with going_on(mesh, figures.quiet):
        await asyncio.sleep(WINDOW)
    async with going_on(mesh, figures.busy):
        begun = time.perf_counter()
        for name in names:
            await asyncio.to_thread(mesh.client.register, name, PATH, load=True)
        figures.among.append(await cold(mesh, f"among-{number}"))
        await asyncio.to_thread(await_loaded, mesh.client, names)
        figures.background.append(time.perf_counter() - begun)


async def measure(mesh: Mesh, rounds: int) -> Figures:
    figures = Figures()
    mesh.client.loaded("warm")
    for number in range(rounds):
        await round_of(mesh, number, figures)
    return figures


def row(slots: int, figures: Figures) -> list[str]:
    def p99(times: list[float]) -> str:
        return f"{sorted(times)[len(times) * 99 // 100] * 1e3:.2f} ms"

    waits = [f"{middle(values):.2f} s" for values in (figures.alone, figures.among, figures.background)]
    return [str(slots), *waits, p99(figures.quiet), p99(figures.busy)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"A cold call among {QUEUED} loads in the background of {LOAD} s each: {given.rounds} rounds.", flush=True)
    header = ["loading slots", "it takes alone", "among them", "they take", "99th percentile of others, quiet", "meanwhile"]
    rows = [header]
    for slots in SLOTS:
        script = Behaviour(capacity=64 * 1024 * MIB, loading_concurrency=slots)
        with tempfile.TemporaryDirectory() as folder, a_mesh(Path(folder), script, environment=QUIET_LOG, separate=True) as mesh:
            rows.append(row(slots, asyncio.run(measure(mesh, given.rounds))))
    print(table(rows))


if __name__ == "__main__":
    main()
