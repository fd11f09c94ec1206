"""Generates `tests/support/protocols` from `tests/support/protos`, whenever those changed.

Run by `tests/conftest.py` before anything is collected, by `python -m tests.support.stubs`, and by the servers of this folder.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib import resources
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CONTRACTS = HERE / "protos"
PACKAGE = HERE / "protocols"


def digest() -> str:
    """Changes with the contracts and with the compiler."""
    from importlib.metadata import version

    parts = [path.read_bytes() for path in sorted(CONTRACTS.rglob("*.proto"))]
    return hashlib.sha256(b"\0".join([version("grpcio-tools").encode(), *parts])).hexdigest()


def ensure() -> None:
    """Makes the stubs if they are missing or older than their contracts; cheap if not.

    Raises:
        RuntimeError: the compiler refused a contract; its message was printed.
    """
    marker = PACKAGE / ".digest"
    wanted = digest()
    if marker.is_file() and marker.read_text() == wanted:
        return
    PACKAGE.mkdir(exist_ok=True)
    (PACKAGE / "__init__.py").write_text('"""Generated from `tests/support/protos`."""\n')
    _generate()
    scratch = PACKAGE / f".digest-{os.getpid()}"
    scratch.write_text(wanted)
    scratch.replace(marker)


def _generate() -> None:
    from grpc_tools import protoc  # type: ignore[import-untyped]

    common = str(resources.files("grpc_tools") / "_proto")
    # The plugins are console scripts of this interpreter, which need not be on PATH.
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin=protoc-gen-{name}={scripts / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
    outputs = [f"--{kind}_out={ROOT}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    contracts = [str(path) for path in sorted(CONTRACTS.rglob("*.proto"))]
    code = protoc.main(["protoc", f"-I{CONTRACTS}", f"-I{common}", *plugins, *outputs, *contracts])
    if code != 0:
        raise RuntimeError(f"protoc ended with {code} for {', '.join(contracts)}")


if __name__ == "__main__":
    ensure()
