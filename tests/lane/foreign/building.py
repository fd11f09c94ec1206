"""Compiles the clients, each into a folder of the cache that is named by what it is made of."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from fcntl import LOCK_EX, flock
from pathlib import Path

from tests.support.stubs import ROOT

HERE = Path(__file__).parent
CONTRACT = ROOT / "protos" / "mesh" / "protocols" / "inference.proto"
TOOLS = {"go": ("go",), "java": ("mvn", "java")}
LONG = 900.0
"""Seconds for what fetches its libraries the first time."""


def missing(language: str) -> list[str]:
    """Commands of its toolchain that this machine lacks."""
    return [command for command in TOOLS[language] if shutil.which(command) is None]


def command(language: str) -> list[str]:
    """What starts the client; it is compiled before, unless that was done.

    Raises:
        RuntimeError: it does not compile, or its libraries cannot be fetched.
    """
    folder = _cache() / f"{language}-{_fingerprint(language)}"
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / f"{language}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_suffix(".partial")
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(HERE / language, unfinished)
            {"go": _go, "java": _java}[language](unfinished)
            unfinished.rename(folder)
    return [str(folder / "client")] if language == "go" else ["java", "-cp", f"{folder}/target/*:{folder}/target/lib/*", "mesh.Client"]


def _cache() -> Path:
    return Path(os.environ.get("MESH_CACHE", ROOT / ".cache")) / "lane-clients"


def _fingerprint(language: str) -> str:
    digest = hashlib.sha256(CONTRACT.read_bytes())
    for path in sorted(path for path in (HERE / language).rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _go(folder: Path) -> None:
    _run(folder, "go", "build", "-o", "tools/", "tool")
    names = CONTRACT.relative_to(ROOT / "protos")
    plugins = [f"--plugin=protoc-gen-{name}={folder}/tools/protoc-gen-{name}" for name in ("go", "go-grpc")]
    kinds = [f"--{kind}_{word}" for kind in ("go", "go-grpc") for word in ("out=.", f"opt=M{names}=./inference")]
    _run(folder, sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'protos'}", *plugins, *kinds, str(names))
    _run(folder, "go", "build", "-o", "client", ".")


def _java(folder: Path) -> None:
    (folder / "contracts").mkdir()
    shutil.copy(CONTRACT, folder / "contracts")
    _run(folder, "mvn", "--batch-mode", "--quiet", "package")


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONG, check=False)
    if done.returncode:
        said = "\n  ".join((done.stdout + done.stderr).splitlines()[-20:])
        raise RuntimeError(f"`{' '.join(command[:4])} …` ended with {done.returncode}:\n  {said}")
