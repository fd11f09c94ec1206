"""A TorchServe by the recipe of a local mesh, the adapter before it, and a router in front of both."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.local.servers.base import Place
from mesh.local.servers.torchserve import SERVER
from mesh.manifests.runtimes import PodPlan, dataplane_config
from mesh.protocols import inference_pb2 as v2
from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc
from mesh.protocols import torchserve_inference_pb2 as ts
from mesh.protocols import torchserve_inference_pb2_grpc as ts_grpc
from mesh.protocols import torchserve_management_pb2 as management
from mesh.protocols import torchserve_management_pb2_grpc as management_grpc
from tests.support import ports
from tests.support.client import Client
from tests.support.mesh import RouterProcess
from tests.support.processes import Server
from tests.support.waiting import until

TIMEOUT = 120.0
"""Seconds that every call gets: a worker imports torch at its start, which is slow on a busy machine."""
MEMORY = 4 << 30
BUFFER = 256 << 20
LOADS = 2
"""At a time: each is a Python that imports torch, two seconds of a processor."""
LOAD_TIMEOUT = 240_000
"""Milliseconds that a load may take, on a busy machine too."""
LEFT_BEHIND = 4 << 20
"""Bytes that each load of `leaves.mar` leaves behind for good, in a process that takes some MiB by itself."""
LIMIT = 1600 << 20
"""Bytes held and not used beyond which the server is to begin anew: more than a hundred such processes, what Java grows by, and workers
that have not been measured yet. `gushes.mar` leaves as much behind at once."""


class TorchServe:
    """The real one; it can be killed and started again on the same ports."""

    def __init__(self, place: Place, plan: PodPlan) -> None:
        self.place = place
        self.plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self._group = 0

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> None:
        command = SERVER.command(self.place, self.plan)
        with command.log.open("ab") as log:
            # A session of its own, as under a mesh: what it started ends with its group.
            self._process = subprocess.Popen(
                command.argv, env=dict(command.environment), stdout=log, stderr=log, cwd=command.folder, start_new_session=True
            )
        self._group = self._process.pid

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def ended(self) -> bool:
        """Whether its process is over."""
        return self._process is None or self._process.poll() is not None

    def workers(self) -> set[int]:
        """Processes of the models' workers, of the server that runs or ran last."""
        return self._of_its_group("model_service_worker.py")

    def left_behind(self) -> set[int]:
        """Processes that the handler `leaves` started and nobody ended."""
        return self._of_its_group("kept = bytearray")

    def _of_its_group(self, what: str) -> set[int]:
        found = subprocess.run(["ps", "-ww", "-eo", "pid,pgid,args"], capture_output=True, text=True, check=True).stdout
        lines = (line.split(maxsplit=2) for line in found.splitlines()[1:])
        return {int(pid) for pid, group, args in lines if int(group) == self._group and what in args}


class Rig:
    """Model folder, archives, TorchServe, adapter and router of the stories that share them."""

    def __init__(self, environment: Path, folder: Path, *, router: bool = True, **settings: str) -> None:
        self.environment = environment
        self.folder = folder
        self.claims = folder / "claims"
        self.archives = self.claims / "models"
        root, scratch = folder / "models", folder / "server"
        (root / SERVER.layout).mkdir(parents=True)
        self.archives.mkdir(parents=True)
        scratch.mkdir()
        self.config = folder / "storage-config"
        self.config.mkdir()
        found = dict(zip(SERVER.ports, ports.free(len(SERVER.ports)), strict=True))
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "JAVA_HOME") if name in os.environ} | {"OMP_NUM_THREADS": "1"}
        place = Place("pod-0/torchserve", environment, scratch, root, folder / "torchserve.log", found, inherited)
        # Measured every second, so that no story waits ten.
        plan = PodPlan("torchserve-0.x", "torchserve", (), MEMORY, BUFFER, LOAD_TIMEOUT, server_env={"TS_METRIC_TIME_INTERVAL": "1"})
        SERVER.prepare(place, plan)
        self.torchserve = TorchServe(place, plan)
        (self.spi_port,) = ports.free()
        self._variables = {
            "ADAPTER_PORT": str(self.spi_port),
            "CONTAINER_MEM_REQ_BYTES": str(MEMORY),
            "MEM_BUFFER_BYTES": str(BUFFER),
            "LOADTIME_TIMEOUT": str(LOAD_TIMEOUT),
            "LOADING_CONCURRENCY": str(LOADS),
            "ROOT_MODEL_DIR": str(root),
            "STORAGE_CONFIG_DIR": str(self.config),
            "PVC_MOUNTS_DIR": str(self.claims),
            "RUNTIME_DATA_ENDPOINT": SERVER.data_endpoint(place),
            **SERVER.adapter(place, plan),
            **settings,
        }
        self.data = f"127.0.0.1:{found['data']}"
        self.port = found["management"]
        self.torchserve.start()
        self.adapter = Server(["runtime_adapters", "torchserve"], folder / "adapter.log", self._variables)
        self._channels = [grpc.insecure_channel(address) for address in (f"127.0.0.1:{self.spi_port}", self.data)]
        self._channels.append(grpc.insecure_channel(f"127.0.0.1:{found['management']}"))
        self.spi = spi_grpc.ModelRuntimeStub(self._channels[0])
        self.bridge = Client(self._channels[1])
        self.management = management_grpc.ManagementAPIsServiceStub(self._channels[2])
        self.router: RouterProcess | None = None
        if router:
            serving = {"INTERNAL_GRPC_PORT": str(self.spi_port), "INTERNAL_SERVING_GRPC_PORT": str(found["data"])}
            leaks = {"MESH_RUNTIME_MEMORY_INTERVAL_MS": "200", "MESH_RECYCLE_RUNTIME": str(LIMIT)}
            doors = {"MM_DATAPLANE_CONFIG": json.dumps(dataplane_config())}
            self.router = RouterProcess(folder, {**serving, **leaks, **doors}, ready=False)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        if self.router:
            self.router.process.stop(5)
        self.adapter.stop()
        self.torchserve.kill()
        for pid in self.torchserve.left_behind():
            os.kill(pid, signal.SIGKILL)

    # The adapter by itself

    def until_ready(self) -> spi.RuntimeStatusResponse:
        """Asks for the status as a router does, until it is READY."""

        def ask() -> spi.RuntimeStatusResponse | None:
            answer = self.spi.runtimeStatus(spi.RuntimeStatusRequest(), timeout=TIMEOUT, wait_for_ready=True)
            return answer if answer.status == answer.READY else None

        answer = until(ask, "READY", within=TIMEOUT)
        assert answer is not None
        return answer

    def load(self, model: str, path: str, *, timeout: float = TIMEOUT, **key: Any) -> spi.LoadModelResponse:
        return self.spi.loadModel(load_request(model, path, **key), timeout=timeout)

    def unload(self, model: str) -> None:
        self.spi.unloadModel(spi.UnloadModelRequest(modelId=model), timeout=TIMEOUT)

    def size(self, model: str) -> int:
        return self.spi.modelSize(spi.ModelSizeRequest(modelId=model), timeout=TIMEOUT).sizeInBytes

    def registered(self) -> set[str]:
        """Ids of the models that TorchServe itself lists."""
        answer = self.management.ListModels(management.ListModelsRequest(limit=100), timeout=TIMEOUT, wait_for_ready=True)
        return {model["modelName"] for model in json.loads(answer.msg)["models"]}


def load_request(model: str, path: str, **key: Any) -> spi.LoadModelRequest:
    """A request for an archive in the claim `models`."""
    document = key_of(**key)
    return spi.LoadModelRequest(modelId=model, modelType="mt:pytorch-mar", modelPath=path, modelKey=document)


def key_of(**more: Any) -> str:
    """The key of a model in the claim `models`."""
    return json.dumps({"storage_params": {"type": "pvc", "name": "models"}, "model_type": {"name": "pytorch-mar"}, **more})


def infer(client: Client, model: str, *tensors: tuple[str, str, list[int], list[Any]], raw: bytes = b"", timeout: float = TIMEOUT) -> Any:
    """ModelInfer; a tensor is name, datatype, shape and flat values."""
    request = v2.ModelInferRequest(model_name=model, id="asked")
    fields = {"FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}
    for name, datatype, shape, values in tensors:
        one = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if not raw:
            getattr(one.contents, fields[datatype]).extend(values)
    if raw:
        request.raw_input_contents.append(raw)
    return client.v2.ModelInfer(request, timeout=timeout)


def predictions(client: Client, model: str, **row: bytes) -> bytes:
    """TorchServe's own call."""
    stub = ts_grpc.InferenceAPIsServiceStub(client.channel)
    return stub.Predictions(ts.PredictionsRequest(model_name=model, input=row), timeout=TIMEOUT).prediction


def failed(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Code and text by which a call fails."""
    with pytest.raises(grpc.RpcError) as failure:
        call()
    assert isinstance(failure.value, grpc.Call)
    return failure.value.code(), failure.value.details() or ""
