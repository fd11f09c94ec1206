"""Strings in, words out on this machine: `make demo-text`.

Trains the packaged model, starts a mesh, applies the runtime and the service, and asks in three languages. What a user would type is
printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from mesh.local import environments

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from demo import mesh  # noqa: E402 - the walkthrough's demo, beside this folder

IMAGE = "registry.example.com/text-server:latest"
BODY = HERE / "bodies" / "languages.infer.json"
SERVICE, CLAIM = "languages", "text-models"
WANTED = ["english", "german", "french"]
TIMEOUT = "300"
"""Seconds until the model has to serve, on a machine that is busy."""


def trained(claim: Path) -> None:
    """The packaged model in a claim."""
    mesh("environment", "make", "mlserver")
    command = [str(environments.find("mlserver").path / "bin" / "python"), "-B", str(HERE / "build.py"), str(claim / SERVICE)]
    print(f"\n$ python {shlex.join(command[2:])}", flush=True)
    subprocess.run(command, check=True)


def ask() -> None:
    """The questions of the example; ends the demo unless each is told by its language."""
    answer = json.loads(mesh("infer", SERVICE, "-f", str(BODY), "--timeout", TIMEOUT))
    asked, told = json.loads(BODY.read_text())["inputs"][0]["data"], answer["outputs"][0]["data"]
    print()
    for text, word in zip(asked, told, strict=True):
        print(f"  {text} → {word}", flush=True)
    if told != WANTED:
        raise SystemExit(f"not every language was told: {told}, not {WANTED}")


def demo(options: argparse.Namespace, data: Path) -> None:
    """Trains, starts the mesh, asks, and ends it."""
    data.mkdir(parents=True, exist_ok=True)
    # The commands that follow are about this mesh, whatever else runs.
    os.environ["MESH_DIR"] = str(data / "mesh")
    trained(data / "claim")
    ports = ["--grpc-port", options.grpc_port, "--rest-port", options.rest_port]
    where = ["--data", str(data / "mesh"), "--pvc", f"{CLAIM}={data / 'claim'}", *ports]
    mesh("up", "--detach", *where, "--image", f"{IMAGE}={HERE / 'server'}")
    stay = False
    try:
        mesh("apply", "-f", str(HERE / "text-server.yaml"))
        mesh("apply", "-f", str(HERE / "languages.yaml"), "--wait", TIMEOUT)
        mesh("get", "runtimes")
        ask()
        stay = options.stay
    finally:
        if not stay:
            mesh("down", "--mesh", str(data / "mesh"))


def main() -> int:
    """Exit code 0 if every language was told; the mesh is ended unless `--stay` and all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".cache/demo-text"), help="folder of the model and of the mesh")
    parser.add_argument("--stay", action="store_true", help="leave the mesh running")
    parser.add_argument("--grpc-port", default="8033")
    parser.add_argument("--rest-port", default="8008")
    options = parser.parse_args()
    try:
        demo(options, options.data.absolute())
    except subprocess.CalledProcessError as error:
        print(f"the demo ends: a command failed with exit code {error.returncode}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"the demo ends: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("the demo ends: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
