"""What goes wrong with an OpenVINO Model Server (the stand-in), and what the mesh makes of it. Each story leaves the pod serving."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from mesh.protocols import model_runtime_pb2 as spi
from tests.integration.openvino.rig import TIMEOUT, Rig, digit_request, failed, load_request, offer
from tests.support.client import Client, Status
from tests.support.waiting import until

SETTINGS = {"OVMS_RELOAD_TIMEOUT": "2s"}
"""A server that stands still is given up soon."""


@pytest.fixture(scope="module")
def client(rig: Rig) -> Iterator[Client]:
    with Client.insecure(rig.router.address) as client:
        offer(client, "ir", "ir")
        yield client


@pytest.fixture(autouse=True)
def served(client: Client, pixels: list[float]) -> Iterator[None]:
    """The pod serves, before and after."""
    assert serves(client, pixels)
    yield
    until(lambda: serves(client, pixels), "the pod serves again")


def serves(client: Client, pixels: list[float]) -> bool:
    try:
        return len(client.v2.ModelInfer(digit_request("ir", pixels), timeout=TIMEOUT).raw_output_contents) == 1
    except grpc.RpcError:
        return False


def begun(rig: Rig, model: str) -> None:
    """Until a load is on its way: the server is told to load the model."""
    until(lambda: model in rig.server.listed(), "the load is under way")


def test_killed_while_serving_it_begins_empty_and_the_model_is_loaded_again(rig: Rig, client: Client, pixels: list[float]) -> None:
    rig.server.kill()
    # It would load whatever it finds there before it answers anybody.
    until(lambda: not rig.server.listed(), "nothing is listed for its successor")
    rig.server.start()
    until(lambda: serves(client, pixels), "the model answers again")
    assert rig.server.held() == {"ir__isvc-0123456789"}


def test_killed_while_loading_the_load_fails_as_unavailable(rig: Rig) -> None:
    with rig.server.standing_still():
        loading = rig.spi.loadModel.future(load_request("interrupted", "onnx"), timeout=TIMEOUT)
        begun(rig, "interrupted")
        rig.server.kill()
    code, text = failed(loading.result)
    assert code is grpc.StatusCode.UNAVAILABLE, text
    rig.server.start()
    rig.until_serving()
    assert "interrupted" not in rig.server.listed() | rig.server.held()
    assert not list((rig.root / "_ovms_models").glob("interrupted*"))


def test_a_load_on_a_server_that_hangs_ends_by_its_deadline_and_leaves_nothing(rig: Rig) -> None:
    with rig.server.standing_still():
        loading = rig.spi.loadModel.future(load_request("hanging", "onnx"), timeout=TIMEOUT)
        begun(rig, "hanging")
        code, text = failed(loading.result)
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "did not answer POST /v1/config/reload in 2 s" in text
    rig.unload("hanging")
    assert "hanging" not in rig.server.listed() | rig.server.held()


def test_a_caller_that_leaves_gives_the_load_up(rig: Rig) -> None:
    with rig.server.standing_still():
        loading = rig.spi.loadModel.future(load_request("given-up", "onnx"), timeout=TIMEOUT)
        begun(rig, "given-up")
        loading.cancel()
        unloading = rig.spi.unloadModel.future(spi.UnloadModelRequest(modelId="given-up"), timeout=TIMEOUT)
    unloading.result()
    assert "given-up" not in rig.server.listed() | rig.server.held()


def test_an_unload_that_the_server_refuses_is_an_error_and_done_when_it_is_asked_again(rig: Rig) -> None:
    rig.load("stuck")
    with rig.server.standing_still():
        code, text = failed(lambda: rig.unload("stuck"))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert text.startswith("Failed to unload model from OVMS")
    assert (rig.root / "_ovms_models" / "stuck").exists(), "its files are what the server may still read"
    rig.unload("stuck")
    assert "stuck" not in rig.server.listed() | rig.server.held()
    assert not (rig.root / "_ovms_models" / "stuck").exists()


def test_a_wrong_size_is_believed_and_one_that_fits_nowhere_is_not_even_tried(rig: Rig, client: Client) -> None:
    assert rig.load("given", size_bytes=12_345_678).sizeInBytes == 12_345_678
    assert rig.spi.modelSize(spi.ModelSizeRequest(modelId="given"), timeout=TIMEOUT).sizeInBytes == 12_345_678
    rig.unload("given")
    huge = offer(client, "huge", "onnx", size_bytes=1 << 50)
    status = client.ensure(huge, sync=True)
    assert status.status == Status.LOADING_FAILED
    assert "is larger than total effective capacity of" in status.errors[0]
    assert huge not in rig.server.listed()
    assert client.status("ir__isvc-0123456789").status == Status.LOADED
