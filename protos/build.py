"""Generates `mesh/protocols` from the wire contracts: as a build hook of the package, or `python protos/build.py` by hand."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent.parent


def generate(root: Path = ROOT) -> list[Path]:
    """Writes the stubs with their type stubs under `root` and returns the folder's Python files.

    Raises:
        RuntimeError: the compiler refused a contract; its message was printed.
    """
    from grpc_tools import protoc

    contracts = sorted((root / "protos" / "mesh" / "protocols").glob("*.proto"))
    common = str(resources.files("grpc_tools") / "_proto")
    flags = [f"--{kind}_out={root}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    plugins = [f"--plugin=protoc-gen-{name}={_script(f'protoc-gen-{name}')}" for name in ("mypy", "mypy_grpc")]
    code = protoc.main(["protoc", f"-I{root / 'protos'}", f"-I{common}", *plugins, *flags, *map(str, contracts)])
    if code != 0:
        raise RuntimeError(f"protoc ended with {code} for {', '.join(path.name for path in contracts)}")
    package = root / "mesh" / "protocols"
    (package / "__init__.py").write_text('"""Generated from `protos/`; run `make protocols` after a change there."""\n')
    return sorted(package.glob("*.py*"))


def _script(name: str) -> str:
    """A console script of the environment that builds: on its PATH if it is isolated, else beside its interpreter."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which(name, path=places)
    if found is None:
        raise RuntimeError(f"{name} is not installed; it comes with mypy-protobuf")
    return found


class ProtocolsHook(BuildHookInterface[Any]):
    """Runs the generation before a wheel or an editable install is made."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version
        generate(Path(self.root))
        build_data["artifacts"].append("mesh/protocols/*")


if __name__ == "__main__":
    for path in generate():
        print(path.relative_to(ROOT))
