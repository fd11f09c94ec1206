"""A mesh on this machine as a user starts it: `mesh up --detach`, with a real MLServer, in a folder of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import grpc
import httpx

from mesh.local.state import DataFolder, socket_address
from mesh.protocols import inference_pb2 as v2
from mesh.protocols import inference_pb2_grpc as v2_grpc
from tests.support import environments, ports
from tests.support.client import Client
from tests.support.http import plain
from tests.support.stubs import ROOT
from tests.support.waiting import until

EXAMPLES = ROOT / "examples"
MODELS = EXAMPLES / "models"
CLAIM = "my-models-pvc"
WALKTHROUGH = EXAMPLES / "walkthrough"
BODY = WALKTHROUGH / "bodies" / "sklearn-mnist.infer.json"
PATIENCE = 60.0
"""Seconds that a call gets: a model server that was killed has to be started again in that time."""
_LOADED = "Loaded"
EIGHT: list[float] = json.loads(BODY.read_text())["inputs"][0]["contents"]["fp32_contents"]
"""A handwritten 8, eight by eight pixels."""


class Stack:
    """Supervisor, router, adapter and MLServer; `claim` is the folder that the documents' claim stands for."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.claim = folder / "claim"
        self.claim.mkdir(parents=True)
        self._documents = folder / "documents"
        self._documents.mkdir()
        self.grpc_port, self.rest_port = ports.free(2)
        self._variables = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "OMP_NUM_THREADS": "1"}
        self._servers: list[grpc.Channel] = []
        # A first `mesh up` would make it, in the time of a test.
        environments.made("mlserver")

    def __enter__(self) -> Self:
        try:
            self.mesh("up", "--detach", "--data", str(self.data), "--pvc", f"{CLAIM}={self.claim}",
                      "--grpc-port", str(self.grpc_port), "--rest-port", str(self.rest_port))  # fmt: skip
        except BaseException:
            self.mesh("down", "--mesh", str(self.data))
            raise
        self.client = Client.insecure(self.address)
        socket = socket_address(DataFolder.at(self.data).socket)
        self._control = httpx.Client(transport=httpx.HTTPTransport(uds=socket, verify=False), base_url="http://mesh", timeout=PATIENCE)
        return self

    def __exit__(self, *reason: object) -> None:
        for channel in self._servers:
            channel.close()
        self._control.close()
        self.client.channel.close()
        self.mesh("down", "--mesh", str(self.data))

    @property
    def address(self) -> str:
        """Of the gRPC door."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def rest(self) -> str:
        """Base URL of the REST door."""
        return f"http://127.0.0.1:{self.rest_port}"

    def logs(self) -> str:
        """The last lines of every process."""
        files = sorted((self.data / "logs").glob("*.log"))
        return "\n".join(f"--- {file.name}\n" + "\n".join(file.read_text(errors="replace").splitlines()[-40:]) for file in files)

    # The command

    def mesh(self, *arguments: str) -> str:
        """Runs the `mesh` command, which must succeed; its output."""
        done = subprocess.run(
            [sys.executable, "-m", "mesh.cli.app", *arguments], env=self._variables, cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"mesh {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def apply(self, *documents: Mapping[str, Any]) -> None:
        """Applies documents, and waits until the router knows every service among them."""
        path = self._documents / f"{len(list(self._documents.iterdir()))}.yaml"
        path.write_text("\n---\n".join(json.dumps(document) for document in documents))
        self.mesh("apply", "--mesh", str(self.data), "-f", str(path))
        self.until_ready()

    def status(self) -> dict[str, Any]:
        """What `mesh status` tells, asked where that asks: a command takes a second to start."""
        found: dict[str, Any] = self._control.get("/v1/status").raise_for_status().json()
        return found

    def until_ready(self) -> None:
        """Until the router takes calls and knows every document."""

        def settled() -> bool:
            status = self.status()
            return status["state"] == "ready" and not status["services"]["pending"]

        until(settled, "the mesh to know its documents", within=PATIENCE)

    # The router

    @cached_property
    def _probe(self) -> str:
        return str(self.status()["probe"])

    def facts(self, what: str = "pod") -> dict[str, Any]:
        """The router's state as JSON: `pod`, `models`, `models/ID`."""
        answer = plain.get(f"{self._probe}/mesh/v1/{what}", timeout=PATIENCE)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def concrete(self, service: str) -> str:
        """The id of the model that a service points at now."""
        return self.client.alias(service).activeModelId

    def digit(self, service: str) -> int:
        """What a service of the digits model says to the handwritten 8."""
        return digit_of(self.client.v2.ModelInfer(digit_request(service), timeout=PATIENCE))

    def digits(self, services: Sequence[str], at_a_time: int = 16) -> list[int]:
        """The same for many at a time, in the order given."""
        with ThreadPoolExecutor(at_a_time) as pool:
            return list(pool.map(self.digit, services))

    # The model server

    def server_pid(self) -> int | None:
        """Of MLServer, if it runs."""
        pid: int | None = next(one["pid"] for one in self.status()["processes"] if one["name"] == "mlserver")
        return pid

    @cached_property
    def server_address(self) -> str:
        """Of MLServer's gRPC port, which nobody else needs to know: it is read from its environment."""
        pid = until(self.server_pid, "MLServer to run")
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        port = next(line.partition("=")[2] for line in environment if line.startswith("MLSERVER_GRPC_PORT="))
        return f"127.0.0.1:{port}"

    @cached_property
    def server(self) -> v2_grpc.GRPCInferenceServiceStub:
        """MLServer itself, past the router."""
        channel = grpc.insecure_channel(self.server_address, options=[("grpc.max_reconnect_backoff_ms", 500)])
        self._servers.append(channel)
        return v2_grpc.GRPCInferenceServiceStub(channel)

    def resident(self) -> set[str]:
        """Ids of the models that MLServer would serve, by its own index."""
        index = self.server.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=PATIENCE, wait_for_ready=True)
        return {model.name for model in index.models if model.state.endswith("READY")}

    def loads(self) -> list[str]:
        """Ids of the models that MLServer loaded, one entry a load, by its log."""
        return [model for said, model in self._server_log() if said == _LOADED]

    def unloads(self) -> list[str]:
        """The same for unloads."""
        return [model for said, model in self._server_log() if said != _LOADED]

    def changes(self) -> list[int]:
        """1 for each load and -1 for each unload of MLServer's log, in order."""
        return [1 if said == _LOADED else -1 for said, _ in self._server_log()]

    def _server_log(self) -> list[tuple[str, str]]:
        text = (self.data / "logs" / "mlserver.log").read_text(errors="replace")
        return re.findall(rf"- ({_LOADED}|Unloaded all versions of) model '([^']+)' successfully", text)

    def kill_server(self) -> None:
        """As a crash: SIGKILL."""
        pid = self.server_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

    @contextmanager
    def server_stopped(self) -> Iterator[int]:
        """MLServer does nothing meanwhile, neither answer nor end; its pid."""
        pid = self.server_pid()
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield pid
        finally:
            if self.server_pid() == pid:
                os.kill(pid, signal.SIGCONT)


def digit_request(service: str) -> v2.ModelInferRequest:
    tensor = v2.ModelInferRequest.InferInputTensor(name="predict", datatype="FP32", shape=[1, 64])
    tensor.contents.fp32_contents.extend(EIGHT)
    return v2.ModelInferRequest(model_name=service, inputs=[tensor])


def digit_of(answer: v2.ModelInferResponse) -> int:
    (digit,) = answer.outputs[0].contents.int64_contents
    return digit


def service(name: str, path: str, kind: str = "sklearn") -> dict[str, Any]:
    """An InferenceService on the claim, as the walkthrough's."""
    storage = {"parameters": {"type": "pvc", "name": CLAIM}, "path": path}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}},
        "spec": {"predictor": {"model": {"modelFormat": {"name": kind}, "storage": storage}}},
    }
