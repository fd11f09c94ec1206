"""`make simulate`: plays many seeds on all cores, and tells those that went wrong with the command that plays each again."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from types import FrameType

from tests.simulation import large
from tests.simulation.broken_rules import BROKEN, broken
from tests.simulation.schedule import Outcome, play

LIMIT = 300
"""Seconds of real time after which a seed counts as hanging."""


def main() -> int:
    """Exit status 0 if all went well."""
    asked = _arguments()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets would be another one in each process, and a seed would not play the same again.
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], {**os.environ, "PYTHONHASHSEED": "0"})
    if asked.seed is not None:
        return _one(asked.seed)
    if asked.large:
        return _told(large.play())
    if asked.broken:
        return _broken(asked.broken, asked.seeds)
    return _many(range(asked.first, asked.first + asked.seeds), asked.processes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="play this one alone, and tell its latest events")
    parser.add_argument("--large", action="store_true", help="play one mesh of 200 pods and 100,000 models instead")
    parser.add_argument("--broken", choices=list(BROKEN), help="break this rule, and play seeds until one notices")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def _one(seed: int) -> int:
    return _told(play(seed))


def _broken(rule: str, seeds: int) -> int:
    """Exit status 0 if one of so many seeds noticed."""
    with broken(rule):
        for seed in range(seeds):
            if complaints := play(seed).complaints:
                print(f"{rule}: seed {seed} notices: {complaints[0]}")
                return 0
    print(f"{rule}: none of {seeds} seeds notices")
    return 1


def _told(outcome: Outcome) -> int:
    print(outcome.story)
    print(f"digest {outcome.digest:08x}; {outcome.counts}")
    return 1 if outcome.complaints else 0


def _many(seeds: range, processes: int) -> int:
    begun, failed, calls, loads, worst = time.monotonic(), [], 0, 0, (0.0, 0)
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        for done, (seed, took, complaints, counts) in enumerate(pool.imap_unordered(_guarded, seeds), 1):
            calls, loads = calls + counts.get("calls", 0), loads + counts.get("loads", 0)
            worst = max(worst, (took, seed))
            if complaints:
                failed.append(seed)
                told = "\n    ".join(complaints[:5])
                print(f"\rseed {seed} went wrong; see it again with `make simulate SEED={seed}`\n    {told}", flush=True)
            if sys.stdout.isatty() or done == len(seeds) or done % 100 == 0:
                _tell(done, len(seeds), len(failed), time.monotonic() - begun)
    seconds = time.monotonic() - begun
    print(f"\n{len(seeds)} seeds ({seeds[0]} to {seeds[-1]}) in {seconds:.0f} s: {calls} calls, {loads} loads")
    print(f"the slowest was seed {worst[1]}: {worst[0]:.1f} s")
    print(f"{len(failed)} went wrong: {' '.join(map(str, sorted(failed)))}" if failed else "all went well")
    return 1 if failed else 0


def _tell(done: int, of: int, failed: int, seconds: float) -> None:
    bar = "#" * (40 * done // of)
    print(f"\r[{bar:<40}] {done}/{of}, {failed} wrong, {seconds:.0f} s, {seconds / done * (of - done):.0f} s left", end="", flush=True)


def _guarded(seed: int) -> tuple[int, float, list[str], dict[str, int]]:
    """One seed: number, seconds, complaints, counts. Whatever happens to it is a complaint."""

    def late(_number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {LIMIT} s: {''.join(traceback.format_stack(frame)[-3:])}")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    begun = time.monotonic()
    gc.disable()
    try:
        outcome = play(seed)
        return seed, time.monotonic() - begun, outcome.complaints, outcome.counts
    except BaseException as error:
        return seed, time.monotonic() - begun, [f"{type(error).__name__}: {error}"], {}
    finally:
        signal.alarm(0)
        gc.enable()
        gc.collect()


if __name__ == "__main__":
    sys.exit(main())
