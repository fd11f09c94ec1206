"""An image without an engine: the steps of its Dockerfile, carried out below a folder that stands for the image's root.

The base image is this machine with a virtual environment that has nothing but pip in it. Paths that are the image's own lie below the
folder. The file systems of two stages are never there at a time: the second has what it copies from the first and no more.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import string
import subprocess
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from tests.support.stubs import ROOT
from tests.support.waiting import until
from tests.unit.docker.files import steps

_OWN = re.compile(r"(?<![\w.}/-])/(?=(?:opt|src|wheels|models|tmp)\b)")
"""Where a path begins that is the image's own; /dev, /bin and the like are this machine's."""
_FOLLOWED = ("EXPOSE", "USER", "HEALTHCHECK", "CMD", "ENTRYPOINT")
"""Instructions that change nothing in the files."""
_LONGEST = 600.0
"""Seconds of one RUN step."""
_USER = "2000"


class Image:
    """What a Dockerfile makes.

    Args:
        dockerfile: of this checkout.
        folder: empty; takes the root of the file system (`root`) and what containers write.
        variables: of the surroundings of each RUN step: where pip finds wheels.
        there: what the first step finds already because it takes minutes to make: path in the image → folder of this machine.
        made: what stages on another base than Python's leave, which are not carried out: stage → path in it → file of this machine.
        left_out: steps that have this word are not carried out; empty for all.

    Raises:
        AssertionError: a step failed; the message has its output.
    """

    def __init__(
        self,
        dockerfile: Path,
        folder: Path,
        variables: Mapping[str, str],
        there: Mapping[str, Path] | None = None,
        made: Mapping[str, Mapping[str, Path]] | None = None,
        left_out: str = "",
    ) -> None:
        self.root = folder / "root"
        self._folder = folder
        self._steps = steps(dockerfile)
        self._given = variables
        self._there = there or {}
        self._made = made or {}
        self._stage = ""
        self._stages: dict[str, Path] = {}
        self._directory = self.root
        self._variables: dict[str, str] = {}
        for number, (name, arguments) in enumerate(self._steps):
            if not (left_out and left_out in arguments) and (name == "FROM" or self._stage not in self._made):
                self._carry_out(number, name, arguments)

    @property
    def command(self) -> list[str]:
        """What a container runs that is told nothing else."""
        found = dict(self._steps)
        return [*json.loads(found.get("ENTRYPOINT", "[]")), *json.loads(found.get("CMD", "[]"))]

    @property
    def health_check(self) -> list[str]:
        """The command whose exit status says whether a container is well."""
        (check,) = [arguments for name, arguments in self._steps if name == "HEALTHCHECK"]
        found: list[str] = json.loads(check.partition("CMD ")[2])
        return found

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Runs a container to its end."""
        words, environment = self._container(command, variables)
        return subprocess.run(words, cwd=self._directory, env=environment, capture_output=True, text=True, timeout=_LONGEST)

    @contextmanager
    def running(self, *command: str, **variables: str) -> Iterator[Path]:
        """A container for as long as the context lasts; its log."""
        words, environment = self._container(command, variables)
        log = self._folder / f"{re.sub(r'[^a-z0-9]+', '-', ' '.join(command).lower())}.log"
        with log.open("ab") as file:
            process = subprocess.Popen(words, cwd=self._directory, env=environment, stdout=file, stderr=file)
        try:
            yield log
            assert process.poll() is None, f"it ended with {process.returncode}:\n{log.read_text()}"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def until_well(self, check: list[str], **variables: str) -> None:
        """Returns when a health check of a container is passed."""
        until(lambda: self.run(*check, **variables).returncode == 0, f"{' '.join(check)} to succeed", within=300)

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of change (ns) of every file of the image, but for what containers may write to."""
        found = {}
        for path in self.root.rglob("*"):
            inside = path.relative_to(self.root)
            if inside.parts[0] not in ("tmp", "models", "usr") and path.is_file():
                found[str(inside)] = (path.stat().st_size, path.stat().st_mtime_ns)
        return found

    def _carry_out(self, number: int, name: str, arguments: str) -> None:
        if name == "ARG":
            variable, _, value = arguments.partition("=")
            self._variables[variable] = value
        elif name == "FROM":
            self._begin(number, arguments.partition(" AS ")[2])
        elif name == "WORKDIR":
            self._directory = Path(self._local(arguments))
            self._directory.mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            for part in arguments.split():
                variable, _, value = part.partition("=")
                self._variables[variable] = string.Template(self._local(value)).safe_substitute(self._variables)
        elif name == "COPY":
            self._copy(arguments.split())
        elif name == "RUN":
            self._run(arguments)
        else:
            assert name in _FOLLOWED, f"{name}: how that is carried out stands nowhere yet"

    def _begin(self, number: int, stage: str) -> None:
        """A new stage: the file system of the one before moves away."""
        there = {} if self.root.exists() else self._there
        if self.root.exists():
            self.root.rename(self._stages[self._stage])
        self._stage = stage
        self._stages[stage] = self._folder / f"stage-{stage}"
        local = self.root / "usr" / "local"
        (self.root / "tmp").mkdir(parents=True)
        for path, real in self._made.get(stage, {}).items():
            (self.root / path).parent.mkdir(parents=True)
            shutil.copy(real, self.root / path)
        for path, real in there.items():
            (self.root / path).parent.mkdir(parents=True)
            (self.root / path).symlink_to(real)
        ahead = self._steps[number + 1 :]
        end = next((at for at, (name, _) in enumerate(ahead) if name == "FROM"), len(ahead))
        venv.create(local, symlinks=True, with_pip=any("pip " in arguments for name, arguments in ahead[:end] if name == "RUN"))
        self._variables = {"PATH": f"{local / 'bin'}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.root / "tmp"), "LANG": "C.UTF-8"}
        self._directory = self.root

    def _copy(self, words: list[str]) -> None:
        source = ROOT
        if words[0].startswith("--from="):
            source = self._stages[words.pop(0).partition("=")[2]]
        *names, target = words
        into = self._directory / self._local(target)
        for name in names:
            path = source / name.lstrip("/")
            if source != ROOT:
                into.parent.mkdir(parents=True, exist_ok=True)
                path.rename(into)
            elif path.is_dir():
                shutil.copytree(path, into, ignore=_not_sent)
            else:
                place = into / path.name if target.endswith("/") else into
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)

    def _run(self, script: str) -> None:
        # An engine builds as root; where tests do not run as root, whoever runs them stands for the ordinary user.
        script = script if os.getuid() == 0 else re.sub(rf"\b{_USER}\b", str(os.getuid()), script)
        command = ["/bin/sh", "-c", self._local(script)]
        process = subprocess.Popen(
            command,
            cwd=self._directory,
            env={**self._variables, **self._given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=_LONGEST)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # the shell's children too
            process.wait()
            raise
        assert process.returncode == 0, f"RUN {script}\nended with {process.returncode}:\n{output}"

    def _container(self, command: tuple[str, ...], variables: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
        # The program is looked for where the image looks, not where the tests do.
        program = shutil.which(self._local(command[0]), path=self._variables["PATH"])
        assert program, f"{command[0]} is not in the image"
        return [program, *map(self._local, command[1:])], {**self._variables, **variables}

    def _local(self, text: str) -> str:
        return _OWN.sub(f"{self.root}/", text)


def _not_sent(folder: str, names: list[str]) -> set[str]:
    """Of a folder of the checkout, what .dockerignore keeps from the engine."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line not in ("", "*") and line[0] not in "#!"]
    inside = Path(folder).relative_to(ROOT)
    return {
        name
        for name in names
        for pattern in patterns
        if (fnmatch(name, pattern[3:]) if pattern.startswith("**/") else str(inside / name) == pattern)
    }
