"""What goes wrong with a TorchServe, and what the mesh makes of it. Each story leaves the pod serving."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import grpc
import pytest

from mesh.protocols import model_runtime_pb2 as spi
from mesh.protocols import torchserve_management_pb2 as management
from runtime_adapters.server_process import ServerProcess
from tests.support.client import Client, Status
from tests.support.waiting import until
from tests.torch.rig import BUFFER, MEMORY, TIMEOUT, Rig, failed, infer, key_of, load_request, predictions

PATIENCE = 180.0
"""Seconds for a TorchServe to come back and a worker to import torch on a busy machine."""


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    assert rig.router
    with Client.insecure(rig.router.address) as client:
        yield client


def says(client: Client, word: bytes = b"number") -> list[int]:
    return list(infer(client, "talks", ("text", "BYTES", [1], [word])).outputs[0].contents.int64_contents)


def serving_again(client: Client) -> None:
    def asked() -> bool:
        try:
            return says(client) == [7]
        except grpc.RpcError:
            return False

    until(asked, "the model answers again", within=PATIENCE)


@pytest.fixture(scope="module", autouse=True)
def registered(rig: Rig) -> None:
    assert rig.router
    with Client.insecure(rig.router.address) as client:
        client.register("talks-1", "says.mar", kind="pytorch-mar", key=key_of())
        client.set_alias("talks", "talks-1")
        assert says(client) == [7]


def test_the_size_is_the_measured_memory_of_the_workers(rig: Rig, client: Client) -> None:
    size = rig.size("talks-1")

    def measured() -> dict[str, int] | None:
        """By TorchServe itself, each second."""
        answer = rig.management.DescribeModel(management.DescribeModelRequest(model_name="talks-1", model_version="all"), timeout=TIMEOUT)
        (worker,) = json.loads(answer.msg)[0]["workers"]
        return worker if worker["memoryUsage"] else None

    worker = until(measured, "TorchServe has measured its worker", within=PATIENCE)
    assert worker is not None
    # It does not stand still, so not the same figure; TorchServe's has pages of files in it.
    held = ServerProcess(rig.port).part([worker["pid"]])
    assert held <= size < 1.5 * held
    assert 0.5 * worker["memoryUsage"] < size < 1.5 * worker["memoryUsage"]
    assert 0 < size < MEMORY - BUFFER
    assert rig.load("by-hand", "says.mar").sizeInBytes == 0
    rig.unload("by-hand")
    assert "by-hand" not in rig.registered()
    assert client.status("talks-1").status == Status.LOADED


def test_a_wrong_size_in_the_key_is_believed_and_not_measured(rig: Rig) -> None:
    assert rig.load("given", "says.mar", size_bytes=12_345_678).sizeInBytes == 12_345_678
    assert rig.size("given") == 12_345_678
    rig.unload("given")


def test_what_is_no_archive_is_refused_before_torchserve_sees_it(rig: Rig) -> None:
    (rig.archives / "folder").mkdir(exist_ok=True)
    (rig.archives / "folder" / "model.pt").write_bytes(b"weights")
    (rig.archives / "weights.mar").write_bytes(b"weights")
    for path, why in (("folder", "Model path is a directory, must be a MAR file"), ("weights.mar", "is not a model archive")):
        code, text = failed(lambda path=path: rig.load("refused", path))  # type: ignore[misc]
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert why in text
    assert "refused" not in rig.registered()


def test_names_with_every_awkward_character_are_files_of_the_store_and_serve(rig: Rig) -> None:
    names = ["with.dots-and-dashes", "back\\slash", "a b", "50%", "file:x", "../up"]
    for name in names:
        rig.load(name, "says.mar")
        assert predictions(rig.bridge, name, data=b"number") == b"7"
        if "/" in name:
            code, text = failed(lambda name=name: infer(rig.bridge, name, ("text", "BYTES", [1], [b"number"])))  # type: ignore[misc]
            assert code is grpc.StatusCode.INVALID_ARGUMENT
            assert "call Predictions instead" in text
        else:
            answer = infer(rig.bridge, name, ("text", "BYTES", [1], [b"number"]))
            assert list(answer.outputs[0].contents.int64_contents) == [7]
    for name in names:
        rig.unload(name)
    assert not rig.registered() & set(names)


def test_a_load_that_hangs_ends_with_its_callers_deadline_and_leaves_nothing(rig: Rig) -> None:
    code, _ = failed(lambda: rig.load("hanging", "hangs.mar", timeout=5))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    rig.unload("hanging")
    assert "hanging" not in rig.registered()


def test_a_worker_that_dies_fails_one_call_and_is_started_again(rig: Rig, client: Client) -> None:
    before = rig.torchserve.workers()
    code, _ = failed(lambda: says(client, b"die"))
    assert code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
    serving_again(client)
    assert before
    assert rig.torchserve.workers() - before


def test_killed_while_serving_it_is_noticed_and_the_model_loaded_again(rig: Rig, client: Client) -> None:
    assert rig.torchserve.workers()
    rig.torchserve.kill()
    until(lambda: not rig.torchserve.workers(), "the workers end with their server")
    rig.torchserve.start()
    serving_again(client)


def test_killed_while_loading_the_load_fails_as_unavailable(rig: Rig, client: Client) -> None:
    loading = rig.spi.loadModel.future(load_request("hanging", "hangs.mar"), timeout=TIMEOUT)
    until(lambda: "hanging" in rig.registered(), "the load is under way")
    rig.torchserve.kill()
    code, text = failed(loading.result)
    assert code is grpc.StatusCode.UNAVAILABLE, text
    rig.torchserve.start()
    serving_again(client)
    assert "hanging" not in rig.registered()


def test_a_server_that_stands_still_refuses_to_unload_and_the_unload_is_done_later(rig: Rig, client: Client) -> None:
    rig.load("stuck", "says.mar")
    os.kill(rig.torchserve.pid, signal.SIGSTOP)
    try:
        with pytest.raises(grpc.RpcError) as failure:
            rig.spi.unloadModel(spi.UnloadModelRequest(modelId="stuck"), timeout=3)
        assert isinstance(failure.value, grpc.Call)
        assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    finally:
        os.kill(rig.torchserve.pid, signal.SIGCONT)
    rig.unload("stuck")
    assert "stuck" not in rig.registered()
    serving_again(client)
