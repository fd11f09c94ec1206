"""A Triton by the recipe of a local mesh, the adapter before it, and a router in front of both."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.local.servers.base import Place
from mesh.local.servers.triton import SERVER
from mesh.manifests.runtimes import PodPlan, dataplane_config
from mesh.protocols import inference_pb2 as v2
from mesh.protocols import inference_pb2_grpc as v2_grpc
from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc
from tests.support import ports
from tests.support.mesh import RouterProcess
from tests.support.processes import Server
from tests.support.stubs import ROOT
from tests.support.waiting import until

MODELS = ROOT / "examples" / "models"
TIMEOUT = 120.0
"""Seconds that every call gets: each instance of a model is a process that imports its library."""
MEMORY = 4 << 30
BUFFER = 128 << 20
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

TREES = """
name: "the-name-of-its-author"
backend: "fil"
max_batch_size: 100
input [{{ name: "input__0" data_type: TYPE_FP32 dims: [126] }}]
output [{{ name: "output__0" data_type: TYPE_FP32 dims: [1] }}]
instance_group [{{ count: 1 kind: KIND_CPU }}]
parameters [{{ key: "model_type" value: {{ string_value: "{kind}" }} }}]
"""
NAMED = """
name: "the-name-of-its-author"
platform: "onnxruntime_onnx"
instance_group [{ count: 1 kind: KIND_CPU }]
"""
PYTHON = """
import os, pathlib, time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.wait_for("load")

    def execute(self, requests):
        if "die" in self.marks():
            os._exit(3)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("pid", np.array([os.getpid()], np.int64))]) for _ in requests]

    def finalize(self):
        self.wait_for("unload")

    def marks(self):
        return os.listdir(MARKS)

    def wait_for(self, step):
        (pathlib.Path(MARKS) / f"{step}-begun").touch()
        while f"hold-{step}" in self.marks():
            time.sleep(0.01)
"""
"""A model of Triton's own Python backend; files in the folder MARKS hold it at a step."""
PYTHON_CONFIG = """
backend: "python"
instance_group [{ count: 1 kind: KIND_CPU }]
output [{ name: "pid" data_type: TYPE_INT64 dims: [1] }]
"""


class Triton:
    """The real one; it can be killed and started again on the same ports."""

    def __init__(self, place: Place, plan: PodPlan) -> None:
        self.place = place
        self.plan = plan
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = SERVER.command(self.place, self.plan)
        with command.log.open("ab") as log:
            # A session of its own, as under a mesh: what it started ends with its group.
            self._process = subprocess.Popen(
                command.argv, env=dict(command.environment), stdout=log, stderr=log, cwd=command.folder, start_new_session=True
            )

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.send_signal(number)

    def kill(self) -> None:
        """It, and not the processes of its models."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def ended(self) -> bool:
        """Whether its process is over."""
        return self._process is None or self._process.poll() is not None

    def close(self) -> None:
        self.kill()
        for pid in self.models():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def models(self) -> set[int]:
        """The processes of models."""
        found = subprocess.run(["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
        stub = str(self.place.folder / "backends" / "python" / "triton_python_backend_stub")
        lines = (line.split(maxsplit=1) for line in found.splitlines()[1:])
        return {int(pid) for pid, args in lines if args.startswith(stub)}


class Rig:
    """Model folder, claim, Triton, adapter and perhaps a router of the stories that share them."""

    def __init__(self, environment: Path, folder: Path, *, router: bool, **settings: str) -> None:
        self.root = folder / "models"
        self.claim = folder / "claims" / "models"
        self.marks = folder / "marks"
        for directory in (self.root / SERVER.layout, self.claim, self.marks, folder / "storage-config"):
            directory.mkdir(parents=True)
        found = dict(zip(SERVER.ports, ports.free(len(SERVER.ports)), strict=True))
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {"OMP_NUM_THREADS": "1"}
        place = Place("pod-0/triton", environment, folder / "server", self.root, folder / "triton.log", found, inherited)
        plan = PodPlan("triton-2.x", "triton", (), MEMORY, BUFFER, 90_000)
        SERVER.prepare(place, plan)
        self.triton = Triton(place, plan)
        (port,) = ports.free()
        self._variables = {
            "ADAPTER_PORT": str(port),
            "CONTAINER_MEM_REQ_BYTES": str(MEMORY),
            "MEM_BUFFER_BYTES": str(BUFFER),
            "LOADTIME_TIMEOUT": "90000",
            "ROOT_MODEL_DIR": str(self.root),
            "STORAGE_CONFIG_DIR": str(folder / "storage-config"),
            "PVC_MOUNTS_DIR": str(folder / "claims"),
            **SERVER.adapter(place, plan),
            **settings,
        }
        self._log = folder / "adapter.log"
        self.lay_out()
        self.triton.start()
        self.adapter = Server(["runtime_adapters", "triton"], self._log, self._variables)
        data = f"127.0.0.1:{found['grpc']}"
        self._channels = [grpc.insecure_channel(address) for address in (f"127.0.0.1:{port}", data)]
        self.spi = spi_grpc.ModelRuntimeStub(self._channels[0])
        self.health = health_pb2_grpc.HealthStub(self._channels[0])
        self.data = v2_grpc.GRPCInferenceServiceStub(self._channels[1])
        self.address = data
        self.router: RouterProcess | None = None
        if router:
            serving = {"INTERNAL_GRPC_PORT": str(port), "INTERNAL_SERVING_GRPC_PORT": str(found["grpc"])}
            self.router = RouterProcess(folder, {**serving, "MM_DATAPLANE_CONFIG": json.dumps(dataplane_config())}, ready=False)

    def lay_out(self) -> None:
        """The models of the stories, as their authors would have stored them."""
        shutil.copy(MODELS / "mnist.onnx", self.claim / "mnist.onnx")
        (self.claim / "corrupt.onnx").write_bytes((MODELS / "mnist.onnx").read_bytes()[:1000])
        self.repository("named", NAMED, "1/model.onnx", (MODELS / "mnist.onnx").read_bytes())
        self.repository("xgboost", TREES.format(kind="xgboost_json"), "1/xgboost.json", (MODELS / "mushroom.json").read_bytes())
        self.repository("lightgbm", TREES.format(kind="lightgbm"), "3/model.txt", (MODELS / "mushroom.bst").read_bytes())
        self.repository("python", PYTHON_CONFIG, "1/model.py", PYTHON.replace("MARKS", repr(str(self.marks))).encode())

    def repository(self, name: str, config: str, file: str, content: bytes) -> None:
        """A model with a configuration of its own, in the claim."""
        path = self.claim / name / file
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        (self.claim / name / "config.pbtxt").write_text(config)

    def close(self) -> None:
        for mark in self.marks.iterdir():
            mark.unlink()
        for channel in self._channels:
            channel.close()
        if self.router:
            self.router.process.stop(5)
        self.adapter.stop()
        self.triton.close()

    # The adapter by itself

    def restart_adapter(self, **settings: str) -> None:
        self.adapter.kill()
        self.adapter = Server(["runtime_adapters", "triton"], self._log, {**self._variables, **settings})
        self.until_ready()

    def until_ready(self) -> spi.RuntimeStatusResponse:
        """Asks for the status as a router does, until it is READY."""

        def ask() -> spi.RuntimeStatusResponse | None:
            try:
                answer = self.spi.runtimeStatus(spi.RuntimeStatusRequest(), timeout=TIMEOUT, wait_for_ready=True)
            except grpc.RpcError:  # of the connection to an adapter that was just ended
                return None
            return answer if answer.status == answer.READY else None

        answer = until(ask, "READY", within=TIMEOUT)
        assert answer is not None
        return answer

    def until_serving(self) -> None:
        until(lambda: self.checked() == SERVING, "the adapter says SERVING", within=TIMEOUT)

    def checked(self) -> int:
        return int(self.health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT, wait_for_ready=True).status)

    def load(self, model: str, path: str, kind: str = "", **key: Any) -> spi.LoadModelResponse:
        return self.spi.loadModel(load_request(model, path, kind, **key), timeout=TIMEOUT)

    def refused(self, model: str, path: str, kind: str = "", **key: Any) -> tuple[grpc.StatusCode, str]:
        """Code and text by which a load failed."""
        return failed(lambda: self.load(model, path, kind, **key))

    def unload(self, model: str) -> None:
        self.spi.unloadModel(spi.UnloadModelRequest(modelId=model), timeout=TIMEOUT)

    def unload_at_last(self, model: str) -> None:
        """Asks until it is done, as a router does, of an adapter that gives Triton little time."""

        def asked() -> bool:
            try:
                self.unload(model)
            except grpc.RpcError:
                return False
            return True

        until(asked, f"{model} is unloaded", within=TIMEOUT)

    # Files, marks, and what Triton says

    def files(self) -> set[str]:
        """Everything below the model folder, but not the adapter's own empty folder."""
        # Not by `rglob`, which fails on what is removed meanwhile.
        found = {Path(folder, name) for folder, folders, names in os.walk(self.root) for name in (*folders, *names)}
        return {str(path.relative_to(self.root)) for path in found} - {SERVER.layout}

    @contextmanager
    def held(self, step: str) -> Iterator[Callable[[], None]]:
        """The Python model waits at `load` or `unload`, until the answered function is called or the context ends."""
        mark = self.marks / f"hold-{step}"
        (self.marks / f"{step}-begun").unlink(missing_ok=True)
        mark.touch()
        try:
            yield mark.unlink
        finally:
            mark.unlink(missing_ok=True)

    def until_begun(self, step: str) -> None:
        until(lambda: (self.marks / f"{step}-begun").exists(), f"the {step} begins", within=TIMEOUT)

    def states(self) -> dict[str, str]:
        """Triton's own word for each model that it knows."""
        index = self.data.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=TIMEOUT, wait_for_ready=True)
        return {model.name: model.state for model in index.models}

    def loaded(self) -> set[str]:
        return {name for name, state in self.states().items() if state in ("READY", "LOADING", "UNLOADING")}


def key_of(kind: str, **more: Any) -> str:
    """The key of a model in the claim `models`."""
    return json.dumps({"storage_params": {"type": "pvc", "name": "models"}, "model_type": {"name": kind}, **more})


def load_request(model: str, path: str, kind: str = "", **key: Any) -> spi.LoadModelRequest:
    return spi.LoadModelRequest(modelId=model, modelType=f"mt:{kind}", modelPath=path, modelKey=key_of(kind, **key))


def infer(stub: Any, model: str, name: str, shape: list[int], values: list[float]) -> v2.ModelInferResponse:
    """ModelInfer of one FP32 tensor."""
    request = v2.ModelInferRequest(model_name=model, id="asked")
    tensor = request.inputs.add(name=name, datatype="FP32", shape=shape)
    tensor.contents.fp32_contents.extend(values)
    answer: v2.ModelInferResponse = stub.ModelInfer(request, timeout=TIMEOUT)
    return answer


def failed(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Code and text by which a call fails."""
    with pytest.raises(grpc.RpcError) as failure:
        call()
    assert isinstance(failure.value, grpc.Call)
    return failure.value.code(), failure.value.details() or ""
