"""Calls move from one real model to another and back under a steady load through three pods: none is lost, and shares are as asked for."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from mesh.local import environments
from tests.integration.local.rig import BODY, EXAMPLES, Shell
from tests.integration.local.test_rollouts import THREE, document
from tests.support.http import plain
from tests.support.waiting import until

pytestmark = [pytest.mark.mlserver, pytest.mark.timeout(600)]

CALLS = 300
"""In each phase."""
WAIT = ("--wait", "120")


@pytest.fixture
def three(mlserver: Path, tmp_path: Path) -> Iterator[Shell]:
    """Three pods; the service `digits` sees eights."""
    environments.ensure("etcd")
    shell = Shell.fresh(tmp_path)
    models = shell.folder / "models"
    models.mkdir()
    shutil.copy(EXAMPLES / "models" / "mnist-svm.joblib", models / "eight.joblib")
    subprocess.run([mlserver / "bin" / "python", "-c", THREE, models / "three.joblib"], check=True, timeout=120)
    try:
        shell.up("--pods", "3", "--pvc", f"my-models-pvc={models}")
        shell.ok("apply", "-f", "-", *WAIT, typed=document(shell, "eight.joblib"))
        yield shell
    finally:
        shell.hang_up()
        shell.ok("down")


class Load:
    """Callers of each pod that call without a pause; answers are counted by the phase in which their calls began."""

    def __init__(self, doors: list[str]) -> None:
        self._doors, self._over, self._lock = doors, threading.Event(), threading.Lock()
        self.phase = 0
        self.answers: dict[int, Counter[str]] = {}
        self.errors: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._call, args=(door,)) for door in self._doors]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def counted(self) -> Counter[str]:
        """The answers of so many calls that begin from now on."""
        with self._lock:
            self.phase += 1
            found = self.answers[self.phase] = Counter()
        until(lambda: self.errors or found.total() >= CALLS, "enough calls are answered", within=200)
        return found

    def _call(self, door: str) -> None:
        body = BODY.read_bytes()
        with httpx.Client(verify=False, trust_env=False, timeout=60) as client:
            while not self._over.is_set():
                phase = self.phase
                answer = client.post(f"{door}/v2/models/digits/infer", content=body)
                with self._lock:
                    if answer.is_success:
                        self.answers.setdefault(phase, Counter()).update(answer.json()["outputs"][0]["contents"]["int64Contents"])
                    else:
                        self.errors.append(answer.text)


def shown(shell: Shell, shares: dict[int, int]) -> None:
    """Returns when every pod divides calls so."""
    probes = [one["probe"] for one in shell.ask("status")["pods"]]

    def told(probe: str) -> dict[int, int]:
        versions = plain.get(f"{probe}/mesh/v1/aliases/digits", timeout=10).json()["versions"]
        return {one["number"]: one["percent"] for one in versions}

    until(lambda: all(told(probe) == shares for probe in probes), f"all pods know of {shares}")


def test_calls_move_to_a_version_and_back_and_none_is_lost(three: Shell) -> None:
    doors = [one["rest"] for one in three.ask("status")["pods"]]
    assert len(doors) == 3
    load = Load(doors)
    with load.running():
        assert load.counted().keys() == {"8"}
        for percent in (0, 5, 50):
            three.ok("apply", "-f", "-", *WAIT, typed=document(three, "three.joblib", percent))
            three.ok("rollout", "canary", "digits", str(percent), *WAIT)
            shown(three, {1: 100 - percent, 2: percent})
            found, share = load.counted(), percent / 100
            # Six standard deviations: by chance alone once in half a billion runs.
            assert abs(found["3"] - share * found.total()) <= 6 * (found.total() * share * (1 - share)) ** 0.5, found
        three.ok("rollout", "promote", "digits", *WAIT)
        shown(three, {1: 0, 2: 100})
        assert load.counted().keys() == {"3"}
        three.ok("rollout", "undo", "digits", *WAIT)
        shown(three, {1: 100, 2: 0})
        assert load.counted().keys() == {"8"}
    assert load.errors == []
