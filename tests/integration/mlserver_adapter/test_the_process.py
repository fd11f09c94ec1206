"""The adapter as a process: what it needs to start, what it says when it cannot, how it stops. No model server runs here."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import model_runtime_pb2_grpc as spi_grpc
from tests.integration.storage.servers import WebServer
from tests.support import ports
from tests.support.processes import Server
from tests.support.waiting import until

TIMEOUT = 20.0

Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts an adapter whose model server does not answer."""
    started: list[Server] = []
    (runtime,) = ports.free()

    def begin(*arguments: str, **variables: str) -> Server:
        defaults = {
            "ADAPTER_PORT": "0",
            "RUNTIME_PORT": str(runtime),
            "CONTAINER_MEM_REQ_BYTES": str(1 << 30),
            "ROOT_MODEL_DIR": str(tmp_path / "models"),
            "STORAGE_CONFIG_DIR": str(tmp_path),
        }
        environment = {name: value for name, value in (defaults | variables).items() if value != "unset"}
        server = Server(["runtime_adapters", *(arguments or ["mlserver"])], tmp_path / f"{len(started)}.log", environment)
        started.append(server)
        return server

    yield begin
    for server in started:
        server.stop()


def listening(server: Server) -> int:
    """The port it chose."""

    def look() -> int:
        lines = [json.loads(line) for line in server.output().splitlines() if line.startswith("{")]
        return next((int(line["port"]) for line in lines if line["message"] == "listening"), 0)

    return until(look, "listening")


def test_without_its_settings_it_says_which_and_ends(start: Start) -> None:
    server = start(CONTAINER_MEM_REQ_BYTES="unset")
    assert server.wait() == 1
    assert "CONTAINER_MEM_REQ_BYTES is not set" in server.output()


def test_an_unknown_model_server_is_refused(start: Start) -> None:
    server = start("mlsever")
    assert server.wait() == 2
    assert "mlserver" in server.output()


def test_a_taken_port_ends_it(start: Start) -> None:
    with ports.taken() as port:
        server = start(ADAPTER_PORT=str(port))
        assert server.wait() == 1
        assert f"cannot listen on 127.0.0.1:{port}" in server.output()


def test_a_second_adapter_on_the_same_port_ends(start: Start) -> None:
    first = listening(start())
    second = start(ADAPTER_PORT=str(first))
    assert second.wait() == 1


def test_a_folder_that_cannot_be_made_ends_it(start: Start, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file in the way")
    server = start()
    assert server.wait() == 1
    assert "cannot run" in server.output()


def test_a_signal_ends_it_cleanly(start: Start) -> None:
    server = start()
    listening(server)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert "Traceback" not in server.output()


def test_it_listens_on_a_socket_instead(start: Start, tmp_path: Path) -> None:
    listening(start(ADAPTER_SOCKET=str(tmp_path / "spi.sock")))
    with grpc.insecure_channel(f"unix:{tmp_path / 'spi.sock'}") as channel:
        status = spi_grpc.ModelRuntimeStub(channel).runtimeStatus(spi.RuntimeStatusRequest(), timeout=TIMEOUT)
    assert status.status == status.STARTING


def test_a_buffer_that_takes_all_memory_fails_and_says_why(start: Start) -> None:
    server = start(CONTAINER_MEM_REQ_BYTES="100", MEM_BUFFER_BYTES="200")
    with grpc.insecure_channel(f"127.0.0.1:{listening(server)}") as channel:
        status = spi_grpc.ModelRuntimeStub(channel).runtimeStatus(spi.RuntimeStatusRequest(), timeout=TIMEOUT)
    assert status.status == status.FAILING
    assert status.capacityInBytes == 0
    assert "CONTAINER_MEM_REQ_BYTES is 100 and MEM_BUFFER_BYTES takes 200 of it" in server.output()


def test_a_size_that_cannot_be_told_in_time_is_the_default(start: Start, tmp_path: Path) -> None:
    with ports.taken() as silent:  # listens and never answers
        (tmp_path / "silent").write_text(json.dumps({"type": "http", "url": f"http://127.0.0.1:{silent}"}))
        request = spi.PredictModelSizeRequest(modelId="m", modelPath="m", modelKey='{"storage_key": "silent"}')
        with grpc.insecure_channel(f"127.0.0.1:{listening(start(DEFAULT_MODELSIZE='12345'))}") as channel:
            answer = spi_grpc.ModelRuntimeStub(channel).predictModelSize(request, timeout=TIMEOUT)
    assert answer.sizeInBytes == 12345


def test_a_load_without_a_model_server_fails_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "m").write_bytes(b"m")
    (tmp_path / "key").write_text(json.dumps({"type": "local", "path": str(tmp_path / "shelf")}))
    with grpc.insecure_channel(f"127.0.0.1:{listening(start())}") as channel:
        request = spi.LoadModelRequest(modelId="m", modelPath="m", modelKey='{"storage_key": "key"}')
        with pytest.raises(grpc.RpcError) as failure:
            spi_grpc.ModelRuntimeStub(channel).loadModel(request, timeout=TIMEOUT)
        with pytest.raises(grpc.RpcError) as unknown:
            spi_grpc.ModelRuntimeStub(channel).modelSize(spi.ModelSizeRequest(modelId="m"), timeout=TIMEOUT)
    assert isinstance(failure.value, grpc.Call)
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "MLServer at 127.0.0.1:" in (failure.value.details() or "")
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["_mlserver_models"]
    assert isinstance(unknown.value, grpc.Call)
    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_signal_in_the_middle_of_a_download_leaves_nothing(start: Start, tmp_path: Path) -> None:
    web = WebServer()
    try:
        (tmp_path / "web").write_text(json.dumps({"type": "http", "url": f"{web.url}/slow"}))
        server = start()
        with grpc.insecure_channel(f"127.0.0.1:{listening(server)}") as channel:
            request = spi.LoadModelRequest(modelId="m", modelPath="m", modelKey='{"storage_key": "web"}')
            call = spi_grpc.ModelRuntimeStub(channel).loadModel.future(request, timeout=TIMEOUT)
            until(lambda: list((tmp_path / "models").rglob("m~*/m")), "the download began")
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            assert call.exception(TIMEOUT)
    finally:
        web.close()
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["_mlserver_models"]
