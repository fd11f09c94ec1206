"""What one hop through the router costs: unary gRPC calls through it and straight to the model server, in turns, in one run.

`python -m benchmarks.hop [--mlserver | --peer] [--rounds N] [--calls N]`. Without `--mlserver` the model server is the scripted one of the
tests, which does nothing but answer, so that the hop is all there is to see; it is Python too, and shares the machine with the load.

With `--peer` there are two pods on an etcd, and the model is on one of them: the same calls go to that pod, and to the other, which has to
pass them on. CPU is that of both routers; by it, and not by the clock, the two ways compare on a machine that does other things, too.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import CONNECTIONS, STREAMS, Target, cpu, generator, latencies, middle, rate, table
from mesh.protocols import inference_pb2 as v2
from tests.integration.etcd.server import Etcd
from tests.integration.models.stack import MODELS, Stack, digit_request, service
from tests.support import environments
from tests.support.cluster import a_cluster
from tests.support.mesh import a_mesh

QUIET = {"MESH_LOG_LEVEL": "INFO", "MM_SCALEUP_RPM_THRESHOLD": "1000000000"}
"""A model that is called so much would get a second copy, and the calls of both ways would be shared by both pods."""
INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Setup:
    """The two ways to one loaded model, and the router's process."""

    direct: Target
    routed: Target
    routers: tuple[int, ...]
    names: tuple[str, str] = ("direct", "through the router")


@dataclass
class Figures:
    """Of one way: a value per round."""

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@contextmanager
def scripted(folder: Path) -> Iterator[Setup]:
    """A router beside the scripted runtime; the model is named by a header, as ModelMesh's clients do."""
    request = digit_request("bench").SerializeToString()
    with a_mesh(folder, environment=QUIET, separate=True) as mesh:
        mesh.client.loaded("bench")
        named = (("mm-model-id", "bench"),)
        direct = Target(f"127.0.0.1:{mesh.runtime.serving_port}", INFER, request, named)
        yield Setup(direct, Target(mesh.router.address, INFER, request, named), (mesh.router.process.pid,))


@contextmanager
def peer(folder: Path) -> Iterator[Setup]:
    """Two pods; "direct" is the one that has the model."""
    request, named = digit_request("bench").SerializeToString(), (("mm-model-id", "bench"),)
    (folder / "etcd").mkdir()
    etcd = Etcd(environments.made("etcd"), folder / "etcd")
    etcd.start()
    try:
        with a_cluster(folder, f"etcd:{etcd.address}", 2, service="hop", environment=QUIET, separate=True) as mesh:
            mesh[0].client.loaded("bench")
            (holder,) = mesh.held("bench")
            here, there = (Target(pod.router.address, INFER, request, named) for pod in (mesh[holder], mesh[1 - holder]))
            pids = tuple(pod.router.process.pid for pod in mesh.pods)
            yield Setup(here, there, pids, ("on the pod that has it", "over another pod"))
    finally:
        etcd.stop()


@contextmanager
def mlserver(folder: Path) -> Iterator[Setup]:
    """A mesh as `mesh up` starts it, with the walkthrough's model."""
    with Stack(folder) as stack:
        shutil.copy(MODELS / "mnist-svm.joblib", stack.claim)
        stack.apply(service("bench", "mnist-svm.joblib"))
        stack.digit("bench")
        router = next(int(one["pid"]) for one in stack.status()["processes"] if one["name"] == "router")
        straight = digit_request(stack.concrete("bench")).SerializeToString()
        direct = Target(stack.server_address, INFER, straight)
        yield Setup(direct, Target(stack.address, INFER, digit_request("bench").SerializeToString()), (router,))


TITLES = {scripted: "to the scripted runtime", mlserver: "to MLServer", peer: "from pod to pod"}


async def measure(setup: Setup, rounds: int, calls: int) -> dict[str, Figures]:
    """Figures of both ways."""
    found = {"direct": Figures(), "routed": Figures()}
    targets = {"direct": setup.direct, "routed": setup.routed}
    for target in targets.values():
        await _check(target)
    for number in range(rounds):
        # Who begins changes, so that neither way always meets the warmer machine.
        order = list(targets) if number % 2 else list(targets)[::-1]
        for name in order:
            times = await latencies(targets[name], calls // 4)
            found[name].p50.append(times[len(times) // 2])
            found[name].p99.append(times[len(times) * 99 // 100])
            before = sum(map(cpu, setup.routers))
            found[name].rates.append(await rate(targets[name], calls))
            found[name].cpu.append((sum(map(cpu, setup.routers)) - before) / calls)
    return found


async def _check(target: Target) -> None:
    async with target.channel() as channel:
        answer = v2.ModelInferResponse.FromString(await target.call(channel))
    if not answer.outputs:
        raise RuntimeError(f"{target.address} answered nothing")


def shown(found: dict[str, Figures], names: tuple[str, str]) -> str:
    """The medians as a table; ratios are of rounds, not of medians."""
    direct, routed = found["direct"], found["routed"]

    def row(name: str, one: list[float], other: list[float], scale: float, unit: str) -> list[str]:
        # A router that is not asked uses next to nothing.
        ratio = f"{middle([b / a for a, b in zip(one, other, strict=True)]):.2f}" if middle(one) > 1e-5 else "-"
        return [name, f"{middle(one) * scale:,.2f} {unit}", f"{middle(other) * scale:,.2f} {unit}", ratio]

    return table(
        [
            ["", *names, "ratio"],
            row("one at a time, median", direct.p50, routed.p50, 1e3, "ms"),
            row("one at a time, 99th percentile", direct.p99, routed.p99, 1e3, "ms"),
            row(f"{CONNECTIONS} connections of {STREAMS} calls", direct.rates, routed.rates, 1.0, "/s"),
            row("CPU of routers a call", direct.cpu, routed.cpu, 1e6, "µs"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    behind = parser.add_mutually_exclusive_group()
    behind.add_argument(
        "--mlserver", action="store_const", const=mlserver, dest="setup", help="a real MLServer with the walkthrough's model"
    )
    behind.add_argument("--peer", action="store_const", const=peer, dest="setup", help="two pods, one of which has the model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4000, help="calls of each way in each round")
    given = parser.parse_args()
    made = given.setup or scripted
    print(f"One hop, {TITLES[made]}: {given.rounds} rounds in turns; load by {generator()}.", flush=True)
    with tempfile.TemporaryDirectory() as folder, made(Path(folder)) as setup:
        found = asyncio.run(measure(setup, given.rounds, given.calls))
    print(shown(found, setup.names))


if __name__ == "__main__":
    main()
