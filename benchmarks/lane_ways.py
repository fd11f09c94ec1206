"""Ways from a load generator to an upstream, what goes over them, and what it costs whoever is in between."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load import cpu, middle
from tests.support.waiting import until

SERVICE = "inference.GRPCInferenceService"
UNARY, STREAM = f"{SERVICE}/ModelInfer", f"{SERVICE}/ModelStreamInfer"
Process = subprocess.Popen[bytes]
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE, OTHER_CORES = CORES[-1:], CORES[:-1] or CORES


@dataclass
class Way:
    """One way to the upstream: where it begins, and the processes that carry it; none for the upstream itself.

    Attributes:
        options: of `h2load`, beside those of the load.
        answer: bytes of an answer, where they are not those of the upstream.
        native: whether it is somebody else's proxy.
        slow: whether it is too slow for the rate that others are called at.
        carried: answers how many calls each lane on it brought to its copy since it was asked last; the others it handed over.
        rates: calls a second, of each round.
        cpu: seconds of a call, of each round.
        paced, late: the median and the 99th percentile of a call at a fixed rate, in seconds, of each round.
    """

    port: int
    pids: list[int] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    answer: int | None = None
    native: bool = False
    slow: bool = False
    carried: Sequence[Callable[[], int]] = ()
    path: str = ""
    scheme: str = "http"
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    paced: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, list[float]]:
        """What was measured, in seconds and calls a second, of each round."""
        return {"rates": self.rates, "cpu": self.cpu, "paced": self.paced, "late": self.late}

    @property
    def used(self) -> float:
        """CPU seconds of its processes so far."""
        return sum(map(cpu, self.pids))


@dataclass(frozen=True)
class Load:
    """What is asked, how often, and what comes back."""

    calls: int
    connections: int
    streams: int
    body: Path
    answer: int
    path: str = f"/{UNARY}"
    options: tuple[str, ...] = ("-Hcontent-type: application/grpc", "-Hte: trailers")


def pinned(cores: list[int], *command: str) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, cores)), *command]


@contextmanager
def running(log: Path, *command: str) -> Iterator[Process]:
    with log.open("wb") as file, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.terminate()


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def ends_well(way: Way, load: Load) -> bool:
    """Whether a call over gRPC ends with grpc-status 0."""
    more = [option for option in (*load.options, *way.options) if option.startswith("-H")]
    command = ["nghttp", "-v", "-n", f"-d{load.body}", *more, f"{way.scheme}://127.0.0.1:{way.port}{way.path or load.path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"grpc-status: (\d+)", re.sub(r"\x1b\[[0-9;]*m", "", done.stdout))
    return found is not None and found[1] == "0"


def called(way: Way, load: Load, *more: str) -> float:
    """Makes the calls; how many there were a second.

    Raises:
        RuntimeError: not every answer was a 200 with all its bytes.
    """
    command = [
        "h2load",
        f"-n{load.calls}",
        f"-c{load.connections}",
        f"-m{load.streams}",
        f"-d{load.body}",
        *load.options,
        *way.options,
        *more,
    ]
    command.append(f"{way.scheme}://127.0.0.1:{way.port}{way.path or load.path}")
    done = subprocess.run(pinned(OTHER_CORES, *command), capture_output=True, text=True, check=True)
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
    data = re.search(r"headers \(space savings .*?\), \S+ \((\d+)\) data", done.stdout)
    wanted = load.calls * (load.answer if way.answer is None else way.answer)
    if rate is None or data is None or f" {load.calls} 2xx" not in done.stdout or int(data[1]) != wanted:
        raise RuntimeError(f"h2load, {wanted} bytes wanted: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return float(rate[1])


def measured(way: Way, load: Load) -> None:
    """One run, as fast as it goes.

    Raises:
        RuntimeError: not every answer was right, or a lane did not carry every call itself.
    """
    for carried in way.carried:
        carried()
    before = way.used
    way.rates.append(called(way, load))
    way.cpu.append((way.used - before) / load.calls)
    for carried in way.carried:
        if (found := carried()) != load.calls:
            raise RuntimeError(f"a lane brought {found} of {load.calls} calls to its copy, and handed the others over")


def asked(process: Process, log: Path) -> int:
    """How many calls `benchmarks.lane_served` brought to its copy since it was asked last."""
    assert process.stdin is not None
    before = log.stat().st_size
    process.stdin.write(b"\n")
    process.stdin.flush()
    told: list[bytes] = []

    def said() -> bool:
        told[:] = log.read_bytes()[before:].splitlines(keepends=True)
        return bool(told) and told[-1].endswith(b"\n")

    until(said, "the lane says what it carried")
    return int(json.loads(told[-1])["carried"])


def paced(way: Way, load: Load, rate: float) -> None:
    """One run of so many calls a second."""
    with tempfile.NamedTemporaryFile() as log:
        called(way, load, f"--rps={rate / load.connections}", f"--log-file={log.name}")
        times = sorted(int(line.split()[2]) / 1e6 for line in Path(log.name).read_text().splitlines())
    way.paced.append(middle(times))
    way.late.append(times[len(times) * 99 // 100])


def turns(ways: dict[str, Way], number: int) -> list[str]:
    """Who follows whom in a round: every other time the other way round."""
    return list(ways) if number % 2 else list(ways)[::-1]


def beside(mine: list[float], its: list[float]) -> str:
    """The median of the ratios of rounds, which is not the ratio of medians."""
    return f"{middle([one / other for one, other in zip(mine, its, strict=True)]):.2f}"


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
