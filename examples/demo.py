"""The walkthrough on this machine: `make demo` (start, call, end) and `make up` (start, call, stay).

Everything is done by the commands a user would type; each is printed before it runs.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent
WALKTHROUGH = EXAMPLES / "walkthrough"
BODY = WALKTHROUGH / "bodies" / "sklearn-mnist.infer.json"
MODEL_ID = "sklearn-mnist__isvc-3c10c62d34"
DIGIT = 8


def mesh(*arguments: str) -> str:
    """Runs `mesh ARGUMENTS`, showing command and output, and returns what it printed.

    Raises:
        subprocess.CalledProcessError: it failed; it has said why.
    """
    print(f"\n$ mesh {shlex.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "mesh.cli.app", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="", flush=True)
    done.check_returncode()
    return done.stdout


def standard_form(body: Path) -> str:
    """The same request in the standard v2 form: `data` instead of `contents`."""
    document = json.loads(body.read_text())
    for tensor in document["inputs"]:
        tensor["data"] = tensor.pop("contents")["fp32_contents"]
    return json.dumps(document)


def check(what: str, answer: dict[str, Any], model: str, value: object) -> None:
    """Ends the demo unless the answer is the walkthrough's."""
    if (answer.get(model), value) != (MODEL_ID, DIGIT):
        raise SystemExit(f"{what} answered {answer.get(model)!r} and {value!r}, not {MODEL_ID!r} and {DIGIT}")
    print(f"→ {what}: {answer[model]} says {value}", flush=True)


def walkthrough(data: Path, scratch: Path) -> None:
    """Applies the documents and calls the model: REST in both forms, and gRPC."""
    mesh("apply", "-f", str(WALKTHROUGH / "my-models-pvc.yaml"))
    claim = data / "pvc" / "my-models-pvc"
    print(f"\n$ cp {EXAMPLES / 'models' / 'mnist-svm.joblib'} {claim}", flush=True)
    shutil.copy(EXAMPLES / "models" / "mnist-svm.joblib", claim)
    mesh("apply", "-f", str(WALKTHROUGH), "--wait", "90")
    mesh("get", "isvc")

    answer = json.loads(mesh("infer", "sklearn-mnist", "-f", str(BODY)))
    check("REST, the walkthrough's form", answer, "modelName", int(answer["outputs"][0]["contents"]["int64Contents"][0]))
    standard = scratch / "standard.json"
    standard.write_text(standard_form(BODY))
    answer = json.loads(mesh("infer", "sklearn-mnist", "-f", str(standard)))
    check("REST, the standard form", answer, "model_name", answer["outputs"][0]["data"][0])
    answer = json.loads(mesh("infer", "sklearn-mnist", "--grpc", "-f", str(standard)))
    check("gRPC", answer, "model_name", answer["outputs"][0]["data"][0])


def main() -> int:
    """Exit code 0 if every answer was right; the mesh is ended unless `--stay` and all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(".cache/demo-data"), help="data folder of the mesh")
    parser.add_argument("--pods", type=int, default=1, help="pods of the mesh")
    parser.add_argument("--stay", action="store_true", help="leave the mesh running")
    options = parser.parse_args()
    data = options.data.absolute()
    try:
        mesh("up", "--detach", "--data", str(data), *(("--pods", str(options.pods)) if options.pods != 1 else ()))
    except subprocess.CalledProcessError:
        return 1
    stay = False
    try:
        with tempfile.TemporaryDirectory(prefix="mesh-demo-") as scratch:
            walkthrough(data, Path(scratch))
        if options.pods != 1:
            mesh("get", "pods")
            mesh("get", "models")
        stay = options.stay
    except subprocess.CalledProcessError as error:
        print(f"the demo ends: a command failed with exit code {error.returncode}", file=sys.stderr)
        return 1
    finally:
        if not stay:
            mesh("down", "--mesh", str(data))
    if stay:
        print("\nThe mesh stays. Try:", flush=True)
        print(f"  curl -X POST localhost:8008/v2/models/sklearn-mnist/infer -d @{BODY.relative_to(EXAMPLES.parent)}")
        print("  .venv/bin/mesh describe isvc sklearn-mnist")
        print("  .venv/bin/mesh down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
