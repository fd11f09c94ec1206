"""An MLServer and the adapter before it, as two processes that share a model folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import inference_pb2_grpc as v2_grpc
from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc
from tests.support import ports
from tests.support.client import OPTIONS
from tests.support.processes import Server
from tests.support.stubs import ROOT
from tests.support.waiting import until

MODELS = ROOT / "examples" / "models"
TIMEOUT = 60.0
"""Seconds that every call gets."""
MEMORY = 1 << 30
BUFFER = 128 << 20
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class MLServer:
    """A real MLServer over one model folder; it can be killed and started again on the same ports."""

    def __init__(self, environment: Path, root: Path, log: Path, variables: Mapping[str, str]) -> None:
        self._command = [str(environment / "bin" / "mlserver"), "start", str(root / "_mlserver_models")]
        http, self.port, metrics = ports.free(3)
        scratch = log.parent / "mlserver"
        scratch.mkdir(exist_ok=True)
        self._variables = {
            "PATH": os.environ["PATH"],
            "MLSERVER_HOST": "127.0.0.1",
            "MLSERVER_HTTP_PORT": str(http),
            "MLSERVER_GRPC_PORT": str(self.port),
            "MLSERVER_METRICS_PORT": str(metrics),
            "MLSERVER_LOAD_MODELS_AT_STARTUP": "false",
            "MLSERVER_MODEL_NAME": "dummy-model-fixme",
            "MLSERVER_PARALLEL_WORKERS": "0",
            "MLSERVER_DEBUG": "false",
            "MLSERVER_ENVIRONMENTS_DIR": str(scratch),
            "MLSERVER_METRICS_DIR": str(scratch),
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            # A session of its own, as under a mesh: what it started for a model's own environment ends with its group.
            self._process = subprocess.Popen(
                self._command, env=self._variables, stdout=log, stderr=log, cwd=self._log.parent, start_new_session=True
            )

    def kill(self) -> None:
        if self._process:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)


class Rig:
    """Model folder, claims, storage-config, MLServer and adapter of one test."""

    def __init__(self, environment: Path, folder: Path, server: Mapping[str, str] | None = None, **settings: str) -> None:
        self.root = folder / "models"
        self.claims = folder / "claims"
        self.config = folder / "storage-config"
        for directory in (self.root / "_mlserver_models", self.claims, self.config):
            directory.mkdir(parents=True)
        self.mlserver = MLServer(environment, self.root, folder / "mlserver.log", server or {})
        (self.port,) = ports.free()
        variables = {
            "ADAPTER_PORT": str(self.port),
            "RUNTIME_PORT": str(self.mlserver.port),
            "CONTAINER_MEM_REQ_BYTES": str(MEMORY),
            "MEM_BUFFER_BYTES": str(BUFFER),
            "LOADTIME_TIMEOUT": "60000",
            "ROOT_MODEL_DIR": str(self.root),
            "STORAGE_CONFIG_DIR": str(self.config),
            "PVC_MOUNTS_DIR": str(self.claims),
        }
        self._variables = {**variables, **settings}
        self._log = folder / "adapter.log"
        self._start_adapter({})
        self._data_channel = grpc.insecure_channel(f"127.0.0.1:{self.mlserver.port}")
        self.data = v2_grpc.GRPCInferenceServiceStub(self._data_channel)

    def close(self) -> None:
        self._spi_channel.close()
        self._data_channel.close()
        self.adapter.stop()
        self.mlserver.kill()

    # The adapter

    def restart_adapter(self, **own: str) -> None:
        """Kills it and starts it again, with these settings beside those that it always has (`own`)."""
        self.adapter.kill()
        self._spi_channel.close()
        self._start_adapter(own)

    def _start_adapter(self, own: dict[str, str]) -> None:
        self.own = own
        self.adapter = Server(["runtime_adapters", "mlserver"], self._log, {**self._variables, **own})
        # With a connection of its own: one of before would take a call before it learns that nobody is there.
        self._spi_channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", OPTIONS)
        self.spi = spi_grpc.ModelRuntimeStub(self._spi_channel)
        self.health = health_pb2_grpc.HealthStub(self._spi_channel)

    def status(self) -> spi.RuntimeStatusResponse:
        return self.spi.runtimeStatus(spi.RuntimeStatusRequest(), timeout=TIMEOUT, wait_for_ready=True)

    def until_ready(self) -> spi.RuntimeStatusResponse:
        """Asks for the status as a router does, until it is READY."""

        def ask() -> spi.RuntimeStatusResponse | None:
            answer = self.status()
            return answer if answer.status == answer.READY else None

        answer = until(ask, "READY", within=TIMEOUT)
        assert answer is not None
        return answer

    def load(self, model: str, path: str, kind: str = "", **key: Any) -> spi.LoadModelResponse:
        return self.spi.loadModel(load_request(model, path, kind, **key), timeout=TIMEOUT)

    def refused(self, model: str, path: str, kind: str = "", **key: Any) -> tuple[grpc.StatusCode, str]:
        """Code and text by which a load failed."""
        with pytest.raises(grpc.RpcError) as failure:
            self.load(model, path, kind, **key)
        assert isinstance(failure.value, grpc.Call)
        return failure.value.code(), failure.value.details() or ""

    def unload(self, model: str) -> None:
        self.spi.unloadModel(spi.UnloadModelRequest(modelId=model), timeout=TIMEOUT)

    def checked(self) -> int:
        return int(self.health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT, wait_for_ready=True).status)

    # The model server

    def infer(self, model: str, values: Sequence[float], name: str = "predict") -> v2.ModelInferResponse:
        tensor = v2.ModelInferRequest.InferInputTensor(name=name, datatype="FP32", shape=[1, len(values)])
        tensor.contents.fp32_contents.extend(values)
        return self.data.ModelInfer(v2.ModelInferRequest(model_name=model, inputs=[tensor]), timeout=TIMEOUT)

    def model_ready(self, model: str) -> bool:
        """Whether MLServer has a model, also one whose folder is gone."""
        try:
            return self.data.ModelReady(v2.ModelReadyRequest(name=model), timeout=TIMEOUT).ready
        except grpc.RpcError:
            return False

    def loaded(self) -> set[str]:
        """Ids of the models that MLServer would serve."""
        index = self.data.RepositoryIndex(v2.RepositoryIndexRequest(), timeout=TIMEOUT, wait_for_ready=True)
        return {model.name for model in index.models if model.state.endswith("READY")}

    # Files

    def claim(self, name: str) -> Path:
        folder = self.claims / name
        folder.mkdir(exist_ok=True)
        return folder

    def files(self) -> set[str]:
        """Everything below the model folder, but not the adapter's own empty folder."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")} - {"_mlserver_models"}


def load_request(model: str, path: str, kind: str = "", **key: Any) -> spi.LoadModelRequest:
    """A request for a model in the claim `models`, unless `key` says otherwise."""
    document = {"storage_params": {"type": "pvc", "name": "models"}, **({"model_type": {"name": kind}} if kind else {}), **key}
    return spi.LoadModelRequest(modelId=model, modelType=f"mt:{kind}", modelPath=path, modelKey=json.dumps(document))
