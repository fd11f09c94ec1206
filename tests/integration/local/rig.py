"""A mesh on this machine as a user has it: the `mesh` command in a shell of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mesh.cli.client import Control
from mesh.local import environments
from mesh.local.state import DataFolder
from tests.support import ports
from tests.support.http import plain

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
BODY = EXAMPLES / "walkthrough" / "bodies" / "sklearn-mnist.infer.json"
_LIMIT = 240.0
"""Seconds that a command gets; `mesh up` starts four processes one after the other, on machines that are slow at times."""


def said_by(rest: str) -> list[str] | None:
    """What the walkthrough's model says at this address; None if it does not answer."""
    try:
        answer = plain.post(f"{rest}/v2/models/sklearn-mnist/infer", content=BODY.read_bytes(), timeout=60)
    except httpx.HTTPError:
        return None
    return list(answer.json()["outputs"][0]["contents"]["int64Contents"]) if answer.is_success else None


@dataclass
class Shell:
    """Runs `mesh` with a state folder and ports of its own."""

    folder: Path
    grpc: int
    rest: int
    extra: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    _control: Control | None = None

    @classmethod
    def fresh(cls, folder: Path) -> Shell:
        """One whose mesh is not started yet."""
        grpc, rest = ports.free(2)
        return cls(folder, grpc, rest)

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    def mesh(self, *arguments: str, typed: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, whatever it is."""
        command = [sys.executable, "-m", "mesh.cli.app", *arguments]
        shell = self._environment()
        return subprocess.run(command, capture_output=True, text=True, input=typed, env=shell, timeout=_LIMIT, check=False, cwd=self.cwd)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts a command that stays; what it prints, errors included, comes from its `stdout`."""
        command = [sys.executable, "-m", "mesh.cli.app", *arguments]
        shell = {**self._environment(), "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=shell)

    def _environment(self) -> dict[str, str]:
        state, cache = str(self.folder / "state"), str(environments.cache_folder())
        # Nothing is loaded that a story did not ask for, however long its mesh lives.
        own = {"XDG_STATE_HOME": state, "MESH_CACHE": cache, "MESH_PROACTIVE_INTERVAL_MS": "0"}
        return {**os.environ, **own, **self.extra}

    def ok(self, *arguments: str, typed: str | None = None) -> str:
        """Runs a command that has to succeed, and answers what it printed."""
        done = self.mesh(*arguments, typed=typed)
        assert done.returncode == 0, f"mesh {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def up(self, *options: str) -> str:
        """Starts it, detached."""
        where = ("--data", str(self.data), "--grpc-port", str(self.grpc), "--rest-port", str(self.rest))
        return self.ok("up", "--detach", *where, *options)

    def json(self, *arguments: str) -> Any:
        """The answer of a command with `-o json`."""
        return json.loads(self.ok(*arguments, "-o", "json"))

    def ask(self, path: str, **params: str) -> Any:
        """What the control socket answers, where the commands ask too: each of them takes a second to start."""
        running = DataFolder.at(self.data).running()
        assert running
        if self._control is None or self._control.context != running:
            self.hang_up()
            self._control = Control(running)
        return self._control.get(path, **params)

    def hang_up(self) -> None:
        """Ends the connection that `ask` keeps."""
        if self._control:
            self._control.close()
        self._control = None

    def process(self, name: str) -> dict[str, Any]:
        """One process of the mesh."""
        return next(one for one in self.ask("status")["processes"] if one["name"] == name)

    def digit(self, *options: str) -> Any:
        """What the walkthrough's model says."""
        answer = json.loads(self.ok("infer", "sklearn-mnist", "-f", str(BODY), *options))
        return answer["outputs"][0]["contents"]["int64Contents"]

    def service(self, name: str, path: str) -> str:
        """A service on the walkthrough's claim, as YAML."""
        text = (EXAMPLES / "walkthrough" / "sklearn-mnist.yaml").read_text()
        return text.replace("name: sklearn-mnist", f"name: {name}").replace("mnist-svm.joblib", path)
