"""Triton out of the wheel of PyTriton: where its parts lie in an environment, and the backend folder that they are put together to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

BACKENDS = Path(__file__).with_name("backends")
"""Each folder in it is a python-based backend of its name."""


class NotInstalled(Exception):
    """The environment has no Triton, or none for its version of Python."""


@dataclass(frozen=True)
class Installation:
    """Triton in one virtual environment.

    Attributes:
        packages: its site-packages.
        python: version of its interpreter, `3.11`; the processes of models are made for one each.
    """

    packages: Path
    python: str

    @classmethod
    def find(cls, environment: Path) -> Installation:
        """The Triton of an environment.

        Raises:
            NotInstalled: there is none.
        """
        found = sorted(environment.glob("lib/python3.*/site-packages/pytriton/tritonserver/bin/tritonserver"))
        if not found:
            raise NotInstalled(f"there is no Triton in {environment}; make it again with `mesh environment make triton`")
        packages = found[-1].parents[3]
        installation = cls(packages, packages.parent.name.removeprefix("python"))
        if not installation._stub.is_file():
            raise NotInstalled(f"the Triton in {environment} has no Python backend for Python {installation.python}")
        return installation

    @property
    def server(self) -> Path:
        """The program."""
        return self._triton / "bin" / "tritonserver"

    @property
    def libraries(self) -> Path:
        """The shared libraries that it brings."""
        return self.packages / "nvidia_pytriton.libs"

    def make_backends(self, folder: Path) -> None:
        """Make `folder` the backend folder, replacing what is there. Blocking; OSError if the disk refuses.

        Copies of Triton's own files: it refuses a library that is a link to one outside of its folder.
        """
        if folder.exists():
            shutil.rmtree(folder)
        python = folder / "python"
        python.mkdir(parents=True)
        own = self._triton / "backends" / "python"
        for file in (own / "libtriton_python.so", own / "triton_python_backend_utils.py", self._stub):
            shutil.copy2(file, python / file.name)
        for model in BACKENDS.glob("*/model.py"):
            (folder / model.parent.name).mkdir()
            shutil.copy2(model, folder / model.parent.name / model.name)

    @property
    def _triton(self) -> Path:
        return self.packages / "pytriton" / "tritonserver"

    @property
    def _stub(self) -> Path:
        return self._triton / "python_backend_stubs" / self.python / "triton_python_backend_stub"
