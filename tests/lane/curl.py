"""The `curl` command, which speaks HTTP/2 with and without TLS."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

PRIOR = "--http2-prior-knowledge"
"""HTTP/2 in plaintext, without a question whether the other side speaks it."""


@dataclass(frozen=True)
class Answer:
    """What came back; `version` as curl names it (`2`, `1.1`), names of headers in lower case."""

    version: str
    status_code: int
    headers: dict[str, str]
    content: bytes


def curl(url: str, *options: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None) -> Answer:
    """One request, which has to be answered."""
    done, head, content = run(url, *options, method=method, body=body, headers=headers)
    assert done.returncode == 0, done.stderr
    version, code = done.stdout.split()
    lines = head.decode().replace("\r\n", "\n").strip().split("\n\n")[-1].splitlines()[1:]
    return Answer(
        version,
        int(code),
        {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)},
        b"" if method == "HEAD" else content,
    )


def run(
    url: str, *options: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[subprocess.CompletedProcess[str], bytes, bytes]:
    """What the command said, and the heads and the body that it got."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file, text in {"sent": body or b"", "head": b"", "body": b""}.items():
            (folder / file).write_bytes(text)
        sent = ["--data-binary", f"@{folder / 'sent'}"] if body is not None else []
        told = [part for item in (headers or {}).items() for part in ("-H", ": ".join(item))]
        what = ["-I"] if method == "HEAD" else ["-X", method]
        command = [
            "curl",
            "-sS",
            "--noproxy",
            "*",
            "--max-time",
            "60",
            "--path-as-is",
            "-w",
            "%{http_version} %{http_code}",
            *options,
            *what,
        ]
        files = ["-D", str(folder / "head"), "-o", str(folder / "body")]
        default = ["-H", "content-type:"] if body is not None and "content-type" not in (headers or {}) else []
        done = subprocess.run([*command, *files, *sent, *default, *told, url], capture_output=True, text=True, timeout=120, check=False)
        return done, (folder / "head").read_bytes(), (folder / "body").read_bytes()
