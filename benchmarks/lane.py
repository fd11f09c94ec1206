"""What a hop over the express lane costs beside the same hop over native proxies, over the Python doors, and over none at all.

`python -m benchmarks.lane [--cases NAME …] [--rounds N] [--calls N] [--output FILE]` (`make bench` does it). HAProxy, nghttpx, Envoy, nginx
and the lane have one worker each and keep to one core, before the same `nghttpd`, which answers any call with a file; `h2load` makes the
calls, and both keep to the other cores. They take turns. The lane finds the model by an alias in the request, and puts its id into
it; the others do not look. "router" is a whole `mesh router`, with the lane and with the Python doors alone. Needs the compiled lane
and Debian's nghttp2-client and nghttp2-server; of the others, those are measured that are installed.

Calls per second mean something on a machine that does nothing else; the CPU time of a way's processes per call, and its reciprocal,
calls per second of CPU, do on any. Then calls are made at a fixed rate, half of what the slowest native proxy had: medians and 99th
percentiles, and how much the medians are above those without a proxy. A run counts only if every answer was a 200 with all its bytes;
that they end with grpc-status 0 is asked once, before, of each way.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from benchmarks.lane_cases import CASES, MOST, Case, answering, start, why_not
from benchmarks.lane_ways import Load, Way, beside, measured, paced, turns
from benchmarks.load import middle, table
from tests.support import lane

PACED_SECONDS, PACED_ROUNDS = 2.0, 9
SLOWER = 10
"""By how much fewer calls are made of a way that is slow."""


def compared(case: Case, given: argparse.Namespace) -> dict[str, Way]:
    """All ways of a case."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        upstream, load = answering(stack, folder, case, given.calls // case.messages)
        ways = start(stack, folder, case, upstream, load)
        for number in range(given.rounds):
            print(f"  round {number + 1} of {given.rounds}", flush=True)
            for each in turns(ways, number):
                way = ways[each]
                measured(way, replace(load, calls=max(1, load.calls // SLOWER)) if way.slow else load)
        rate = at_a_fixed_rate(ways, load, given.pace)
        at_a_time = f"{load.connections} connections of {load.streams}, {load.calls} calls in each of {given.rounds} rounds"
        times = f"; times at {rate:,.0f} calls a second" if rate else ""
        print(f"{case.title}: {at_a_time}{times}\n{shown(ways)}\n", flush=True)
        return ways


def at_a_fixed_rate(ways: dict[str, Way], load: Load, pace: float | None) -> float:
    """Measures times at half the rate of the slowest native proxy, or at `pace`; the rate."""
    rate = min([middle(way.rates) for way in ways.values() if way.native] or [middle(ways["lane"].rates)]) / 2 if pace is None else pace
    if rate:
        steady = replace(load, calls=max(load.connections, int(rate * PACED_SECONDS)))
        quick = {name: way for name, way in ways.items() if not way.slow and not name.startswith("lane without")}
        for number in range(PACED_ROUNDS):
            for each in turns(quick, number):
                paced(ways[each], steady, rate)
    return rate


def shown(ways: dict[str, Way]) -> str:
    """The medians as a table. "the lane's": by how much the lane does more than the way of this row."""
    ours, direct = ways["lane"], ways["direct"]
    rows = [["", "calls/s", "the lane's", "CPU a call", "least", "calls/CPU s", "the lane's", "p50", "added", "p99"]]
    for name, way in ways.items():
        row = [name, f"{middle(way.rates):,.0f}", beside(ours.rates, way.rates), *["-"] * 7]
        if way.pids:
            row[3:5] = [f"{middle(way.cpu) * 1e6:.2f} µs", f"{min(way.cpu) * 1e6:.2f} µs"]
            row[5:7] = [f"{1 / middle(way.cpu):,.0f}", beside(way.cpu, ours.cpu)]
        if way.paced:
            added = middle([mine - its for mine, its in zip(way.paced, direct.paced, strict=True)])
            row[7:] = [f"{middle(way.paced) * 1e6:,.0f} µs", f"{added * 1e6:,.0f} µs", f"{middle(way.late) * 1e6:,.0f} µs"]
        rows.append(row)
    return table(rows)


def machine() -> str:
    """What the figures are of."""
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores ({platform.machine()}), load average {load:.1f} before the run, {time.strftime('%Y-%m-%d')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20_000, help=f"of each way in each round, or as many as make {MOST // 10**6} MB")
    parser.add_argument(
        "--pace", type=float, help="calls a second whose times are measured; 0 for none; half the slowest proxy's if not set"
    )
    parser.add_argument("--output", type=Path, help="where the figures are written as JSON")
    given = parser.parse_args()
    if not lane.built():
        print("The express lane beside other proxies: skipped, it is not compiled; `make lane` does it where cargo is")
        return
    on, figures = machine(), {}
    print(f"The express lane beside other proxies: {on}.", flush=True)
    for name in given.cases:
        if why := why_not(CASES[name]):
            print(f"{CASES[name].title}: skipped, {why}", flush=True)
            continue
        print(f"{CASES[name].title}:", flush=True)
        figures[name] = {way: one.to_json() for way, one in compared(CASES[name], given).items()}
    if given.output:
        given.output.write_text(json.dumps({"at": time.time(), "machine": on, "cases": figures}, indent=1))


if __name__ == "__main__":
    main()
