"""The stand-in for OpenVINO Model Server by the recipe of a local mesh, the adapter before it, and a router in front of both."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.local.servers.base import Place
from mesh.local.servers.openvino import SERVER
from mesh.manifests.runtimes import PodPlan, dataplane_config
from mesh.protocols import inference_pb2 as v2
from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc
from tests.support import ports
from tests.support.client import OPTIONS, Client
from tests.support.http import plain
from tests.support.mesh import RouterProcess
from tests.support.processes import Server
from tests.support.stubs import ROOT
from tests.support.waiting import until

MODELS = ROOT / "examples" / "models"
TIMEOUT = 60.0
"""Seconds that every call gets."""
MEMORY = 1 << 30
BUFFER = 128 << 20
KINDS = {"onnx": ("mnist.onnx", "onnx"), "ir": ("openvino-mnist", "openvino_ir")}
"""Models of the claim: path and type."""
SERVING = health_pb2.HealthCheckResponse.SERVING
LEAKING = """
import os, pathlib, openvino

kept, compiled = [], openvino.Core.compile_model

def compile_and_leak(*given):
    kept.append(bytearray(os.urandom(1)) * int(pathlib.Path({leak!r}).read_text()))
    return compiled(*given)

openvino.Core.compile_model = compile_and_leak
"""
"""Runs when the server's Python starts: a runtime that keeps so many bytes of each model as a file says."""


class OpenVino:
    """The stand-in, a process over the real runtime; it can be killed and started again on the same ports."""

    def __init__(self, place: Place, plan: PodPlan) -> None:
        self.place = place
        self.plan = plan
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = SERVER.command(self.place, self.plan)
        with command.log.open("ab") as log:
            self._process = subprocess.Popen(command.argv, env=dict(command.environment), stdout=log, stderr=log, cwd=command.folder)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def ended(self) -> bool:
        """Whether its process is over."""
        return self._process is None or self._process.poll() is not None

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """It neither answers nor ends meanwhile."""
        process = self._process
        assert process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            # Killed meanwhile, it has been waited for, and its number may be another's.
            if self._process is process:
                process.send_signal(signal.SIGCONT)

    def states(self) -> dict[str, list[str]]:
        """By its own word: each model's versions' states."""
        found = plain.get(f"http://127.0.0.1:{self.place.ports['rest']}/v1/config", timeout=TIMEOUT).raise_for_status().json()
        return {name: [one["state"] for one in model["model_version_status"]] for name, model in found.items()}

    def held(self) -> set[str]:
        """Models that it serves."""
        return {name for name, states in self.states().items() if "AVAILABLE" in states}

    def listed(self) -> set[str]:
        """Models of its configuration file."""
        document = json.loads((self.place.folder / "model_config_list.json").read_text())
        return {entry["config"]["name"] for entry in document["model_config_list"]}


class Rig:
    """Model folder, claim, stand-in, adapter and router of the stories that share them."""

    def __init__(self, environment: Path, folder: Path, router: Mapping[str, str], **settings: str) -> None:
        self.claim = folder / "claims" / "models"
        shutil.copytree(MODELS / "openvino-mnist", self.claim / "openvino-mnist")
        shutil.copy(MODELS / "mnist.onnx", self.claim)
        self.root, scratch, config = folder / "models", folder / "server", folder / "storage-config"
        for path in (self.root / SERVER.layout, scratch, config):
            path.mkdir(parents=True)
        found = dict(zip(SERVER.ports, ports.free(len(SERVER.ports)), strict=True))
        self._leak = folder / "leak"
        self.leaks(0)
        (scratch / "sitecustomize.py").write_text(LEAKING.format(leak=str(self._leak)))
        inherited = {"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONPATH": str(scratch)}
        place = Place("pod-0/ovms", environment, scratch, self.root, folder / "openvino.log", found, inherited)
        plan = PodPlan("ovms-1.x", "ovms", (), MEMORY, BUFFER, 60_000)
        SERVER.prepare(place, plan)
        self.server = OpenVino(place, plan)
        (self.spi_port,) = ports.free()
        self._variables = {
            "ADAPTER_PORT": str(self.spi_port),
            "CONTAINER_MEM_REQ_BYTES": str(MEMORY),
            "MEM_BUFFER_BYTES": str(BUFFER),
            "LOADTIME_TIMEOUT": "60000",
            "LOADING_CONCURRENCY": "4",
            "ROOT_MODEL_DIR": str(self.root),
            "STORAGE_CONFIG_DIR": str(config),
            "PVC_MOUNTS_DIR": str(folder / "claims"),
            "RUNTIME_DATA_ENDPOINT": SERVER.data_endpoint(place),
            **SERVER.adapter(place, plan),
            **settings,
        }
        self._log = folder / "adapter.log"
        self.server.start()
        self._start_adapter()
        self.direct = Client(grpc.insecure_channel(f"127.0.0.1:{found['grpc']}", options=[("grpc.max_reconnect_backoff_ms", 500)]))
        serving = {"INTERNAL_GRPC_PORT": str(self.spi_port), "INTERNAL_SERVING_GRPC_PORT": str(found["grpc"])}
        self.router = RouterProcess(folder, {**serving, "MM_DATAPLANE_CONFIG": json.dumps(dataplane_config()), **router}, ready=False)

    def close(self) -> None:
        self._spi_channel.close()
        self.direct.channel.close()
        self.router.process.stop(5)
        self.adapter.stop()
        self.server.kill()

    # The adapter by itself

    def restart_adapter(self) -> None:
        """Kills it and starts it again."""
        self.adapter.kill()
        self._spi_channel.close()
        self._start_adapter()

    def _start_adapter(self) -> None:
        self.adapter = Server(["runtime_adapters", "ovms"], self._log, self._variables)
        # With a connection of its own: one of before would take a call before it learns that nobody is there.
        self._spi_channel = grpc.insecure_channel(f"127.0.0.1:{self.spi_port}", OPTIONS)
        self.spi = spi_grpc.ModelRuntimeStub(self._spi_channel)
        self.health = health_pb2_grpc.HealthStub(self._spi_channel)

    def load(self, model: str, kind: str = "onnx", *, timeout: float = TIMEOUT, **key: Any) -> spi.LoadModelResponse:
        return self.spi.loadModel(load_request(model, kind, **key), timeout=timeout)

    def unload(self, model: str, timeout: float = TIMEOUT) -> None:
        self.spi.unloadModel(spi.UnloadModelRequest(modelId=model), timeout=timeout)

    def until_serving(self) -> None:
        """Until the adapter says that its server is up."""

        def asked() -> bool:
            answer = self.health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT, wait_for_ready=True)
            return bool(answer.status == SERVING)

        until(asked, "the adapter to say that the server is up")

    def leaks(self, size: int) -> None:
        """So many bytes stay with the server of each model that it loads from now on."""
        self._leak.write_text(str(size))

    def memory(self) -> dict[str, Any]:
        """What the router tells of the server's memory."""
        answer = plain.get(f"http://127.0.0.1:{self.router.ports['probe']}/mesh/v1/pod", timeout=TIMEOUT).raise_for_status()
        told: dict[str, Any] = answer.json()["memory"]
        return told

    def reloads(self) -> int:
        """Reloads that the adapter ordered."""
        return sum(json.loads(line)["message"] == "reload" for line in self.adapter.output().splitlines() if line.startswith("{"))


def key_of(kind: str, **more: Any) -> str:
    """The key of a model in the claim."""
    return json.dumps({"storage_params": {"type": "pvc", "name": "models"}, "model_type": {"name": KINDS.get(kind, ("", kind))[1]}, **more})


def load_request(model: str, kind: str, **key: Any) -> spi.LoadModelRequest:
    path = key.pop("path", KINDS[kind][0])
    return spi.LoadModelRequest(modelId=model, modelType=f"mt:{kind}", modelPath=path, modelKey=key_of(kind, **key))


def offer(client: Client, name: str, kind: str, **key: Any) -> str:
    """A service as the mesh has it: a name that clients call, and a model behind it, whose id is the answer."""
    model = f"{name}__isvc-0123456789"
    client.register(model, key.pop("path", KINDS[kind][0]), kind=KINDS[kind][1], key=key_of(kind, **key))
    client.set_alias(name, model)
    return model


def digit_request(model: str, pixels: Sequence[float]) -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name=model, id="asked")
    request.inputs.add(name="Input3", datatype="FP32", shape=[1, 1, 28, 28]).contents.fp32_contents.extend(pixels)
    return request


def failed(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """Code and text by which a call fails."""
    with pytest.raises(grpc.RpcError) as failure:
        call()
    assert isinstance(failure.value, grpc.Call)
    return failure.value.code(), failure.value.details() or ""
