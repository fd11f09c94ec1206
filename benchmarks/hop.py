"""What one hop through the router costs: unary gRPC calls through it and straight to the model server, in turns, in one run.

`python -m benchmarks.hop [--mlserver] [--rounds N] [--calls N]`. Without `--mlserver` the model server is the scripted one of the
tests, which does nothing but answer, so that the hop is all there is to see; it is Python too, and shares the machine with the load.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import CONNECTIONS, STREAMS, Target, generator, latencies, middle, rate, table
from mesh.protocols import inference_pb2 as v2
from tests.integration.models.stack import MODELS, Stack, digit_request, service
from tests.support.mesh import a_mesh

INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True)
class Setup:
    """The two ways to one loaded model, and the router's process."""

    direct: Target
    routed: Target
    router_pid: int


@dataclass
class Figures:
    """Of one way: a value per round."""

    rates: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


@contextmanager
def scripted(folder: Path) -> Iterator[Setup]:
    """A router beside the scripted runtime; the model is named by a header, as ModelMesh's clients do."""
    request = digit_request("bench").SerializeToString()
    with a_mesh(folder, environment={"MESH_LOG_LEVEL": "INFO"}, separate=True) as mesh:
        mesh.client.loaded("bench")
        named = (("mm-model-id", "bench"),)
        direct = Target(f"127.0.0.1:{mesh.runtime.serving_port}", INFER, request, named)
        yield Setup(direct, Target(mesh.router.address, INFER, request, named), mesh.router.process.pid)


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
        yield Setup(direct, Target(stack.address, INFER, digit_request("bench").SerializeToString()), router)


async def measure(setup: Setup, rounds: int, calls: int) -> tuple[dict[str, Figures], list[float]]:
    """Figures of both ways, and the router's CPU seconds a call in each round."""
    found, cpu = {"direct": Figures(), "routed": Figures()}, []
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
            before = _cpu(setup.router_pid)
            found[name].rates.append(await rate(targets[name], calls))
            if name == "routed":
                cpu.append((_cpu(setup.router_pid) - before) / calls)
    return found, cpu


async def _check(target: Target) -> None:
    async with target.channel() as channel:
        answer = v2.ModelInferResponse.FromString(await target.call(channel))
    if not answer.outputs:
        raise RuntimeError(f"{target.address} answered nothing")


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process used, by the kernel's account."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shown(found: dict[str, Figures], cpu: list[float]) -> str:
    """The medians as a table; ratios are of rounds, not of medians."""
    direct, routed = found["direct"], found["routed"]

    def row(name: str, one: list[float], other: list[float], scale: float, unit: str) -> list[str]:
        ratio = middle([b / a for a, b in zip(one, other, strict=True)])
        return [name, f"{middle(one) * scale:,.2f} {unit}", f"{middle(other) * scale:,.2f} {unit}", f"{ratio:.2f}"]

    lines = table(
        [
            ["", "direct", "through the router", "ratio"],
            row("one at a time, median", direct.p50, routed.p50, 1e3, "ms"),
            row("one at a time, 99th percentile", direct.p99, routed.p99, 1e3, "ms"),
            row(f"{CONNECTIONS} connections of {STREAMS} calls", direct.rates, routed.rates, 1.0, "/s"),
        ]
    )
    return f"{lines}\nThe router used {middle(cpu) * 1e6:,.0f} µs of CPU a call."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mlserver", action="store_true", help="a real MLServer with the walkthrough's model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4000, help="calls of each way in each round")
    given = parser.parse_args()
    behind = "MLServer" if given.mlserver else "the scripted runtime"
    print(f"One hop to {behind}: {given.rounds} rounds in turns; load by {generator()}.", flush=True)
    with tempfile.TemporaryDirectory() as folder, (mlserver if given.mlserver else scripted)(Path(folder)) as setup:
        found, cpu = asyncio.run(measure(setup, given.rounds, given.calls))
    print(shown(found, cpu))


if __name__ == "__main__":
    main()
