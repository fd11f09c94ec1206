"""A mesh whose number of pods follows what they want: calls that pile up bring a pod, calm takes it away; who called what is recorded."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh.local import environments
from mesh.simulation import trace as traces
from tests.integration.local.rig import BODY, EXAMPLES, Shell
from tests.support.waiting import until

pytestmark = [pytest.mark.mlserver, pytest.mark.timeout(400)]

MODEL_ID = "sklearn-mnist__isvc-3c10c62d34"
LONG = 150.0
"""Seconds for a pod to come or go, on a slow machine too."""

QUICK = {"MESH_PODS_SETTLE": "2000", "MESH_PODS_CALM": "4000", "MESH_PODS_CALLS": "1.5", "MESH_PODS_RPM": "1000000"}
"""What takes minutes else; the calls themselves are the only reason for a pod more."""


class Clients:
    """Callers that call again as soon as they have an answer."""

    def __init__(self, port: int) -> None:
        self.port, self.over = port, threading.Event()
        self.answers: list[str] = []
        self._threads = [threading.Thread(target=self._call) for _ in range(4)]

    @contextmanager
    def calling(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in self._threads:
                thread.join()

    def _call(self) -> None:
        body = BODY.read_bytes()
        while not self.over.is_set():
            # A connection each: the kernel gives it to any pod that listens at that moment.
            line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            try:
                line.request("POST", "/v2/models/sklearn-mnist/infer", body)
                answer = line.getresponse().read().decode()
                self.answers.append(str(json.loads(answer).get("outputs", answer)))
            except OSError as error:
                self.answers.append(repr(error))
            finally:
                line.close()


def test_load_brings_a_pod_and_its_end_takes_it_away(mlserver: Path, shell: Shell) -> None:
    environments.ensure("etcd")
    shell.extra = QUICK
    shell.up("--pods", "1..2", "--pvc", f"my-models-pvc={EXAMPLES / 'models'}")
    shell.ok("apply", "-f", str(EXAMPLES / "walkthrough"), "--wait", "60")

    def states(*expected: str) -> Callable[[], bool]:
        return lambda: [one["state"] for one in shell.ask("pods")] == list(expected)

    assert states("ready")()
    clients = Clients(shell.rest)
    with clients.calling():
        until(states("ready", "ready"), "a second pod serves", within=LONG)
        assert "calls run at a time on a pod, with 1.5 aimed at" in log(shell)
        line = shell.ok("get", "pods").splitlines()[-1]
        assert line.startswith("mlserver-1.x: 2 there, ")
        assert " wanted (from 1 to 2): " in line
        file = shell.folder / "calls.csv"
        shell.ok("trace", "record", str(file), "--seconds", "3")
    recorded = traces.read(file)
    assert recorded.models.keys() == {MODEL_ID}
    assert recorded.models[MODEL_ID].size
    assert 0 < len(recorded.accesses) <= len(clients.answers)
    replayed = shell.json("simulate", str(file), "--pods", "2")
    assert (replayed["calls"], replayed["loads"] > 0, replayed["errors"]) == (len(recorded.accesses), True, 0)
    until(states("ready"), "one pod is enough again", within=LONG)
    assert clients.answers
    assert not [answer for answer in clients.answers if "'int64Contents': ['8']" not in answer]
    said = log(shell)
    assert "pod-1 is added, now 2 of 1 to 2 pods: " in said
    assert " hands over its " in said
    assert " has ended, now 1 of 1 to 2 pods" in said
    assert shell.digit() == ["8"]


def log(shell: Shell) -> str:
    """What the mesh told its user."""
    return (shell.data / "logs" / "mesh.log").read_text()
