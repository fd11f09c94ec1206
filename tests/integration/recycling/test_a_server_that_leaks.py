"""A pod with a real MLServer whose models leak: `mesh explain` shows it, and on request the server begins anew without a failed call.

How several pods take turns and serve each other's models meanwhile is in tests/simulation/test_recycling.py.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc.aio
import pytest

from mesh.local import environments
from mesh.protocols import inference_pb2 as v2
from tests.integration.local.rig import Shell
from tests.integration.models.stack import MODELS, digit_of, digit_request
from tests.integration.pods.traffic import traffic
from tests.support.client import Client
from tests.support.waiting import until

pytestmark = [
    pytest.mark.mlserver,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="memory of processes is told on Linux only"),
]

MIB = 1 << 20
ROUNDS = 100
LEAK = 3 * MIB
"""Bytes that each of the rounds leaks: all together more than what MLServer imports with its first models, some 76 MiB."""
LIMIT = 600 * MIB
"""More than the rounds leak, and half as many more."""
LONG = 180.0
"""Seconds for what takes a while, on a slow machine too."""
AT_A_TIME = 4

LEAKING = f"""
import os, sys
from mlserver import MLModel

# MLServer imports this module anew for each load, so what is to outlive it hangs on another one.
kept = sys.__dict__.setdefault("_leaked", [])

class Leaking(MLModel):
    async def load(self):
        kept.append(bytearray(os.urandom(1)) * ({LIMIT} if "gush" in self.name else {LEAK}))
        return True
"""
KEY = {"storage_params": {"type": "pvc", "name": "my-models-pvc"}}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    environments.ensure("mlserver")
    shell = Shell.fresh(tmp_path_factory.mktemp("leaking"))
    shell.extra = {"MESH_RECYCLE_RUNTIME": str(LIMIT), "MESH_RUNTIME_MEMORY_INTERVAL_MS": "200"}
    models = shell.folder / "models"
    models.mkdir()
    shutil.copy(MODELS / "mnist-svm.joblib", models)
    leaking = models / "leaking"
    leaking.mkdir()
    (leaking / "leaking.py").write_text(LEAKING)
    (leaking / "model-settings.json").write_text(json.dumps({"name": "any", "implementation": "leaking.Leaking"}))
    try:
        shell.up("--pvc", f"my-models-pvc={models}")
        yield shell
    finally:
        shell.hang_up()
        shell.ok("down")


@pytest.fixture(scope="module")
def pod(shell: Shell) -> str:
    (pod,) = shell.ask("status")["pods"]
    return str(pod["name"])


@pytest.fixture(scope="module")
def client(shell: Shell) -> Iterator[Client]:
    """With a model of digits that serves."""
    with Client.insecure(f"127.0.0.1:{shell.grpc}") as client:
        client.register("digits", "mnist-svm.joblib", kind="mt:sklearn", key=json.dumps({**KEY, "model_type": {"name": "sklearn"}}))
        # The first one of its kind takes as long as MLServer takes to import what it needs.
        assert digit_of(client.v2.ModelInfer(digit_request("digits"), timeout=LONG)) == 8
        yield client


def memory(shell: Shell, pod: str) -> dict[str, Any]:
    told: dict[str, Any] = shell.ask("explain", name=pod, kind="pod", limit="1")["views"][pod]["figures"]["memory"]
    return told


def server(shell: Shell) -> int:
    """The process of the pod's MLServer."""
    (pid,) = (one["pid"] for one in shell.ask("status")["processes"] if one["name"].endswith("mlserver"))
    return int(pid)


def play(client: Client, name: str) -> None:
    """One round: a model is loaded and unloaded."""
    client.loaded(name, "leaking", kind="mt:sklearn", key=json.dumps(KEY))
    client.unregister(name)


async def eight(channel: grpc.aio.Channel, model: str) -> None:
    """A call now and then; its deadline allows for the start of a server."""
    call: grpc.aio.UnaryUnaryMultiCallable[v2.ModelInferRequest, v2.ModelInferResponse] = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString
    )
    assert digit_of(await call(digit_request(model), timeout=LONG)) == 8
    await asyncio.sleep(0.02)


def test_a_hundred_rounds_that_leak_show_as_held_but_not_used(shell: Shell, pod: str, client: Client) -> None:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(lambda number: play(client, f"leaking-{number}"), range(ROUNDS)))

    def seen() -> dict[str, Any] | None:
        """On a machine that looks at memory less often than every few rounds it takes some more."""
        told = memory(shell, pod)
        if told["state"] == "growing" and told["unused_bytes"] >= ROUNDS * LEAK:
            return told
        play(client, "leaking-more")
        return None

    told = until(seen, "the leak to show", within=LONG)
    assert told is not None
    assert told["unused_bytes"] < LIMIT
    assert told["recycled"] == 0
    text = shell.ok("explain", pod)
    assert "held but not used" in text
    assert "leaks memory" in text


def test_beyond_the_limit_the_server_begins_anew_and_no_call_fails(shell: Shell, pod: str, client: Client) -> None:
    def recycled() -> bool:
        """With the last round a step of the trend may have been over that shows no growth by chance: it takes some more then."""
        told = memory(shell, pod)
        if not told.get("recycled") and told.get("state") == "steady":
            play(client, "leaking-more")
        return bool(told.get("recycled"))

    before = server(shell)
    with traffic([f"127.0.0.1:{shell.grpc}"], ["digits"], callers=4, ask=eight) as calls:
        calls.reaches(10)
        play(client, "gush")
        until(recycled, "the server to have begun anew", within=LONG)
        calls.reaches(10)
    assert calls.failures == []
    assert server(shell) != before
    assert "Model server recycled lately (1)" in shell.ok("explain", pod)
    until(lambda: memory(shell, pod)["unused_bytes"] < LIMIT, "the new server to be measured", within=LONG)
