"""What a Triton holds counts the processes of its models, it ends with all of them, and begins anew when one of them leaks."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from mesh.manifests.runtimes import dataplane_config
from mesh.protocols import inference_pb2 as v2
from mesh.protocols import runtime_process_pb2 as pb
from mesh.protocols import runtime_process_pb2_grpc as pb_grpc
from tests.integration.pods.traffic import traffic
from tests.integration.triton.rig import NOT_SERVING, PYTHON_CONFIG, TIMEOUT, Rig, key_of
from tests.support.client import Client
from tests.support.http import plain
from tests.support.mesh import RouterProcess
from tests.support.waiting import until

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is told on Linux only"),
]

ROUTER = False
MIB = 1 << 20
ROUNDS = 100
AT_A_TIME = 4
LEAK = 3 * MIB
"""Bytes that each round leaks."""
LIMIT = 700 * MIB
"""More than the rounds leak, half as many more, and what the processes of some models take."""
KEEPS = b"""
import os
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.kept = []

    def execute(self, requests):
        self.kept += [bytearray(os.urandom(1)) * int(request.request_id()) for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("pid", np.array([os.getpid()], np.int64))]) for _ in requests]
"""
"""A model that keeps as many bytes of each call as its id says."""
STEPS = """
platform: "ensemble"
input [{ name: "none" data_type: TYPE_INT64 dims: [1] }]
output [{ name: "pid" data_type: TYPE_INT64 dims: [1] }]
ensemble_scheduling { step [{
  model_name: "keeps" model_version: -1 input_map { key: "none" value: "none" } output_map { key: "pid" value: "pid" }
}] }
"""
"""A model that is made of that one: no process, so it is loaded at once."""


def test_it_is_measured_with_its_models_processes_and_ended_with_them(rig: Rig) -> None:
    process = pb_grpc.RuntimeProcessStub(rig._channels[0])
    empty = process.Memory(pb.MemoryRequest(), timeout=TIMEOUT)
    assert not empty.unknown
    rig.load("first", "python")
    rig.load("second", "python")
    assert len(rig.triton.models()) == 2
    loaded = process.Memory(pb.MemoryRequest(), timeout=TIMEOUT)
    assert loaded.process == empty.process
    assert loaded.held_bytes - empty.held_bytes > 2 * MIB, "each is a Python of its own"

    process.Recycle(pb.RecycleRequest(), timeout=TIMEOUT)
    assert rig.triton.models() == set()
    until(lambda: rig.checked() == NOT_SERVING, "the adapter says NOT_SERVING", within=TIMEOUT)
    rig.triton.kill()  # takes leave of what has ended
    rig.triton.start()
    rig.until_serving()
    assert process.Memory(pb.MemoryRequest(), timeout=TIMEOUT).process != empty.process
    assert rig.loaded() == set()
    assert rig.files() == set()


@pytest.fixture
def router(rig: Rig, tmp_path: Path) -> Iterator[RouterProcess]:
    """One that has a leaking Triton begin anew."""
    settings = {
        "INTERNAL_GRPC_PORT": rig._variables["ADAPTER_PORT"],
        "INTERNAL_SERVING_GRPC_PORT": rig.address.rpartition(":")[2],
        "MM_DATAPLANE_CONFIG": json.dumps(dataplane_config()),
        "MESH_RUNTIME_MEMORY_INTERVAL_MS": "200",
        "MESH_RECYCLE_RUNTIME": str(LIMIT),
    }
    router = RouterProcess(tmp_path, settings, ready=False)
    try:
        router.await_ready(TIMEOUT)
        yield router
    finally:
        router.process.stop(5)


def memory(router: RouterProcess) -> dict[str, Any]:
    told: dict[str, Any] = plain.get(f"http://127.0.0.1:{router.ports['probe']}/mesh/v1/pod", timeout=TIMEOUT).json()["memory"]
    return told


def test_a_hundred_rounds_that_leak_show_and_it_begins_anew_on_request_without_a_failed_call(rig: Rig, router: RouterProcess) -> None:
    rig.repository("keeps", PYTHON_CONFIG + 'input [{ name: "none" data_type: TYPE_INT64 dims: [1] }]', "1/model.py", KEEPS)
    rig.repository("steps", STEPS, "1/none", b"")
    with Client.insecure(router.address) as mesh:
        mesh.register("keeps", "keeps", kind="python", key=key_of("python"))

        def keep(size: int, model: str = "keeps") -> None:
            mesh.v2.ModelInfer(request(model, size), timeout=TIMEOUT)

        def play(name: str) -> None:
            """One round: a model is loaded, leaks with its call, and is unloaded."""
            mesh.register(name, "steps", kind="ensemble", key=key_of("ensemble"))
            keep(LEAK, name)
            mesh.unregister(name)

        keep(0)

        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(lambda number: play(f"round-{number}"), range(ROUNDS)))

        def seen() -> bool:
            """On a machine that looks at memory less often than every few rounds it takes some more."""
            told = memory(router)
            if told["state"] == "growing" and told["unused_bytes"] >= ROUNDS * LEAK:
                return True
            play("round-more")
            return False

        until(seen, "the leak to show", within=2 * TIMEOUT)
        assert memory(router)["recycled"] == 0
        with traffic([router.address], ["keeps"], callers=2, ask=nothing_kept) as calls:
            calls.reaches(10)
            keep(LIMIT)
            until(lambda: rig.triton.ended, "it is ended", within=TIMEOUT)
            assert rig.triton.models() == set()
            rig.triton.kill()
            rig.triton.start()
            until(lambda: memory(router).get("recycled"), "it is known to have begun anew", within=TIMEOUT)
            calls.reaches(10)
        assert calls.failures == []
    assert rig.loaded() == {"keeps"}


async def nothing_kept(channel: grpc.aio.Channel, model: str) -> None:
    """A call now and then; its deadline allows for the start of a server."""
    call: grpc.aio.UnaryUnaryMultiCallable[v2.ModelInferRequest, v2.ModelInferResponse] = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
    )
    assert (await call(request(model, 0), timeout=TIMEOUT)).outputs
    await asyncio.sleep(0.02)


def request(model: str, kept: int) -> v2.ModelInferRequest:
    asked = v2.ModelInferRequest(model_name=model, id=str(kept))
    asked.inputs.add(name="none", datatype="INT64", shape=[1]).contents.int64_contents.append(0)
    return asked
