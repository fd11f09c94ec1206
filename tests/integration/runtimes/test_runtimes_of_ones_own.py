"""Documents of runtimes start pods in a mesh that runs: of a server that speaks for itself, with the puller before it and without, and
of the walkthrough's runtime with a class of its author's; what changes is rolled out while calls go on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mesh.protocols import inference_pb2 as v2
from tests.integration.local.rig import EXAMPLES, Shell
from tests.integration.runtimes.rig import TIMEOUT, isvc
from tests.support.client import Client
from tests.support.http import plain
from tests.support.waiting import until

LONG = 180.0
"""Seconds for a pod to be started, on a machine that is slow."""
CUSTOM = EXAMPLES / "custom"
IMAGE = "registry.example.com/peft-model-server"
FLOWERS = [5.1, 3.5, 1.4, 0.2, 6.0, 2.7, 4.2, 1.3, 6.7, 3.0, 5.6, 2.1]

TELLER = """
import os
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceResponse

class Teller(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        said = [os.environ["PRETRAINED_MODEL_PATH"], os.environ["FROM_THE_IMAGE"]]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("said", said)])
"""
ENTRYPOINT = """#!/bin/sh
export MLSERVER_MODEL_IMPLEMENTATION=teller.Teller FROM_THE_IMAGE=yes
exec "$@"
"""


def labels(client: Client, name: str) -> list[str]:
    request = v2.ModelInferRequest(model_name=name)
    request.inputs.add(name="rows", datatype="FP64", shape=[3, 4]).contents.fp64_contents.extend(FLOWERS)
    answer = client.v2.ModelInfer(request, timeout=TIMEOUT)
    return [label.decode() for label in answer.outputs[0].contents.bytes_contents]


def runtime(mesh: Shell, name: str) -> Any:
    return next((one for one in mesh.ask("runtimes") if one["name"] == name), None)


def pods(mesh: Shell, name: str) -> list[Any]:
    return [one for one in mesh.ask("pods") if one["runtime"] == name]


@contextmanager
def gone_afterwards(mesh: Shell, services: tuple[str, ...], *runtimes: str) -> Iterator[None]:
    try:
        yield
    finally:
        mesh.mesh("delete", "isvc", *services)
        for name in runtimes:
            mesh.mesh("delete", "servingruntime", name)
        until(lambda: not any(pods(mesh, name) for name in runtimes), f"no pod of {runtimes} is left", within=LONG)


@pytest.fixture(scope="module")
def centroids(mesh: Shell) -> Iterator[Shell]:
    """The example's two runtimes and services applied."""
    with gone_afterwards(mesh, ("iris", "iris-library"), "centroids", "centroids-library"):
        mesh.ok("apply", "-f", str(CUSTOM), "--wait", str(int(LONG)))
        yield mesh


def test_a_server_of_ones_own_serves_with_the_puller_before_it_and_without(centroids: Shell, client: Client) -> None:
    for name in ("iris", "iris-library"):
        assert labels(client, name) == ["setosa", "versicolor", "virginica"]
    processes = {name: [one["name"] for one in pods(centroids, name)[0]["processes"]] for name in ("centroids", "centroids-library")}
    assert [one.rpartition("/")[2] for one in processes["centroids"]] == ["centroids", "puller", "router"]
    assert [one.rpartition("/")[2] for one in processes["centroids-library"]] == ["centroids", "router"]
    (pulled,) = (centroids.data / "models" / pods(centroids, "centroids")[0]["name"]).glob("iris__isvc-*/iris.json")
    assert json.loads(pulled.read_text()).keys() == {"setosa", "versicolor", "virginica"}
    found = runtime(centroids, "centroids")
    # Its capacity is what the server itself tells.
    assert (found["server"], found["health"], found["capacityBytes"], found["models"]) == ("own", "ready", 64 << 20, 1)
    assert found["formats"] == ["centroids:1"]


def test_a_servers_own_words_reach_whoever_made_the_mistake(centroids: Shell) -> None:
    url = f"http://127.0.0.1:{centroids.rest}/v2/models/iris/infer"
    body = {"inputs": [{"name": "rows", "datatype": "FP64", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}]}
    answer = plain.post(url, json=body, timeout=TIMEOUT)
    assert answer.status_code == 400
    assert "input 'rows' has to be of shape [rows, 4]" in answer.text
    centroids.ok("apply", "-f", "-", typed=isvc("no-centroids", "centroids", "mushroom.json", claim="custom-models"))
    try:
        until(lambda: "is no model of centroids" in centroids.ask("services", name="no-centroids")[0]["message"], "the server's refusal")
    finally:
        centroids.ok("delete", "isvc", "no-centroids")


def test_another_image_replaces_the_pods_and_no_call_fails(centroids: Shell, client: Client) -> None:
    before = pods(centroids, "centroids-library")[0]["name"]
    library = centroids.folder / "centroids" / "library" / "iris.json"
    ended, failures, calls = threading.Event(), list[str](), 0

    def call() -> None:
        nonlocal calls
        with Client.insecure(f"127.0.0.1:{centroids.grpc}") as other:
            while not ended.wait(0.05):
                try:
                    labels(other, "iris-library")
                    calls += 1
                except Exception as error:
                    failures.append(str(error))

    caller = threading.Thread(target=call)
    caller.start()
    try:
        until(lambda: calls > 0, "a first call")
        library.write_text(library.read_text().replace("setosa", "iris setosa"))
        centroids.ok("image", "set", f"registry.example.com/centroids={centroids.folder / 'centroids'}")
        until(lambda: labels(client, "iris-library")[0] == "iris setosa", "the new pod serves", within=LONG)
        until(lambda: [one["name"] for one in pods(centroids, "centroids-library")] != [before], "the old pod has ended", within=LONG)
        until(lambda: runtime(centroids, "centroids")["pods"]["outdated"] == 0, "all pods are of the new image", within=LONG)
    finally:
        ended.set()
        caller.join(TIMEOUT)
    assert failures == []


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A folder that stands for the walkthrough's image: a class of MLServer's, with its environment."""
    folder = tmp_path / "peft-model-server"
    folder.mkdir()
    (folder / "teller.py").write_text(TELLER)
    (folder / "environment").write_text("mlserver\n")
    (folder / "entrypoint").write_text(ENTRYPOINT)
    (folder / "entrypoint").chmod(0o755)
    return folder


def test_the_walkthroughs_runtime_waits_for_its_image_and_runs_the_class_that_is_in_it(mesh: Shell, client: Client, image: Path) -> None:
    document = (EXAMPLES / "peft" / "peft-model-server.yaml").read_text()
    with gone_afterwards(mesh, ("told",), "peft-model-server"):
        said = mesh.ok("apply", "-f", "-", typed=document + isvc("told", "peft-model", "mushroom.json"))
        assert f"image {IMAGE}:latest: no folder here stands for it" in said
        found = runtime(mesh, "peft-model-server")
        assert (found["health"], found["pods"]["there"]) == ("blocked", 0)
        waiting = until(lambda: mesh.ask("services", name="told")[0]["message"], "why it waits")
        assert "peft-model-server takes it and cannot run: image " in waiting
        assert f"mesh image set {IMAGE}:latest=DIR" in waiting

        mesh.ok("image", "set", f"{IMAGE}={image}")
        until(lambda: runtime(mesh, "peft-model-server")["health"] == "ready", "its pod", within=LONG)
        answer = client.v2.ModelInfer(v2.ModelInferRequest(model_name="told"), timeout=TIMEOUT)
        assert list(answer.outputs[0].contents.bytes_contents) == [b"bigscience/bloomz-560m", b"yes"]
        found = runtime(mesh, "peft-model-server")
        assert found["capacityBytes"] == (4 << 30) - 134217728
        assert any(note.startswith("env MLSERVER_GRPC_PORT, MLSERVER_HTTP_PORT") for note in found["notes"])

        other = document.replace("bigscience/bloomz-560m", "another/model")
        lines = mesh.ok("apply", "-f", "-", typed=other).splitlines()
        assert lines[1] == "  its pods are replaced one after another"
        assert sum(line.startswith("  env MLSERVER_") and "is not taken over" in line for line in lines[2:]) == len(lines[2:]) > 1
        until(lambda: runtime(mesh, "peft-model-server")["pods"]["outdated"] == 0, "pods with the new variable", within=LONG)
        until(lambda: len(pods(mesh, "peft-model-server")) == 1, "the old one has ended", within=LONG)
        again = mesh.ok("apply", "-f", "-", typed=other)
        assert "unchanged" in again
        assert "no pods" not in again
        answer = client.v2.ModelInfer(v2.ModelInferRequest(model_name="told"), timeout=TIMEOUT)
        assert answer.outputs[0].contents.bytes_contents[0] == b"another/model"
    mesh.ok("image", "remove", IMAGE)
