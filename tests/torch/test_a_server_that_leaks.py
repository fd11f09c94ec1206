"""A TorchServe whose models leave processes behind: it shows, and it begins anew with all of them ended, without a failed call.

What a handler keeps in its worker is freed when the model is unloaded, because the worker ends. What leaks is what a worker started: nobody
ends that, and nobody is its parent any more.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
import httpx
import pytest

from mesh.protocols import inference_pb2 as v2
from mesh.protocols import model_mesh_pb2 as mm
from tests.integration.pods.traffic import traffic
from tests.support.client import Client, Status
from tests.support.waiting import until
from tests.torch.rig import LEFT_BEHIND, LIMIT, LOADS, TIMEOUT, Rig, infer, key_of

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is told on Linux only"),
]

ROUNDS = 100
LONG = 300.0
"""Seconds for what takes a while, on a slow machine too: a TorchServe that starts, and a worker of it that imports torch."""


@pytest.fixture(scope="module")
def client(rig: Rig) -> Iterator[Client]:
    """With a model that serves."""
    assert rig.router
    with Client.insecure(rig.router.address) as client:
        client.register("stays", "says.mar", kind="pytorch-mar", key=key_of())
        assert infer(client, "stays", ("text", "BYTES", [1], [b"number"]), timeout=LONG).outputs[0].contents.int64_contents == [7]
        yield client


def memory(rig: Rig) -> dict[str, Any]:
    """As `mesh explain pod` has it."""
    assert rig.router
    told: dict[str, Any] = httpx.get(f"http://127.0.0.1:{rig.router.ports['probe']}/mesh/v1/pod", timeout=TIMEOUT).json()["memory"]
    return told


def play(client: Client, *names: str, archive: str = "leaves") -> None:
    """A round of each: they are loaded side by side, and then unloaded."""

    def load(name: str) -> None:
        info = mm.ModelInfo(type="pytorch-mar", path=f"{archive}.mar", key=key_of())
        status = client.mesh.registerModel(mm.RegisterModelRequest(modelId=name, modelInfo=info, loadNow=True, sync=True), timeout=LONG)
        assert status.status == Status.LOADED, status

    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(load, names))
        list(pool.map(client.unregister, names))


def test_a_hundred_rounds_that_leave_processes_behind_show_and_it_begins_anew_without_a_failed_call(rig: Rig, client: Client) -> None:
    for first in range(0, ROUNDS, LOADS):
        play(client, *(f"leaves-{first + number}" for number in range(LOADS)))

    def seen() -> bool:
        """On a machine that looks at memory less often than every few rounds it takes some more."""
        told = memory(rig)
        if told["state"] == "growing" and told["unused_bytes"] >= ROUNDS * LEFT_BEHIND:
            return True
        play(client, "leaves-more")
        return False

    until(seen, "the leak to show", within=LONG)
    assert memory(rig)["unused_bytes"] < LIMIT
    assert memory(rig)["recycled"] == 0
    assert len(rig.torchserve.left_behind()) >= ROUNDS
    assert rig.router

    def ended() -> bool:
        """With the last round a step of the trend may have been over that shows no growth by chance: it takes some more then."""
        if not rig.torchserve.ended and memory(rig)["state"] == "steady":
            play(client, "gush-more")
        return rig.torchserve.ended

    with traffic([rig.router.address], ["stays"], callers=2, ask=seven) as calls:
        calls.reaches(10)
        play(client, "gushes", archive="gushes")
        until(ended, "it is ended", within=LONG)
        until(lambda: not rig.torchserve.left_behind(), "all that was left behind is ended, too", within=LONG)
        rig.torchserve.start()
        until(lambda: memory(rig).get("recycled"), "it is known to have begun anew", within=LONG)
        calls.reaches(10)
    assert calls.failures == []
    assert rig.registered() == {"stays"}


async def seven(channel: grpc.aio.Channel, model: str) -> None:
    """A call now and then; its deadline allows for the start of a server."""
    call: grpc.aio.UnaryUnaryMultiCallable[v2.ModelInferRequest, v2.ModelInferResponse] = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
    )
    request = v2.ModelInferRequest(model_name=model)
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"number")
    assert list((await call(request, timeout=LONG)).outputs[0].contents.int64_contents) == [7]
    await asyncio.sleep(0.05)
