"""The scripted runtime does what the tests that rely on it believe."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc
from tests.support.client import Client, answer, refused
from tests.support.mesh import RuntimeProcess
from tests.support.runtime import Runtime
from tests.support.runtime_state import MIB, Behaviour


class Spi:
    """The management side, as a router would call it."""

    def __init__(self, port: int | None) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = spi_grpc.ModelRuntimeStub(self.channel)

    def load(self, model: str, path: str = "", timeout: float = 20) -> int:
        return self.stub.loadModel(spi.LoadModelRequest(modelId=model, modelPath=path), timeout=timeout).sizeInBytes

    def unload(self, model: str) -> None:
        self.stub.unloadModel(spi.UnloadModelRequest(modelId=model), timeout=20)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[RuntimeProcess]:
    process = RuntimeProcess(tmp_path, Behaviour(health=True, method_infos={"a/b": [1, 2]}), separate=True)
    yield process
    process.stop()


@pytest.fixture
def manager(runtime: RuntimeProcess) -> Iterator[Spi]:
    spi = Spi(runtime.port)
    yield spi
    spi.channel.close()


@pytest.fixture
def client(runtime: RuntimeProcess) -> Iterator[Client]:
    with Client.insecure(f"127.0.0.1:{runtime.serving_port}") as client:
        yield client


def test_a_model_is_loaded_sized_used_and_unloaded(runtime: RuntimeProcess, manager: Spi, client: Client) -> None:
    assert manager.load("m", f"SIZE_{MIB}_1_1") == 0
    assert manager.stub.modelSize(spi.ModelSizeRequest(modelId="m")).sizeInBytes == MIB
    assert client.said("m") == answer("m")
    manager.unload("m")
    with refused(grpc.StatusCode.NOT_FOUND, "m is not loaded"):
        client.predict("m")
    assert [line["held"] for line in runtime.journal()] == [MIB, MIB, MIB, MIB, MIB, MIB, MIB, 0, 0, 0]
    assert runtime.seen("predict", "m", "end")[-1]["code"] == "NOT_FOUND"


def test_the_status_tells_the_script_and_purges(manager: Spi, client: Client) -> None:
    manager.load("m")
    status = manager.stub.runtimeStatus(spi.RuntimeStatusRequest())
    assert (status.status, status.capacityInBytes, status.maxLoadingConcurrency) == (spi.RuntimeStatusResponse.READY, 1024 * MIB, 6)
    assert status.methodInfos["a/b"].idInjectionPath == [1, 2]
    with refused(grpc.StatusCode.NOT_FOUND):
        client.predict("m")


def test_a_failing_path_fails_once_or_always(manager: Spi) -> None:
    for _ in range(2):
        with refused(grpc.StatusCode.INTERNAL, exactly="no good"):
            manager.load("a", "FAILALWAYS_no good")
    with refused(grpc.StatusCode.INTERNAL, exactly="not yet"):
        manager.load("b", "FAIL_not yet")
    manager.load("b", "FAIL_not yet")


def test_a_load_waits_at_its_gate_and_ends_with_its_caller(runtime: RuntimeProcess, manager: Spi) -> None:
    with runtime.holding("load:m"), refused(grpc.StatusCode.DEADLINE_EXCEEDED):
        manager.load("m", timeout=0.2)
    runtime.awaited("loadModel", "m", at="end")
    assert runtime.seen("loadModel", "m", "end")[0]["code"] == "CANCELLED"
    assert runtime.seen("loadModel", "m", "end")[0]["held"] == 50 * MIB
    manager.load("m")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("triton", grpc.StatusCode.UNAVAILABLE, "Request for unknown model: 'm' is not found"),
        ("mlserver", grpc.StatusCode.INVALID_ARGUMENT, "Model m not found"),
    ],
)
def test_a_missing_model_is_told_in_the_words_of_the_script(
    runtime: RuntimeProcess, client: Client, words: str, code: grpc.StatusCode, text: str
) -> None:
    with runtime.behaving(not_found=words), refused(code, exactly=text):
        client.predict("m")


def test_commands_in_the_text_are_obeyed(manager: Spi, client: Client) -> None:
    manager.load("m")
    with refused(grpc.StatusCode.DATA_LOSS, exactly="gone") as refusal:
        client.predict("m", "test:error:code=DATA_LOSS:message=gone")
    assert refusal.trailers["grpc-status-details-bin"] == b"details of the example's error"
    headers = {item.name: item.value for item in client.predict("m", "test:metadata", metadata=(("x-one", "1"),)).headers}
    assert headers["x-one"] == b"1"
    assert len(client.predict("m", "test:fill:1000").request) == 1000
    client.predict("m", "test:purge-models")
    with refused(grpc.StatusCode.NOT_FOUND):
        client.predict("m")


def test_v2_calls_are_echoed(manager: Spi, client: Client) -> None:
    manager.load("m")
    tensor = v2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])
    tensor.contents.fp32_contents.append(0.5)
    got = client.v2.ModelInfer(v2.ModelInferRequest(model_name="m", id="7", inputs=[tensor]), timeout=20)
    assert (got.model_name, got.id, list(got.outputs[0].contents.fp32_contents)) == ("m", "7", [0.5])


def test_it_comes_back_on_its_ports_with_its_journal(runtime: RuntimeProcess, manager: Spi) -> None:
    manager.load("m")
    ports = runtime.port, runtime.serving_port
    runtime.kill()
    runtime.start()
    assert (runtime.port, runtime.serving_port) == ports
    again = Spi(runtime.port)
    again.load("m")
    again.channel.close()
    assert len({line["pid"] for line in runtime.seen("loadModel", "m")}) == 2


def test_a_watcher_of_its_health_sees_a_restart(runtime: RuntimeProcess, manager: Spi) -> None:
    watch = health_pb2_grpc.HealthStub(manager.channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    runtime.do("health", serving=False)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


def test_it_ends_when_asked(runtime: RuntimeProcess) -> None:
    runtime.process.signal(signal.SIGTERM)
    assert runtime.process.wait() == -signal.SIGTERM


async def test_it_lives_in_a_test_s_own_event_loop() -> None:
    async with Runtime(Behaviour()) as runtime, grpc.aio.insecure_channel(f"127.0.0.1:{runtime.port}") as channel:
        await spi_grpc.ModelRuntimeStub(channel).loadModel(spi.LoadModelRequest(modelId="m"))
        assert [line["call"] for line in runtime.state.journal.lines] == ["loadModel", "loadModel"]
