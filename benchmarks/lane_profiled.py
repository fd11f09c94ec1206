"""Builds the express lane with the profile of the calls that it carries: which branches they take, and which functions they pass through.

`python -m benchmarks.lane_profiled`. An instrumented lane carries small and large calls, and some that it hands over; the profile of these
then goes into the usual build, in `lane/target/release`, where `make setup` and the tests take it from. Needs cargo, Debian's
nghttp2-client and nghttp2-server, and an `llvm-profdata` of the compiler's own LLVM version: `rustup component add llvm-tools`, or a path.
The profile is of this compiler and this source, so it is made anew for each build and kept nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.lane_cases import Case, answering
from benchmarks.lane_ways import Way, called, ends_well, running
from tests.support.ports import free
from tests.support.waiting import until

CRATE = Path(__file__).parents[1] / "lane"
MIX = [(300, 20_000, 8, 8), (300, 3_000, 1, 1), (150_000, 1_000, 4, 4)]
"""Bytes of a message, calls, connections, and calls at a time on each."""

HANDED_OVER = 500


def profdata() -> Path:
    """The tool that comes with the compiler, else the one on the PATH.

    Raises:
        SystemExit: there is none.
    """
    root = Path(subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True).stdout.strip())
    found = next(iter(root.glob("lib/rustlib/*/bin/llvm-profdata")), None) or shutil.which("llvm-profdata")
    if found is None:
        raise SystemExit(
            "there is no llvm-profdata: `rustup component add llvm-tools`, or name one of rustc's LLVM version with --profdata"
        )
    return Path(found)


def build(target: Path, *flags: str) -> Path:
    """The library, compiled with these flags beside those of the crate."""
    command = ["cargo", "build", "--release", "--quiet", "--target-dir", str(target), "--config", f"build.rustflags={json.dumps(flags)}"]
    # Flags of the surroundings would take the place of these.
    subprocess.run(command, cwd=CRATE, check=True, env={name: value for name, value in os.environ.items() if name != "RUSTFLAGS"})
    return target / "release" / "libmesh_lane.so"


def exercise(library: Path) -> None:
    """Has a lane of this library carry calls, and end."""
    module = library.with_name("mesh_lane.abi3.so")
    shutil.copyfile(library, module)
    path = os.pathsep.join([str(module.parent), str(CRATE.parent), os.environ.get("PYTHONPATH", "")])
    for size, calls, connections, streams in MIX:
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            folder, (port,) = Path(name), free()
            way = Way(port)
            upstream, load = answering(stack, folder, Case("", size, connections, streams), calls)
            serve = f"import mesh_lane; from benchmarks import lane_served; lane_served.serve({port}, {upstream}, [])"
            command = ["env", f"PYTHONPATH={path}", sys.executable, "-c", serve]
            with running(folder / "lane.log", *command) as process:
                until(partial(ends_well, way, load), f"grpc-status 0 on port {port}")
                called(way, load)
                other = f"http://127.0.0.1:{port}/made.Up/Method"
                subprocess.run(["h2load", f"-n{HANDED_OVER}", "-c2", "-m4", other], check=True, stdout=subprocess.DEVNULL)
                # It ends by itself, and so writes what it saw.
                process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profdata", type=Path, help="llvm-profdata of the version of rustc's LLVM")
    parser.add_argument("--target", type=Path, default=CRATE / "target", help="where it is built")
    given = parser.parse_args()
    tool, target = given.profdata or profdata(), given.target.resolve()
    raw = target / "instrumented" / "profiles"
    # Names are left uncompressed for tools that were built without zlib.
    library = build(target / "instrumented", f"-Cprofile-generate={raw}", "-Cllvm-args=-enable-name-compression=false")
    # Parts of the compiler that were built alike wrote theirs too.
    shutil.rmtree(raw, ignore_errors=True)
    exercise(library)
    # Where it is has to be new: cargo does not look into it, and would build nothing anew.
    with tempfile.TemporaryDirectory() as name:
        merged = Path(name) / "lane.profdata"
        subprocess.run([str(tool), "merge", "-o", str(merged), *map(str, raw.glob("*.profraw"))], check=True)
        print(build(target, f"-Cprofile-use={merged}"))


if __name__ == "__main__":
    main()
