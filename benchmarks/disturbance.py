"""What loads do to the calls of a model that serves: through the router, and at the model server itself during the very same loads.

`python -m benchmarks.disturbance [--scripted] [--rounds N]`. Calls are begun at a fixed pace whatever became of those before, by lot
through the router or straight to the model server, so that both ways meet the same loads. In each round first nothing else happens;
then two large models load that nobody waits for. MLServer reads a model on the thread that answers its calls: that is its own share
of what calls suffer. Two connections go straight to it, and what they differ by is what this measurement cannot tell apart. With
`--scripted` the model server is the scripted one of the tests, which waits instead of loading, so that the router's share is all there is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.hop import INFER
from benchmarks.load import Target, middle, table
from mesh.local.environments import ensure
from tests.integration.models.stack import CLAIM, MODELS, PATIENCE, Stack, digit_request, service
from tests.support.client import Client, Status
from tests.support.mesh import a_mesh

PACE = 0.004
"""Seconds from one call to the next; each of the three ways gets every third one."""
WINDOW = 4.0
"""Seconds of calls in each half of a round; longer if the loads are."""
ASKING = 0.2
"""Seconds between two looks whether a model is loaded: they are calls of the router too."""
TREES, SAMPLES = 14, 40_000
"""Of the forest that stands for a large model: about 150 MB in its file."""
FOREST = f"""
import sys, joblib, numpy
from sklearn.ensemble import ExtraTreesClassifier
noise = numpy.random.default_rng(1)
forest = ExtraTreesClassifier({TREES}, max_features=1, random_state=1)
joblib.dump(forest.fit(noise.random(({SAMPLES}, 64)), noise.integers(0, 10, {SAMPLES})), sys.argv[1])
"""
DIRECT, AGAIN, ROUTED = WAYS = ("at the model server", "the same once more", "through the router")
Times = dict[str, list[float]]
"""Seconds by way."""


@dataclass(frozen=True)
class Setup:
    """One warm model straight and through the router, and what has large models loaded beside it.

    Attributes:
        load: has a model of that id loaded, without waiting.
        size: of the large models, in words.
    """

    direct: Target
    routed: Target
    client: Client
    load: Callable[[str], Status]
    size: str


@dataclass
class Figures:
    """Seconds by way, a value per round."""

    p50: Times = field(default_factory=lambda: {way: [] for way in WAYS})
    p99: Times = field(default_factory=lambda: {way: [] for way in WAYS})

    def note(self, took: Times) -> None:
        for way, times in took.items():
            times.sort()
            self.p50[way].append(times[len(times) // 2])
            self.p99[way].append(times[len(times) * 99 // 100])


@dataclass
class Found:
    """All rounds."""

    quiet: Figures = field(default_factory=Figures)
    loading: Figures = field(default_factory=Figures)

    def growth(self, way: str) -> list[float]:
        """By how many seconds the 99th percentile grew in each round."""
        return less(self.loading.p99[way], self.quiet.p99[way])


@contextmanager
def scripted(folder: Path) -> Iterator[Setup]:
    """A router beside the scripted runtime; a load takes half a second of waiting there."""
    with a_mesh(folder, environment={"MESH_LOG_LEVEL": "INFO"}, separate=True) as mesh:
        mesh.client.loaded("warm")
        payload, named = digit_request("warm").SerializeToString(), (("mm-model-id", "warm"),)
        direct = Target(f"127.0.0.1:{mesh.runtime.serving_port}", INFER, payload, named)

        def load(model: str) -> Status:
            return mesh.client.register(model, f"SIZE_{100 << 20}_500_0", load=True)

        yield Setup(direct, Target(mesh.router.address, INFER, payload, named), mesh.client, load, "half a second each")


@contextmanager
def mlserver(folder: Path) -> Iterator[Setup]:
    """A mesh as `mesh up` starts it, with the walkthrough's model, and a large forest on its claim."""
    with Stack(folder) as stack:
        shutil.copy(MODELS / "mnist-svm.joblib", stack.claim)
        forest = stack.claim / "forest.joblib"
        # By MLServer's own Python, so that it is of the version that reads it.
        subprocess.run([ensure("mlserver") / "bin" / "python", "-c", FOREST, forest], check=True)
        stack.apply(service("warm", "mnist-svm.joblib"))
        stack.digit("warm")
        direct = Target(stack.server_address, INFER, digit_request(stack.concrete("warm")).SerializeToString())
        routed = Target(stack.address, INFER, digit_request("warm").SerializeToString())
        key = json.dumps({"storage_params": {"type": "pvc", "name": CLAIM}, "model_type": {"name": "sklearn"}})

        def load(model: str) -> Status:
            return stack.client.register(model, forest.name, kind="mt:sklearn", key=key, load=True)

        yield Setup(direct, routed, stack.client, load, f"{forest.stat().st_size / 1e6:.0f} MB each")


async def paced(setup: Setup, lots: random.Random, seconds: float, ended: Callable[[], bool] = lambda: True) -> Times:
    """Calls by all ways for so long, and until `ended`; what a call takes never delays the next."""
    targets = {DIRECT: setup.direct, AGAIN: setup.direct, ROUTED: setup.routed}
    channels = {way: target.channel() for way, target in targets.items()}
    took: Times = {way: [] for way in WAYS}

    async def call(way: str) -> None:
        begun = time.perf_counter()
        await targets[way].call(channels[way])
        took[way].append(time.perf_counter() - begun)

    try:
        await asyncio.gather(*(targets[way].call(channels[way]) for way in WAYS))
        due = time.perf_counter()
        end, calls = due + seconds, []
        while due < end or not ended():
            for way in lots.sample(WAYS, len(WAYS)):
                calls.append(asyncio.create_task(call(way)))
                due += PACE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await asyncio.gather(*calls)
    finally:
        for channel in channels.values():
            await channel.close()
    return took


async def round_of(setup: Setup, number: int, found: Found) -> None:
    """Calls while nothing else happens, then while two models load; these are deleted afterwards."""
    lots = random.Random(number)
    models = [f"large-{number}-{letter}" for letter in "ab"]
    found.quiet.note(await paced(setup, lots, WINDOW))
    loads = asyncio.create_task(asyncio.to_thread(have_loaded, setup, models))
    found.loading.note(await paced(setup, lots, WINDOW, loads.done))
    await loads
    for model in models:
        setup.client.unregister(model)
    # The unloads are not what is measured.
    await asyncio.sleep(1.0)


def have_loaded(setup: Setup, models: Sequence[str]) -> None:
    for model in models:
        setup.load(model)
    await_loaded(setup.client, models)


def await_loaded(client: Client, models: Sequence[str]) -> None:
    """Looks until all are loaded. Raises RuntimeError if one cannot be, or not within `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    for model in models:
        while (status := client.status(model)).status != Status.LOADED:
            if status.status == Status.LOADING_FAILED or time.monotonic() > end:
                raise RuntimeError(f"{model} is not loaded: {status}")
            time.sleep(ASKING)


async def measure(setup: Setup, rounds: int) -> Found:
    # The first load imports libraries, which is nobody's share.
    await round_of(setup, 0, Found())
    found = Found()
    for number in range(rounds):
        await round_of(setup, number + 1, found)
    return found


def less(ones: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one - other for one, other in zip(ones, others, strict=True)]


def shown(found: Found) -> str:
    """The medians as a table, and whether the router takes a part in the growth; differences are of rounds, not of medians."""

    def ms(values: list[float]) -> str:
        return f"{middle(values) * 1e3:.2f} ms"

    rows = [["", "median, quiet", "while loading", "99th percentile, quiet", "while loading", "it grows by"]]
    for way in WAYS:
        figures = (found.quiet.p50, found.loading.p50, found.quiet.p99, found.loading.p99)
        rows.append([way, *(ms(one[way]) for one in figures), ms(found.growth(way))])
    server = [(one + other) / 2 for one, other in zip(found.growth(DIRECT), found.growth(AGAIN), strict=True)]
    share = middle(less(found.growth(ROUTED), server))
    doubt = middle([abs(one) for one in less(found.growth(DIRECT), found.growth(AGAIN))])
    return (
        f"{table(rows)}\n"
        f"The 99th percentile grows by {ms(server)} at the model server and by {share * 1e3:+.2f} ms more through the router; "
        f"two equal ways differ by {doubt * 1e3:.2f} ms.\n"
        f"Verdict: the model server {'accounts' if share <= doubt else 'does not account'} for all of the growth."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scripted", action="store_true", help="a model server whose loads only wait")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    behind = "the scripted runtime" if given.scripted else "MLServer"
    with tempfile.TemporaryDirectory() as folder, (scripted if given.scripted else mlserver)(Path(folder)) as setup:
        pace = f"{1 / PACE / len(WAYS):.0f} calls a second each way"
        print(f"Calls while {behind} loads two models, {setup.size}: {given.rounds} rounds, {pace}.", flush=True)
        found = asyncio.run(measure(setup, given.rounds))
    print(shown(found))


if __name__ == "__main__":
    main()
