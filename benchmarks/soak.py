"""Whether a router with the express lane keeps its memory: all kinds of calls for an hour, and what is resident each minute.

`python -m benchmarks.soak [--seconds N] [--output FILE]` (`make soak`). A router with `MESH_LANE=auto` stands beside the scripted
runtime, and is used in every way that `benchmarks/soak_calls.py` knows, at a modest pace (some 45 calls a second, a quarter of a core
with all who take part). Its resident memory is looked at every two seconds, and its metrics are asked for each minute. It passes if every
call had the answer that was to come, and if the mean of the last half is at most 105 % of the tenth minute's; else the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.load import cpu, table
from benchmarks.memory import resident
from benchmarks.soak_calls import KINDS, traffic
from tests.support import lane
from tests.support.cluster import FOLLOWING_LOAD
from tests.support.mesh import Mesh, a_mesh
from tests.support.runtime_state import MIB, Behaviour

READINGS, SETTLED = 60, 10
"""So many readings, at equal distances; the first that counts, by its number from one."""
LOOKS = 30
"""At the memory, for one reading: it comes and goes with large answers."""
MOST = 1.05
"""Of what was resident then, that may be in the last half."""
SERIES = "1000"
"""Of models that the router tells, so that what it keeps up to a bound is full before the reading that counts. Models come and go all the
time, each with some eight series; the bound that it has by itself would be reached after half an hour."""
SIZE, ROOM = 64 * MIB, 8
"""Of a model, and of how many there is room (one of it is kept free)."""


@dataclass(frozen=True)
class Reading:
    """Of the router's process: seconds since the start, resident MiB (means since the last), CPU seconds, threads, files; right calls."""

    at: float
    resident: float
    anonymous: float
    cpu: float
    threads: int
    files: int
    calls: int


@dataclass
class Soak:
    """All that was seen."""

    readings: list[Reading] = field(default_factory=list)
    done: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    @property
    def settled(self) -> float:
        return self.readings[SETTLED - 1].resident

    @property
    def late(self) -> float:
        """Mean of the last half."""
        last = [one.resident for one in self.readings[len(self.readings) // 2 :]]
        return sum(last) / len(last)

    @property
    def passed(self) -> bool:
        return not self.failed and self.late <= MOST * self.settled and all(self.done.get(kind.name) for kind in KINDS)


def read(pid: int, looks: list[tuple[float, float]], begun: float, calls: int) -> Reading:
    every, anonymous = (sum(part) / len(looks) for part in zip(*looks, strict=True))
    threads, files = (len(list(Path(f"/proc/{pid}/{what}").iterdir())) for what in ("task", "fd"))
    return Reading(time.monotonic() - begun, every, anonymous, cpu(pid), threads, files, calls)


def row(one: Reading) -> list[str]:
    shown = [f"{one.at / 60:.1f} min", f"{one.resident:.1f} MiB", f"{one.anonymous:.1f} MiB", f"{one.cpu:.0f} s"]
    return [*shown, f"{one.threads}", f"{one.files}", f"{one.calls:,}"]


HEAD = ["after", "resident", "anonymous", "CPU", "threads", "files", "calls"]


async def soak(mesh: Mesh, seconds: float) -> Soak:
    """Has the router called, and reads its memory; progress goes to standard output."""
    found, pid = Soak(), mesh.router.process.pid
    print("  ".join(HEAD), flush=True)
    async with traffic(mesh.router.address, mesh.router.rest) as calls:
        begun = time.monotonic()
        tasks = [asyncio.create_task(calls.steadily(kind)) for kind in KINDS]
        for number in range(1, READINGS + 1):
            looks = []
            for look in range(1, LOOKS + 1):
                await asyncio.sleep(begun + seconds * (number - 1 + look / LOOKS) / READINGS - time.monotonic())
                looks.append(resident(pid))
            await asyncio.to_thread(mesh.router.scrape)
            if ended := [task for task in tasks if task.done()]:
                # What the kinds do not expect to go wrong is a mistake here.
                ended[0].result()
            found.readings.append(read(pid, looks, begun, calls.done.total()))
            print("  ".join(row(found.readings[-1])), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        found.done, found.failed, found.told = dict(calls.done), dict(calls.failed), calls.told
    return found


def shown(found: Soak) -> str:
    kinds = [
        ["calls", "right", "not"],
        *([kind.name, f"{found.done.get(kind.name, 0):,}", f"{found.failed.get(kind.name, 0)}"] for kind in KINDS),
    ]
    share = found.late / found.settled
    verdict = f"last half: {found.late:.1f} MiB, {share:.1%} of reading {SETTLED}'s {found.settled:.1f} MiB (at most {MOST:.0%})"
    told = "".join(f"\n{line}" for line in found.told)
    return f"{table([HEAD, *map(row, found.readings)])}\n\n{table(kinds)}{told}\n\n{verdict}: {'passed' if found.passed else 'FAILED'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--output", type=Path, help="where the figures are written as JSON")
    given = parser.parse_args()
    if not lane.built():
        raise SystemExit("the express lane is not compiled: `make lane` does it where cargo is")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # An hour of lines that nobody reads.
        (folder / "journal.jsonl").symlink_to("/dev/null")
        # As outside of tests, what the lane counted is collected at each rate tick.
        environment = lane.variables("auto") | {"MESH_LOG_LEVEL": "WARNING", "MESH_MAX_PER_MODEL_SERIES": SERIES} | FOLLOWING_LOAD
        with a_mesh(folder, Behaviour(capacity=ROOM * SIZE, default_size=SIZE), environment) as mesh:
            found = asyncio.run(soak(mesh, given.seconds))
    print(f"\n{shown(found)}")
    if given.output:
        figures = asdict(found) | {"settled": found.settled, "late": found.late, "passed": found.passed, "at": time.time()}
        given.output.write_text(json.dumps(figures, indent=1))
    sys.exit(not found.passed)


if __name__ == "__main__":
    main()
