"""What a call costs the routers of three pods, with the express lane and with the Python doors alone.

`python -m benchmarks.lane_mesh [--rounds N] [--calls N] [--streams N] [--json FILE]`. Two meshes of three pods each stand beside one
another on one etcd, the one with `MESH_LANE=auto` and the other with `off`; all else is alike, with the settings' defaults and with
metrics. A model is on one pod of each. The same calls go by turns to the pod that has it (one hop), to one that has not (two), and to all
three alike, as the calls of clients do that are balanced over pods. Model servers are the scripted ones, which are Python too and allow
about as many calls a second as a Python door: so what compares is the CPU time of the three routers' processes together for each call.
They use some without calls (etcd's heartbeats, rate ticks, timers), which is measured before each run and told beside it: `net` is
without that.

A run counts only if the routers counted as many calls with the code OK as were made.

Where nghttpx is installed (Debian's nghttp2-proxy) the calls of one hop also go through it, alone before the same model server: what a
native proxy that only passes on needs at this rate, at which nearly each message wakes a thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from grpc.aio import AioRpcError
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load import Target, cpu, generator, middle, rate, table
from mesh.protocols import inference_pb2 as v2
from tests.integration.etcd.server import Etcd
from tests.support import environments, lane
from tests.support.cluster import Cluster, PodProcesses, a_cluster
from tests.support.ports import free
from tests.support.waiting import until

INFER = "/inference.GRPCInferenceService/ModelInfer"
MODEL = "bench"
BODY = bytes(200)
"""Of a tensor; the request with it has about 300 bytes."""
IDLE = 2.0
"""Seconds in which routers that are not called are watched."""
QUIET = {"MM_SCALEUP_RPM_THRESHOLD": "1000000000", "MM_METRICS": "prometheus:port=0;scheme=http"}
"""A model that is called so much would get further copies."""
WAYS = ("one hop", "two hops", "all pods alike")
NATIVE = "one hop, nghttpx alone"


@dataclass
class Figures:
    """Of one way over one mesh: a value for each round.

    Attributes:
        cpu, net: microseconds a call, of all three routers; `net` without what they use anyway.
        rates: calls a second.
    """

    cpu: list[float] = field(default_factory=list)
    net: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Side:
    """One of the two meshes, and where its calls go by each way."""

    mesh: Cluster
    targets: dict[str, list[Target]]

    def spent(self) -> float:
        """Seconds of CPU of all routers."""
        return sum(cpu(pod.router.process.pid) for pod in self.mesh.pods)

    def answered(self) -> int:
        """Calls that came in anywhere and ended well."""
        found = 0.0
        for pod in self.mesh.pods:
            for family in text_string_to_metric_families(pod.router.scrape()):
                for sample in family.samples:
                    if sample.name == "modelmesh_api_request_milliseconds_count" and sample.labels["code"] == "OK":
                        found += sample.value
        return int(found)


@contextmanager
def side(folder: Path, store: str, mode: str) -> Iterator[Side]:
    """A mesh of three pods of which one has the model, and all know that."""
    folder.mkdir()
    environment = QUIET | lane.variables(mode)
    with a_cluster(folder, store, 3, service=f"bench-{mode}", environment=environment, separate=True) as mesh:
        mesh[0].client.loaded(MODEL)
        (holder,) = mesh.held(MODEL)
        request = v2.ModelInferRequest(model_name=MODEL, id="1", raw_input_contents=[BODY])
        request.inputs.add(name="x", datatype="UINT8", shape=[len(BODY)])
        named = (("mm-model-id", MODEL),)
        places = [mesh[(holder + number) % 3] for number in range(3)]
        for pod in places:
            until(partial(_served, pod, request), "the model answers")
        targets = [Target(pod.router.address, INFER, request.SerializeToString(), named) for pod in places]
        yield Side(mesh, dict(zip(WAYS, (targets[:1], targets[1:2], targets), strict=True)))


def _served(pod: PodProcesses, request: v2.ModelInferRequest) -> bool:
    return pod.client.v2.ModelInfer(request, timeout=30).id == "1"


async def run(one: Side, way: str, calls: int, streams: int) -> tuple[float, float, float]:
    """Microseconds of CPU a call, the same without what is used anyway, and calls a second.

    Raises:
        RuntimeError: not every call was answered as it should be.
    """
    # What the last run left is counted before this one.
    before_calls = one.answered()
    idle, begun = one.spent(), time.monotonic()
    await asyncio.sleep(IDLE)
    resting = (one.spent() - idle) / (time.monotonic() - begun)
    before, begun = one.spent(), time.monotonic()
    targets = one.targets[way]
    speed = sum(await asyncio.gather(*(rate(target, calls // len(targets), streams) for target in targets)))
    calls = calls // len(targets) * len(targets)
    took, spent = time.monotonic() - begun, one.spent() - before
    answered = one.answered() - before_calls
    if answered != calls:
        raise RuntimeError(f"of {calls} calls {answered} ended well; the logs of the routers tell why")
    return spent / calls * 1e6, max(0.0, spent - resting * took) / calls * 1e6, speed


@contextmanager
def native(one: Side) -> Iterator[tuple[Target, int] | None]:
    """nghttpx before the model server that has the model, and its process; None where it is not installed."""
    program = shutil.which("nghttpx") or shutil.which("nghttpx", path="/usr/sbin")
    if program is None:
        yield None
        return
    (holder,) = one.mesh.held(MODEL)
    (port,) = free()
    backend = f"--backend=127.0.0.1,{one.mesh[holder].runtime.serving_port};;proto=h2"
    options = ["--conf=/dev/null", "--workers=1", "--single-process", f"--frontend=127.0.0.1,{port};no-tls", backend, "--log-level=FATAL"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            target = replace(one.targets[WAYS[0]][0], address=f"127.0.0.1:{port}")
            until(lambda: asyncio.run(_answers(target)), "nghttpx listens")
            yield target, process.pid
        finally:
            process.terminate()


async def _answers(target: Target) -> bool:
    async with target.channel() as channel:
        try:
            return v2.ModelInferResponse.FromString(await target.call(channel)).id == "1"
        except AioRpcError:
            return False


async def measure(
    sides: dict[str, Side], rounds: int, calls: int, streams: int, beside: tuple[Target, int] | None
) -> dict[str, dict[str, Figures]]:
    """Figures by way and mesh; who begins changes, so that neither always meets the warmer machine. `beside`: as of `native`."""
    found = {way: {mode: Figures() for mode in sides} for way in WAYS}
    if beside is not None:
        found[NATIVE] = {"auto": Figures()}
    for number in range(rounds + 1):
        for way in WAYS:
            for mode in list(sides)[:: 1 if number % 2 else -1]:
                spent, net, speed = await run(sides[mode], way, calls, streams)
                # The first round warms up.
                if number:
                    figures = found[way][mode]
                    figures.cpu.append(spent)
                    figures.net.append(net)
                    figures.rates.append(speed)
        if beside is not None:
            target, pid = beside
            before, speed = cpu(pid), await rate(target, calls, streams)
            if number:
                figures = found[NATIVE]["auto"]
                figures.cpu.append((cpu(pid) - before) / calls * 1e6)
                figures.rates.append(speed)
    return found


def shown(found: dict[str, dict[str, Figures]]) -> str:
    """The medians; ratios are of rounds, not of medians."""
    rows = [["CPU of three routers a call", "Python doors", "lane", "ratio"]]
    for way, by_mode in found.items():
        if way == NATIVE:
            beside = by_mode["auto"]
            rows.append([f"{way}: {middle(beside.rates):,.0f} calls a second", "", f"{middle(beside.cpu):,.1f} µs", ""])
            continue
        python, express = by_mode["off"], by_mode["auto"]
        for name, one, other in (("", python.cpu, express.cpu), (", net", python.net, express.net)):
            ratio = middle([a / b for a, b in zip(one, other, strict=True)])
            rows.append([f"{way}{name}", f"{middle(one):,.1f} µs", f"{middle(other):,.1f} µs", f"{ratio:.1f}"])
        rows.append([f"{way}, calls a second", f"{middle(python.rates):,.0f}", f"{middle(express.rates):,.0f}", ""])
    return table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--calls", type=int, default=4000, help="of each way over each mesh in each round")
    parser.add_argument("--streams", type=int, default=64, help="calls at a time on each of four connections to a pod")
    parser.add_argument("--json", type=Path, help="file for all values")
    given = parser.parse_args()
    if not lane.built():
        raise SystemExit("the express lane is not compiled: `make lane` does it where cargo is")
    print(f"Three pods, with the lane and without: {given.rounds} rounds in turns; load by {generator()}.", flush=True)
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        (folder / "etcd").mkdir()
        etcd = Etcd(environments.made("etcd"), folder / "etcd")
        etcd.start()
        running.callback(etcd.stop)
        sides = {mode: running.enter_context(side(folder / mode, f"etcd:{etcd.address}", mode)) for mode in ("off", "auto")}
        beside = running.enter_context(native(sides["auto"]))
        found = asyncio.run(measure(sides, given.rounds, given.calls, given.streams, beside))
    print(shown(found))
    if given.json is not None:
        given.json.write_text(json.dumps({way: {mode: asdict(one) for mode, one in by.items()} for way, by in found.items()}, indent=1))


if __name__ == "__main__":
    main()
