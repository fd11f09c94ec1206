"""The puller between a router and a runtime of one's own: files are there before a load and gone after an unload, all else passes as it is.

The runtime is a small server in this process that keeps what it was told.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc
from runtime_adapters.paths import folder_name
from runtime_adapters.puller.forwarding import original
from runtime_adapters.puller.server import PullerServer
from runtime_adapters.puller.settings import PullerSettings
from runtime_adapters.settings import SettingsError

KEY = json.dumps({"storage_params": {"type": "pvc", "name": "models"}, "model_type": {"name": "mine"}})
NAMES = ["simple", "with space", "../up", "ünï/cödé", ".hidden", "_own", "x" * 150]


def size(path: str) -> int:
    """Bytes of a file; 0 if there is none."""
    return os.path.getsize(path) if os.path.exists(path) else 0


class Runtime(spi_grpc.ModelRuntimeServicer):
    def __init__(self) -> None:
        self.loaded: dict[str, spi.LoadModelRequest] = {}
        self.unloads: list[str] = []
        self.refusal: grpc.StatusCode | None = None
        self.held: asyncio.Event | None = None
        self.status = spi.RuntimeStatusResponse.READY

    async def loadModel(self, request: spi.LoadModelRequest, context: aio.ServicerContext) -> spi.LoadModelResponse:  # type: ignore[type-arg]
        assert size(request.modelPath), "the files are there before the load"
        if self.held:
            await self.held.wait()
        if self.refusal:
            await context.abort(self.refusal, "words of its own", (("why", "because"),))
        self.loaded[request.modelId] = request
        return spi.LoadModelResponse(sizeInBytes=5, maxConcurrency=3)

    async def unloadModel(self, request: spi.UnloadModelRequest, context: aio.ServicerContext) -> spi.UnloadModelResponse:  # type: ignore[type-arg]
        self.unloads.append(request.modelId)
        if self.refusal:
            await context.abort(self.refusal, "words of its own")
        if self.loaded.pop(request.modelId, None) is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not here")
        return spi.UnloadModelResponse()

    async def runtimeStatus(self, request: object, context: object) -> spi.RuntimeStatusResponse:
        return spi.RuntimeStatusResponse(status=self.status, capacityInBytes=7, runtimeVersion="mine")


@dataclass
class Rig:
    runtime: Runtime
    folder: Path
    channel: aio.Channel

    @property
    def stub(self) -> spi_grpc.ModelRuntimeAsyncStub:
        """Of the puller."""
        return spi_grpc.ModelRuntimeStub(self.channel)

    @property
    def files(self) -> list[str]:
        """Folders of models that there are."""
        return sorted(one.name for one in (self.folder / "models").iterdir())

    async def load(self, model: str, path: str = "model.json", key: str = KEY, timeout: float = 30.0) -> spi.LoadModelResponse:
        return await self.stub.loadModel(
            spi.LoadModelRequest(modelId=model, modelType="mt:mine", modelPath=path, modelKey=key), timeout=timeout
        )

    async def unload(self, model: str) -> None:
        await self.stub.unloadModel(spi.UnloadModelRequest(modelId=model), timeout=30)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    claim = tmp_path / "claims" / "models"
    claim.mkdir(parents=True)
    (claim / "model.json").write_text("{}" * 50)
    server, runtime, health = aio.server(), Runtime(), HealthServicer()  # type: ignore[abstract] # sizes are not asked for
    spi_grpc.add_ModelRuntimeServicer_to_server(runtime, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.add_insecure_port(f"unix:{tmp_path}/own.sock")
    await server.start()
    variables = {"PORT": "0", "MODEL_SERVER_ENDPOINT": f"unix:{tmp_path}/own.sock", "ROOT_MODEL_DIR": str(tmp_path / "models")}
    variables |= {"PVC_MOUNTS_DIR": str(tmp_path / "claims"), "STORAGE_CONFIG_DIR": str(tmp_path)}
    puller = PullerServer(PullerSettings.load(variables))
    await puller.start()
    async with aio.insecure_channel(f"127.0.0.1:{puller.port}") as channel:
        yield Rig(runtime, tmp_path, channel)
    await puller.stop()
    await server.stop(None)


async def test_a_load_is_handed_on_with_where_the_files_lie(rig: Rig) -> None:
    answer = await rig.load("a/b")
    assert (answer.sizeInBytes, answer.maxConcurrency) == (5, 3)
    told = rig.runtime.loaded["a/b"]
    assert size(told.modelPath) == 100
    assert Path(told.modelPath).is_relative_to(rig.folder / "models")
    assert (told.modelType, json.loads(told.modelKey)) == ("mt:mine", {"model_type": {"name": "mine"}, "disk_size_bytes": 100})
    await rig.unload("a/b")
    assert (rig.files, rig.runtime.loaded) == ([], {})


async def test_a_load_that_cannot_be_brought_never_reaches_the_runtime(rig: Rig) -> None:
    for path, key, words in (
        ("no.json", KEY, "Failed to pull model from storage"),
        ("model.json", "{", "modelKey"),
        ("model.json", "{}", "Predictor Storage field missing"),
    ):
        with pytest.raises(aio.AioRpcError) as refusal:
            await rig.load("a", path, key)
        assert words in (refusal.value.details() or "")
    with pytest.raises(aio.AioRpcError, match="is not a model id"):
        await rig.load("")
    assert (rig.files, rig.runtime.loaded) == ([], {})


async def test_the_runtimes_refusal_passes_as_it_is_and_the_files_go(rig: Rig) -> None:
    rig.runtime.refusal = grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(aio.AioRpcError) as refusal:
        await rig.load("a")
    assert (refusal.value.code(), refusal.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "words of its own")
    assert ("why", "because") in tuple(refusal.value.trailing_metadata() or ())
    assert rig.files == []


async def test_after_a_load_that_may_go_on_the_files_stay_until_the_unload(rig: Rig) -> None:
    rig.runtime.held = asyncio.Event()
    with pytest.raises(aio.AioRpcError) as refusal:
        await rig.load("a", timeout=1.0)
    assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert rig.files == ["a"]
    rig.runtime.held.set()
    await rig.unload("a")
    assert rig.files == []


async def test_a_model_that_the_runtime_keeps_keeps_its_files_and_one_it_does_not_know_is_gone(rig: Rig) -> None:
    await rig.load("a")
    rig.runtime.refusal = grpc.StatusCode.INTERNAL
    with pytest.raises(aio.AioRpcError, match="words of its own"):
        await rig.unload("a")
    assert rig.files == ["a"]
    rig.runtime.refusal = grpc.StatusCode.NOT_FOUND
    await rig.unload("a")
    assert rig.files == []


async def test_a_router_that_begins_finds_neither_models_nor_files(rig: Rig) -> None:
    for name in NAMES:
        await rig.load(name)
    (rig.folder / "models" / "_of_the_runtime").mkdir()
    answer = await rig.stub.runtimeStatus(spi.RuntimeStatusRequest(), timeout=30)
    assert (answer.status, answer.capacityInBytes, answer.runtimeVersion) == (answer.READY, 7, "mine")
    assert sorted(rig.runtime.unloads) == sorted(NAMES)
    assert (rig.files, rig.runtime.loaded) == (["_of_the_runtime"], {})


async def test_while_the_runtime_starts_nothing_is_removed_and_what_it_does_not_let_go_is_told(rig: Rig) -> None:
    await rig.load("a")
    rig.runtime.status = spi.RuntimeStatusResponse.STARTING
    assert (await rig.stub.runtimeStatus(spi.RuntimeStatusRequest(), timeout=30)).status == spi.RuntimeStatusResponse.STARTING
    assert (rig.files, rig.runtime.unloads) == (["a"], [])
    rig.runtime.status, rig.runtime.refusal = spi.RuntimeStatusResponse.READY, grpc.StatusCode.INTERNAL
    assert (await rig.stub.runtimeStatus(spi.RuntimeStatusRequest(), timeout=30)).status == spi.RuntimeStatusResponse.FAILING
    assert rig.files == ["a"]


async def test_health_is_the_runtimes_own(rig: Rig) -> None:
    health = health_pb2_grpc.HealthStub(rig.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(aio.AioRpcError) as refusal:
        await health.Check(health_pb2.HealthCheckRequest(service="unknown-to-it"), timeout=30)
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_service_that_the_runtime_lacks_is_lacking_however_often_it_is_asked_for(rig: Rig) -> None:
    lacking: aio.UnaryUnaryMultiCallable[bytes, bytes] = rig.channel.unary_unary("/grpc.health.v1.Health/Lacking")
    for _ in range(100):
        with pytest.raises(aio.AioRpcError) as refusal:
            await lacking(b"", timeout=30)
        assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_tells_which_model_it_is_of(name: str) -> None:
    assert original(folder_name(name)) == name


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "x"), ("PORT", "70000"), ("MODEL_SERVER_ENDPOINT", "8085"), ("MODEL_SERVER_ENDPOINT", "port:0"), ("ROOT_MODEL_DIR", "/")],
)
def test_settings_that_make_no_sense_are_told_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name.lower()}|{name}"):
        PullerSettings.load({name: value})


def test_it_ends_in_order_when_it_is_told_to(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PORT": "0",
        "ROOT_MODEL_DIR": str(tmp_path / "models"),
        "MODEL_SERVER_ENDPOINT": f"unix:{tmp_path}/own.sock",
    }
    command = [sys.executable, "-m", "runtime_adapters", "puller"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        said = process.stdout.readline()
        process.terminate()
        rest = process.stdout.read()
    assert '"message": "listening"' in said
    assert (process.returncode, rest) == (0, "")
