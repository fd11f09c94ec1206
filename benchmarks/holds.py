"""What holds a router's event loop: each callback's own CPU time beside the clock's, the garbage collector's part of it, and who it was.

How late the loop is says as much of the machine as of the router: where two processors are shared with etcd, the load and others, a
wake-up waits for its turn. What a callback holds the loop by itself is the CPU time between its begin and its end. A router that is
started with `environment(file)` writes each callback that takes longer than `LEAST` to that file.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

LEAST = 0.002
"""Seconds of CPU from which on a callback is written down; one that took `WAITED` by the clock is, too."""
WAITED = 0.02
VARIABLE = "BENCHMARK_HOLDS"
ROOT = Path(__file__).parent.parent


class Hold(NamedTuple):
    """One callback of the event loop.

    Attributes:
        cpu, clock: ms that it took.
        collector: ms of CPU of these that the garbage collector took.
        what: the callback, and if that is a step of a task, where the task is now.
    """

    cpu: float
    clock: float
    collector: float
    what: str

    @property
    def short(self) -> str:
        """The innermost of our own, and the collector's part."""
        own = [step for step in self.what.split(" > ") if "." in step] or [self.what]
        return f"{own[-1]}, the collector {self.collector:.0f} ms of it"


def environment(file: Path) -> dict[str, str]:
    """Variables of a router that is to be measured."""
    return {VARIABLE: str(file), "PYTHONPATH": os.pathsep.join([str(ROOT / "benchmarks" / "holding"), str(ROOT)])}


class Holds:
    """What a measured router wrote, phase by phase."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0

    def since(self) -> list[Hold]:
        """What came since the last look, the longest of CPU first."""
        if not self._file.exists():
            return []
        lines = self._file.read_text().splitlines()
        new, self._read = lines[self._read :], len(lines)
        return sorted((Hold(*json.loads(line)) for line in new), reverse=True)

    def shown(self) -> str:
        """The longest since the last look, in words."""
        found = self.since()
        if not found:
            return f"below {LEAST * 1e3:g} ms of CPU"
        long = sum(one.cpu > 20 for one in found)
        clock = max(one.clock for one in found)
        return f"{found[0].cpu:.0f} ms of CPU ({clock:.0f} ms by the clock), {long} above 20 ms of CPU; {found[0].short}"


def begin() -> None:
    """In the router's process: measures its loops, if the environment names a file."""
    if VARIABLE in os.environ:
        _Recorder(Path(os.environ[VARIABLE])).install()


class _Recorder:
    def __init__(self, file: Path) -> None:
        self._file = file.open("a", buffering=1)
        self._collected = self._since = 0.0

    def install(self) -> None:
        timed = self._timed

        class Loop(uvloop.Loop):
            """Every callback timed; of what it does by itself (its own transports) only what these have called."""

        # The methods that take a callback, and which of their arguments it is.
        for name, place in (("call_soon", 0), ("call_soon_threadsafe", 0), ("call_later", 1), ("call_at", 1), ("add_reader", 1)):
            setattr(Loop, name, _with(getattr(uvloop.Loop, name), place, timed))
        setattr(uvloop, "new_event_loop", Loop)  # noqa: B010
        gc.callbacks.append(self._collecting)

    def _collecting(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._since = time.thread_time()
        else:
            self._collected += time.thread_time() - self._since

    def _timed(self, callback: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            clock, collected, cpu = time.perf_counter(), self._collected, time.thread_time()
            try:
                return callback(*args)
            finally:
                took, waited = time.thread_time() - cpu, time.perf_counter() - clock
                if took > LEAST or waited > WAITED:
                    self._note(took, waited, self._collected - collected, callback)

        return run

    def _note(self, took: float, waited: float, collected: float, callback: Any) -> None:
        figures = [round(1e3 * seconds, 2) for seconds in (took, waited, collected)]
        self._file.write(json.dumps([*figures, _name(callback)]) + "\n")


def _with(method: Callable[..., Any], place: int, timed: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Callable[..., Any]:
    """A method that has the callback among its arguments timed."""

    def call(loop: Any, *args: Any, **named: Any) -> Any:
        return method(loop, *args[:place], timed(args[place]), *args[place + 1 :], **named)

    return call


def _name(callback: Any) -> str:
    task: Any = getattr(callback, "__self__", None)
    if not hasattr(task, "get_coro"):
        return str(getattr(callback, "__qualname__", callback))
    steps, coro = [], task.get_coro()
    while coro is not None:
        steps.append(getattr(coro, "__qualname__", type(coro).__name__))
        coro = getattr(coro, "cr_await", None) or getattr(coro, "ag_await", None)
    return " > ".join(steps)
