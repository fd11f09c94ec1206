"""`make h2spec`: a conformance suite of HTTP/2 on the lane's port, and on a server of nothing but the library that the lane is made of.

The lane has to fail nowhere where the library with the same settings does not. Needs `cargo` and `go`, so it is a command and no test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as Xml

from tests.lane import built
from tests.support.lane import TREE
from tests.support.stubs import ROOT

SUITE = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
WAIT = "3"
"""Seconds that the suite waits for each thing; two by itself, which a busy machine exceeds."""
LIMIT = 600.0
"""Seconds for all of the suite."""


def suite() -> Path:
    """The suite's command, compiled at the first time."""
    folder = Path(os.environ.get("MESH_CACHE", ROOT / ".cache")) / "h2spec"
    command = folder / "h2spec"
    if not command.exists():
        print("h2spec: compiling the suite", flush=True)
        subprocess.run(["go", "install", SUITE], env={**os.environ, "GOBIN": str(folder)}, check=True)
    return command


@contextmanager
def bare() -> Iterator[str]:
    """Address of a server of the library alone."""
    print("h2spec: compiling a server of the library alone", flush=True)
    build = ["cargo", "build", "--release", "--quiet", "--no-default-features", "--example", "bare_h2"]
    subprocess.run(build, cwd=ROOT / "lane", check=True)
    with subprocess.Popen([TREE / "release" / "examples" / "bare_h2"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def failures(address: str) -> tuple[int, set[str]]:
    """How many cases were played on a port, and which failed."""
    host, _, port = address.rpartition(":")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Its exit status says only that some failed.
        subprocess.run([suite(), "-h", host, "-p", port, "-o", WAIT, "-j", report], stdout=subprocess.DEVNULL, timeout=LIMIT, check=False)
        cases = list(Xml.parse(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    return len(cases), {f"{case.get('package')} {case.get('classname')}" for case in failed}


def main() -> int:
    """Prints what failed where; 1 if something failed with the lane alone, 2 if the suite cannot run."""
    module = built.load()
    missing = [command for command in ("cargo", "go") if shutil.which(command) is None]
    if module is None or missing:
        print(f"h2spec: needs {', '.join(missing) or 'the compiled lane: `make lane` makes it'}", file=sys.stderr)
        return 2
    with bare() as library:
        # Whatever the suite asks for is handed over.
        lane = module.Lane("127.0.0.1:0", library, workers=2)
        try:
            (count, by_library), (_, by_lane) = failures(library), failures(lane.address)
        finally:
            lane.stop(0)
    for case in sorted(by_library | by_lane):
        print(f"  {'both' if case in by_library & by_lane else 'lane' if case in by_lane else 'library'}: {case}")
    print(f"h2spec: {count} cases; the library alone fails {len(by_library)}, the lane {len(by_lane)}")
    return 1 if by_lane - by_library or not count else 0


if __name__ == "__main__":
    sys.exit(main())
