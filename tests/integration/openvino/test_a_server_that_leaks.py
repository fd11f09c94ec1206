"""An OpenVINO Model Server (the stand-in) that keeps memory of each model: it shows, and the server begins anew without a failed call."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc.aio
import pytest

from mesh.protocols import inference_pb2 as v2
from tests.integration.openvino.rig import KINDS, Rig, digit_request, key_of, offer
from tests.integration.pods.traffic import traffic
from tests.support.client import Client
from tests.support.waiting import until

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is told on Linux only"),
]

MIB = 1 << 20
ROUNDS = 100
AT_A_TIME = 4
LEAK = 2 * MIB
"""Bytes that each round leaks."""
LIMIT = 500 * MIB
"""More than the rounds leak, half as many more, and what the runtime takes with its first models."""
ROUTER = {"MESH_RUNTIME_MEMORY_INTERVAL_MS": "200", "MESH_RECYCLE_RUNTIME": str(LIMIT)}
LONG = 180.0
"""Seconds for what takes a while, on a slow machine too."""


@pytest.fixture(scope="module")
def client(rig: Rig, pixels: list[float]) -> Iterator[Client]:
    """With a model of digits that serves."""
    with Client.insecure(rig.router.address) as client:
        offer(client, "ir", "ir")
        assert client.v2.ModelInfer(digit_request("ir", pixels), timeout=LONG).raw_output_contents
        yield client


def play(client: Client, name: str) -> None:
    """One round: a model is loaded and unloaded."""
    client.loaded(name, KINDS["onnx"][0], kind="onnx", key=key_of("onnx"))
    client.unregister(name)


def test_a_hundred_rounds_that_leak_show_and_it_begins_anew_on_request_without_a_failed_call(
    rig: Rig, client: Client, pixels: list[float]
) -> None:
    rig.leaks(LEAK)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: play(client, f"leaking-{number}"), range(ROUNDS)))

    def seen() -> bool:
        """On a machine that looks at memory less often than every few rounds it takes some more."""
        told = rig.memory()
        if told["state"] == "growing" and told["unused_bytes"] >= ROUNDS * LEAK:
            return True
        play(client, "leaking-more")
        return False

    until(seen, "the leak to show", within=LONG)
    assert rig.memory()["unused_bytes"] < LIMIT
    assert rig.memory()["recycled"] == 0

    def ended() -> bool:
        """With the last round a step of the trend may have been over that shows no growth by chance: it takes some more then."""
        if not rig.server.ended and rig.memory()["state"] == "steady":
            play(client, "gush-more")
        return rig.server.ended

    async def ring(channel: grpc.aio.Channel, model: str) -> None:
        """A call now and then; its deadline allows for the start of a server."""
        call: grpc.aio.UnaryUnaryMultiCallable[v2.ModelInferRequest, v2.ModelInferResponse] = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
        )
        assert len((await call(digit_request(model, pixels), timeout=LONG)).raw_output_contents) == 1
        await asyncio.sleep(0.02)

    with traffic([rig.router.address], ["ir"], callers=4, ask=ring) as calls:
        calls.reaches(10)
        rig.leaks(LIMIT)
        play(client, "gush")
        rig.leaks(0)
        until(ended, "it is ended", within=LONG)
        rig.server.start()
        until(lambda: rig.memory().get("recycled"), "it is known to have begun anew", within=LONG)
        calls.reaches(10)
    assert calls.failures == []
    assert rig.server.held() == {"ir__isvc-0123456789"}
