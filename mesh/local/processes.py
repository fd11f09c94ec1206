"""One process that is kept running: started, restarted with growing pauses when it dies, and ended with everything it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
HEALTHY_AFTER = 60.0
"""Seconds: the pause before a restart doubles from the first to the longest, and begins anew after so long a life."""

_LOG_LIMIT = 20 * 1024 * 1024
_GUARD = str(Path(__file__).with_name("guard.py"))

Say: TypeAlias = Callable[[str, str], None]
"""Tells the user: who, what."""


@dataclass(frozen=True)
class Command:
    """What is run.

    Attributes:
        environment: the whole of it, nothing is inherited.
        orphan_signal: what it gets when the supervisor dies without ending it.
        grace: seconds between asking it to end and ending it.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    folder: Path
    orphan_signal: signal.Signals = signal.SIGKILL
    grace: float = 10.0


@dataclass
class Child:
    """A command that is kept running from `start` to `stop`.

    `on_exit` is told of each end that nobody asked for, after which the command is started again.
    """

    command: Command
    say: Say
    on_exit: Callable[[], None] = lambda: None
    first_pause: float = FIRST_PAUSE
    pid: int | None = None
    restarts: int = 0
    state: str = "stopped"
    last_exit: str = ""
    started: float = 0.0
    _task: asyncio.Task[None] | None = field(default=None, repr=False)
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    def start(self) -> None:
        """Begins to keep it running; the caller's loop must go on."""
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.command.name}")

    async def stop(self) -> None:
        """Ends it: SIGTERM to its process group, SIGKILL after the grace. Answers when no process of the group is left."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._end()
        self.state, self.pid = "stopped", None

    def described(self) -> dict[str, object]:
        """For `mesh status`."""
        return {
            "name": self.command.name,
            "pid": self.pid,
            "state": self.state,
            "restarts": self.restarts,
            "lastExit": self.last_exit,
            "log": str(self.command.log),
        }

    async def _keep(self) -> None:
        pause = self.first_pause
        while True:
            begun = time.monotonic()
            code = await self._once()
            if time.monotonic() - begun >= HEALTHY_AFTER:
                pause = self.first_pause
            self.last_exit = _meaning(code)
            self.say(self.command.name, f"{self.last_exit}; starting it again in {pause:g} s (log: {self.command.log})")
            self.state = "waiting"
            self.on_exit()
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
            self.restarts += 1

    async def _once(self) -> int:
        self.state = "starting"
        process = await _spawn(self.command)
        self._process, self.pid = process, process.pid
        self.state, self.started = "running", time.time()
        self.say(self.command.name, f"started (pid {process.pid})")
        code = await process.wait()
        self.pid = None
        _signal_group(process.pid, signal.SIGKILL)  # whatever it started goes with it
        self._process = None
        return code

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self.state = "stopping"
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), self.command.grace)
        if process.returncode is None:
            self.say(self.command.name, f"did not end within {self.command.grace:g} s; it is killed")
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()


async def _spawn(command: Command) -> asyncio.subprocess.Process:
    """Starts it in a session of its own, so that a Ctrl-C at the terminal reaches the supervisor only."""
    command.log.parent.mkdir(parents=True, exist_ok=True)
    if command.log.exists() and command.log.stat().st_size > _LOG_LIMIT:
        command.log.replace(command.log.with_suffix(".log.1"))
    guarded = [sys.executable, "-I", "-S", _GUARD, str(os.getpid()), str(int(command.orphan_signal)), *command.argv]
    with command.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *guarded,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(command.environment),
            cwd=command.folder,
            start_new_session=True,
        )


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _meaning(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
