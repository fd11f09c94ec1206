"""Environments of model servers: each a virtual environment of its own, made once from a pinned list and then shared.

They lie in `$MESH_CACHE/environments/NAME-<digest>`; the digest covers the list, the Python version and the platform, so a changed
list is another environment. The marker is written last: a folder without it is half made, and is made again.

A list is one of pip, and may say more in comments of their own, carried out in this order after it is installed:

- `# without dependencies: REQUIREMENT`, one a line: installed, and nothing that it asks for.
- `# remove: NAME ...`: uninstalled, for what comes along and does harm.
- `# never called: FOLDER/LIBRARY as NAME ...`: shared libraries that another one is linked with but of which it calls nothing. Each NAME
  becomes a link to LIBRARY beside it (below site-packages), and extension modules of the environment resolve functions when they are
  first called, not when they are loaded. So the CUDA build of PyTorch runs on a CPU without gigabytes of CUDA libraries.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, TypeAlias

from mesh.core.errors import Failed, Unknown

MARKER = ".complete"
_REMOVE = re.compile(r"^#\s*remove:\s*(.+)$", re.MULTILINE)
_WITHOUT_DEPENDENCIES = re.compile(r"^#\s*without dependencies:\s*(.+)$", re.MULTILINE)
_NEVER_CALLED = re.compile(r"^#\s*never called:\s*(\S+)\s+as\s+(.+)$", re.MULTILINE)
_LAZY = "import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n"
"""A line that Python runs at its start, from a `.pth` file. Its own default binds all functions of a library when that is loaded."""
_STEP = re.compile(r"^\s*(Collecting|Downloading|Using cached|Building wheel for|Installing collected packages:)\s+(\S+)")
_TAIL = 15
"""Lines of pip's output that a failure shows."""


@dataclass(frozen=True)
class Step:
    """What is being done, for a progress bar: packages resolved or installed so far, and of how many, if that is known."""

    text: str
    done: int = 0
    total: int | None = None


Progress: TypeAlias = Callable[[Step], None]


@dataclass(frozen=True)
class Environment:
    """One list and where its environment lies, made or not.

    Attributes:
        given: it is not ours to make: whoever named it says that it is complete.
    """

    name: str
    path: Path
    listed: str
    given: bool = False

    @property
    def made(self) -> bool:
        """Whether it is complete."""
        return self.given or (self.path / MARKER).exists()


def cache_folder() -> Path:
    """`$MESH_CACHE`, or `mesh` in `$XDG_CACHE_HOME` (`~/.cache`)."""
    if given := os.environ.get("MESH_CACHE"):
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "mesh"


def known() -> list[Environment]:
    """Every environment there is a list for, by name."""
    return [find(name) for name in sorted(_lists())]


def find(name: str) -> Environment:
    """The environment of that name; Unknown if there is no list for it."""
    lists = _lists()
    if name not in lists:
        raise Unknown(f"there is no environment {name!r}; known are {', '.join(sorted(lists))}")
    return of_list(name, lists[name])


def of_list(name: str, listed: str) -> Environment:
    """The environment of a list that is not ours, made or not; `name` is for people."""
    traits = f"{listed}\0{sys.version}\0{sysconfig.get_platform()}"
    digest = hashlib.sha256(traits.encode()).hexdigest()[:12]
    return Environment(name, cache_folder() / "environments" / f"{name}-{digest}", listed)


def ensure(name: str, *, progress: Progress | None = None) -> Path:
    """The folder of the environment, made if it is not there; a second caller waits for the first.

    Raises:
        Unknown: there is no list of that name.
        Failed: it could not be made; the message has pip's last lines and what to do.
    """
    return ensure_made(find(name), progress=progress)


def ensure_made(environment: Environment, *, progress: Progress | None = None) -> Path:
    """As `ensure`, for one that was found already."""
    report = progress or (lambda _: None)
    if environment.made:
        return environment.path
    try:
        environment.path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(environment, report):
            if not environment.made:
                _make(environment, report)
    except OSError as error:
        raise Failed(f"the environment {environment.name} cannot be made in {environment.path}: {error.strerror or error}") from error
    return environment.path


def _lists() -> dict[str, str]:
    """Lists by name: of the installed package, or of the checkout it is run from."""
    inside = resources.files("mesh.local") / "lists"
    folder = inside if inside.is_dir() else Path(__file__).resolve().parents[2] / "environments"
    files = folder.iterdir() if folder.is_dir() else iter(())
    return {file.name.removesuffix(".txt"): file.read_text(encoding="utf-8") for file in files if file.name.endswith(".txt")}


@contextmanager
def _lock(environment: Environment, report: Progress) -> Iterator[None]:
    with environment.path.with_name(environment.path.name + ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(Step("waiting for another process that makes it"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(environment: Environment, report: Progress) -> None:
    path = environment.path
    if path.exists():
        report(Step("removing what an interrupted attempt left"))
        shutil.rmtree(path)
    report(Step("making a virtual environment"))
    _run(environment, [sys.executable, "-m", "venv", str(path)], lambda _: None)
    pip = [str(path / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    listed = path / "list.txt"
    listed.write_text(environment.listed, encoding="utf-8")
    _run(environment, [*pip, "install", "--progress-bar", "off", "-r", str(listed)], _Reading(report))
    if bare := _WITHOUT_DEPENDENCIES.findall(environment.listed):
        listed = path / "without-dependencies.txt"
        listed.write_text("\n".join(bare) + "\n", encoding="utf-8")
        _run(environment, [*pip, "install", "--progress-bar", "off", "--no-deps", "-r", str(listed)], _Reading(report))
    unwanted = [name for line in _REMOVE.findall(environment.listed) for name in line.split()]
    if unwanted:
        report(Step(f"removing {' '.join(unwanted)}"))
        _run(environment, [*pip, "uninstall", "--yes", *unwanted], lambda _: None)
    _link_never_called(environment)
    (path / MARKER).write_text(environment.listed, encoding="utf-8")


def _link_never_called(environment: Environment) -> None:
    """Makes the links of `# never called` lines; where the library is not installed, as on another platform, there is nothing to do."""
    for folder in environment.path.glob("lib/python*/site-packages"):
        for library, names in _NEVER_CALLED.findall(environment.listed):
            real = folder / library
            if not real.is_file():
                continue
            (folder / "resolved-when-called.pth").write_text(_LAZY, encoding="utf-8")
            for name in names.split():
                link = real.with_name(name)
                if not link.exists():
                    link.symlink_to(real.name)


class _Reading:
    """Progress out of pip's lines."""

    def __init__(self, report: Progress) -> None:
        self.report = report
        self.collected = 0

    def __call__(self, line: str) -> None:
        match = _STEP.match(line)
        if not match:
            return
        verb, what = match.groups()
        if verb.startswith("Installing"):
            count = line.count(",") + 1
            self.report(Step("installing 1 package" if count == 1 else f"installing {count} packages", count, count))
            return
        self.collected += verb == "Collecting"
        name = what.rpartition("/")[2]
        self.report(Step(f"{verb.lower()} {name}", self.collected))


def _run(environment: Environment, command: list[str], line: Callable[[str], None]) -> None:
    """Runs a command of the making, in a process group that ends with us."""
    last: deque[str] = deque(maxlen=_TAIL)
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean, errors="replace")
    stream: IO[str] | None = process.stdout
    assert stream is not None
    try:
        with stream:
            for text in stream:
                last.append(text.rstrip())
                line(text)
        code = process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if code != 0:
        shown = "\n  ".join(last)
        listed = environment.name in _lists()
        again = f"run `mesh environment make {environment.name}`" if listed else "do the same again"
        raise Failed(
            f"the environment {environment.name} could not be made; `{' '.join(command[:4])} …` ended with {code}:\n  {shown}\n"
            "Check the connection to the package index and the free space of "
            f"{environment.path.parent}, then {again}; what is half made is made again."
        )
