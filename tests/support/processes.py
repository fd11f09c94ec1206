"""Servers as processes of their own: started, awaited, ended, and quoted when something fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.stubs import ROOT
from tests.support.waiting import until

PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")
"""Variables of the surroundings that a server gets; nothing else may reach its settings."""


class Died(AssertionError):
    """A process ended before it did what was expected of it."""


class Server:
    """A Python module run as a server.

    Args:
        module: what `python -m` runs, with its arguments.
        log: file that takes standard output and standard error together.
        environment: its variables, beside those in `PASSED_ON`.
    """

    def __init__(self, module: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        inherited = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self.log_path = log
        self._from = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *module],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**inherited, "PYTHONUNBUFFERED": "1", **(environment or {})},
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def output(self) -> str:
        """What it wrote since it was started."""
        return self.log_path.read_bytes()[self._from :].decode(errors="replace")

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def events(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines of its output with this `event`."""
        found = []
        for line in self.output().splitlines(keepends=True):
            # A line without its end is still being written.
            if line.startswith("{") and line.endswith("}\n") and f'"{name}"' in line:
                value = json.loads(line)
                if value.get("event") == name:
                    found.append(value)
        return found

    def event(self, name: str, within: float = 30.0) -> dict[str, Any]:
        """The first such line, once it is there.

        Raises:
            Died: the process ended without it.
        """

        def look() -> dict[str, Any] | None:
            ended = self.returncode is not None
            if found := self.events(name):
                return found[0]
            if ended:
                raise Died(f"ended with {self.returncode} before it said {name!r}:\n{self.tail()}")
            return None

        try:
            found = until(look, f"the line {name!r}", within=within)
        except Died:
            raise
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None
        assert found is not None
        return found

    def wait(self, within: float = 30.0) -> int:
        """Its exit status, once it ended."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within:g} s:\n{self.tail()}") from None

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL: it has no chance to say goodbye."""
        self._process.kill()
        self._process.wait()
        self._close()

    def stop(self, patience: float = 20.0) -> int:
        """SIGTERM, then SIGKILL if that does not help; the exit status."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._close()
        return self._process.returncode

    def _close(self) -> None:
        if self._process.stdin and not self._process.stdin.closed:
            self._process.stdin.close()
