"""What the images' install steps fetch, as a folder of wheels: with it those steps can be carried out again and again without a network.

Made once for each set of requirements in pyproject.toml, Python and platform.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Callable
from fcntl import LOCK_EX, flock
from pathlib import Path

from mesh.core.errors import Failed
from mesh.local.environments import cache_folder
from tests.support.stubs import ROOT


def requirements() -> tuple[list[str], list[str]]:
    """What the project is built with, and what it runs with in an image; each is resolved for itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runs = project["project"]["dependencies"] + project["project"]["optional-dependencies"]["otel"]
    return project["build-system"]["requires"], runs


def folder() -> Path:
    """Where the wheels lie, there or not; what is half made has another name."""
    traits = f"{requirements()}\0{sys.version}\0{sysconfig.get_platform()}"
    return cache_folder() / "environments" / f"wheels-{hashlib.sha256(traits.encode()).hexdigest()[:12]}"


def make(say: Callable[[str], None]) -> None:
    """By pip, whole or not at all; a second caller waits for the first.

    Raises:
        Failed: pip could not; the message has its last lines.
    """
    final = folder()
    final.parent.mkdir(parents=True, exist_ok=True)
    with final.with_name(f"{final.name}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if final.exists():
            return
        unfinished = final.with_name(f"{final.name}.partial")
        shutil.rmtree(unfinished, ignore_errors=True)
        for purpose, listed in zip(("built", "run"), requirements(), strict=True):
            say(f"fetching what the images are {purpose} with")
            command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--wheel-dir", str(unfinished), *listed]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
            if done.returncode:
                said = "\n  ".join(done.stdout.splitlines()[-15:])
                raise Failed(f"the wheels for the images could not be fetched; pip ended with {done.returncode}:\n  {said}")
        unfinished.rename(final)
    say("made")
