"""Triton dies, hangs, refuses; models die in it. Nothing may stay loaded or lie around that nobody asked for, and everything heals."""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import model_runtime_pb2 as spi
from tests.integration.triton.rig import NOT_SERVING, TIMEOUT, Rig, failed, load_request
from tests.support.client import Client
from tests.support.waiting import until

SETTINGS = {"UNLOADTIME_TIMEOUT": "1000", "RUNTIME_SILENCE_LIMIT": "3000"}
"""Milliseconds. Short, as every story waits for one of them; an unload that is late for no reason but a busy machine is asked for again."""


@pytest.fixture(scope="module")
def mesh(rig: Rig) -> Iterator[Client]:
    assert rig.router
    with Client.insecure(rig.router.address) as client:
        yield client


def pid(stub: Any, model: str) -> int:
    """The process that a Python model answers from."""
    answer = stub.ModelInfer(v2.ModelInferRequest(model_name=model), timeout=TIMEOUT)
    return int(struct.unpack("<q", answer.raw_output_contents[0])[0])


def test_killed_while_serving_it_serves_again_what_is_asked_for(rig: Rig, mesh: Client) -> None:
    request = load_request("serving", "python")
    mesh.register("serving", "python", kind="python", key=request.modelKey, load=True, sync=True)
    first = pid(mesh.v2, "serving")
    assert first in rig.triton.models()
    rig.triton.kill()
    until(lambda: not rig.triton.models(), "the processes of models end with it", within=TIMEOUT)
    until(lambda: rig.checked() == NOT_SERVING, "the adapter says NOT_SERVING", within=TIMEOUT)
    rig.triton.start()
    rig.until_serving()
    until(lambda: _answers(mesh, "serving"), "the router has it loaded again", within=TIMEOUT)
    assert pid(mesh.v2, "serving") != first
    mesh.unregister("serving")
    until(lambda: not rig.files(), "its files are removed", within=TIMEOUT)


def _answers(mesh: Client, model: str) -> bool:
    try:
        return pid(mesh.v2, model) > 0
    except grpc.RpcError:
        return False


def test_killed_while_loading_the_load_fails_and_the_next_one_does_not(rig: Rig) -> None:
    with rig.held("load"):
        call = rig.spi.loadModel.future(load_request("killed", "python"), timeout=TIMEOUT)
        rig.until_begun("load")
        rig.triton.kill()
        error = call.exception(timeout=TIMEOUT)
        assert isinstance(error, grpc.Call)
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    rig.triton.start()
    rig.until_serving()
    assert rig.files() == set()
    rig.load("killed", "python")
    rig.unload_at_last("killed")


def test_a_server_that_stands_still_fails_the_load_and_counts_as_down(rig: Rig) -> None:
    rig.load("forgotten", "python")
    rig.triton.signal(signal.SIGSTOP)
    try:
        code, _ = failed(lambda: rig.spi.loadModel(load_request("late", "python"), timeout=3))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: rig.checked() == NOT_SERVING, "silence counts as down", within=TIMEOUT)
    finally:
        rig.triton.signal(signal.SIGCONT)
    rig.until_serving()
    assert rig.loaded() == set(), "whoever saw it down takes its models for lost, so they must be"
    assert rig.files() == set()


def test_a_model_that_refuses_to_be_unloaded_is_told_and_unloaded_when_it_can_be(rig: Rig) -> None:
    rig.load("clings", "python")
    with rig.held("unload"):
        code, text = failed(lambda: rig.unload("clings"))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        said = f"Triton at {rig.address} was told to unload model clings, and was UNLOADING after 1 s"
        assert text == f"Failed to unload model from Triton: {said}"
        assert rig.files() != set(), "its files stay as long as it may need them"
    until(lambda: "clings" not in rig.loaded(), "Triton lets it go", within=TIMEOUT)
    rig.unload_at_last("clings")
    assert rig.files() == set()


def test_a_model_that_dies_while_serving_holds_up_nobody_and_can_be_loaded_again(rig: Rig) -> None:
    """Triton neither starts its process again nor ever ends the unload; a new load of the same name works."""
    rig.load("dies", "python")
    first = pid(rig.data, "dies")
    (rig.marks / "die").touch()
    code, text = failed(lambda: pid(rig.data, "dies"))
    (rig.marks / "die").unlink()
    assert code is grpc.StatusCode.INTERNAL
    assert "Stub process" in text
    code, text = failed(lambda: rig.unload("dies"))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert text.endswith("was told to unload model dies, and was UNLOADING after 1 s")
    assert rig.until_ready().status == spi.RuntimeStatusResponse.READY, "a purge does not wait for it for ever"
    assert rig.files() == set()
    rig.load("dies", "python")
    assert pid(rig.data, "dies") != first
    rig.unload_at_last("dies")
    assert rig.files() == set()


def test_a_model_that_dies_while_loading_holds_up_nobody_else(rig: Rig) -> None:
    """Triton waits for such a model for ever; the adapter does not, and a restart of Triton forgets it."""
    rig.repository("suicidal", 'backend: "python"', "1/model.py", b"import os\nos._exit(3)\n")
    code, _ = failed(lambda: rig.spi.loadModel(load_request("suicidal", "suicidal"), timeout=5))
    assert code is grpc.StatusCode.DEADLINE_EXCEEDED
    rig.load("beside", "python")
    assert pid(rig.data, "beside")
    rig.triton.kill()
    until(lambda: rig.checked() == NOT_SERVING, "the adapter says NOT_SERVING", within=TIMEOUT)
    rig.triton.start()
    rig.until_serving()
    assert rig.loaded() == set()
    assert rig.files() == set()


def test_a_load_that_hangs_ends_by_its_deadline_and_is_unloaded_when_it_can_be(rig: Rig) -> None:
    rig.restart_adapter(LOADTIME_TIMEOUT="3000")
    with rig.held("load"):
        code, text = rig.refused("hangs", "python")
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert text == f"Failed to load Model due to Triton runtime error: Triton at {rig.address} did not answer in time"
        assert rig.states()["hangs"] == "LOADING", "Triton cannot give a load up"
        # A router goes on asking until it is gone.
        code, text = failed(lambda: rig.unload("hangs"))
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert text.startswith("Failed to unload model from Triton: ")
    until(lambda: "hangs" not in rig.loaded(), "what it loads at last is unloaded", within=TIMEOUT)
    rig.unload_at_last("hangs")
    assert rig.files() == set()
