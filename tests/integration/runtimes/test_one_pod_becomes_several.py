"""A mesh of one pod, with its registry in memory, is given another runtime: it gets an etcd and a pod of each, knows what it knew, and no
call fails meanwhile. The environment that the new pods need is made while the old one serves."""

from __future__ import annotations

import json
import shutil
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.local.rig import EXAMPLES, Shell
from tests.integration.runtimes.rig import MODELS, TIMEOUT
from tests.support import environments
from tests.support.http import plain
from tests.support.waiting import until

LONG = 180.0
"""Seconds for an environment and a pod, on a machine that is slow."""
CUSTOM = EXAMPLES / "custom"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    for name in ("mlserver", "etcd"):
        environments.made(name)
    shell = Shell.fresh(tmp_path)
    try:
        yield shell
    finally:
        shell.hang_up()
        shell.ok("down")


def test_another_runtime_makes_it_several_pods_and_no_call_fails(shell: Shell, tmp_path: Path) -> None:
    claim, image = tmp_path / "models", tmp_path / "centroids"
    shutil.copytree(MODELS, claim)
    shutil.copytree(CUSTOM / "server", image)
    shutil.copy(image / "library" / "iris.json", claim)
    # An environment of its own that is nowhere yet, nor from an earlier run: the packages are those of the Python that runs the mesh.
    (image / "requirements.txt").write_text(f"# nothing from an index, for {uuid.uuid4()}\n")
    (image / "entrypoint").write_text(
        f"#!/bin/sh\npython -c 'import sys; print(sys.prefix)' > {tmp_path}/prefix\nexec {sys.executable} -m centroids\n"
    )
    shell.up("--pvc", f"my-models-pvc={claim}", "--pvc", f"custom-models={claim}", "--image", f"registry.example.com/centroids={image}")
    assert shell.ask("status")["store"] == "memory"
    shell.ok("apply", "-f", str(EXAMPLES / "walkthrough"), "--wait", "60")

    url, body = f"http://127.0.0.1:{shell.rest}/v2/models/", (EXAMPLES / "walkthrough" / "bodies" / "sklearn-mnist.infer.json").read_bytes()
    ended, failures, calls = threading.Event(), list[str](), 0

    def call() -> None:
        nonlocal calls
        while not ended.wait(0.1):
            try:
                answer = plain.post(f"{url}sklearn-mnist/infer", content=body, timeout=TIMEOUT)
                failures.extend([] if answer.status_code == 200 else [answer.text])
            except httpx.HTTPError as error:
                failures.append(repr(error))
            calls += 1

    caller = threading.Thread(target=call)
    caller.start()
    try:
        until(lambda: calls > 0, "a first call")
        shell.ok("apply", "-f", str(CUSTOM / "centroids.yaml"), "-f", str(CUSTOM / "iris.yaml"), "--wait", str(int(LONG)))
        assert "environment image-centroids is made" in (shell.data / "logs" / "mesh.log").read_text()
        until(lambda: [one["name"] for one in shell.ask("pods")] == ["pod-0", "pod-1"], "a pod of each", within=LONG)
        answer = plain.post(f"{url}iris/infer", content=(CUSTOM / "bodies" / "iris.infer.json").read_bytes(), timeout=TIMEOUT)
        assert answer.status_code == 200, answer.text
        seen = calls
        until(lambda: calls > seen + 5, "calls after the change")
    finally:
        ended.set()
        caller.join(TIMEOUT)
    assert failures == []
    assert shell.ask("status")["store"].startswith("etcd:127.0.0.1:")
    prefix = Path((tmp_path / "prefix").read_text().strip())
    assert prefix.name.startswith("image-centroids-")
    assert {one["runtime"] for one in shell.ask("pods")} == {"mlserver-1.x", "centroids"}
    assert json.loads(shell.ok("get", "isvc", "sklearn-mnist", "-o", "json"))["status"]["modelStatus"]["transitionStatus"] == "UpToDate"
    # A mesh that runs makes an environment again that is gone.
    shell.ok("down")
    shutil.rmtree(prefix)
