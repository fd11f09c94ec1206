"""Versions of a service with real models: a canary shares its calls, is promoted, undone and aborted; a broken one changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mesh.core.errors import Failed, Unavailable
from tests.integration.local.rig import BODY, EXAMPLES, Shell
from tests.support.http import plain
from tests.support.waiting import until

pytestmark = [pytest.mark.mlserver, pytest.mark.timeout(300)]

LONG = 120.0
"""Seconds for what starts processes again, on a slow machine too."""

THREE = """
import sys, joblib, numpy
from sklearn.dummy import DummyClassifier
joblib.dump(DummyClassifier(strategy="constant", constant=3).fit(numpy.zeros((2, 64)), [3, 4]), sys.argv[1])
"""
"""A model that sees a three in everything; the walkthrough's sees an eight in the walkthrough's picture."""


@pytest.fixture(scope="module")
def mesh(mlserver: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    shell = Shell.fresh(tmp_path_factory.mktemp("rollouts"))
    models = shell.folder / "models"
    models.mkdir()
    shutil.copy(EXAMPLES / "models" / "mnist-svm.joblib", models / "eight.joblib")
    subprocess.run([mlserver / "bin" / "python", "-c", THREE, models / "three.joblib"], check=True, timeout=120)
    try:
        shell.up("--pvc", f"my-models-pvc={models}")
        yield shell
    finally:
        shell.hang_up()
        shell.ok("down")


@pytest.fixture
def digits(mesh: Shell) -> Iterator[Shell]:
    """A service whose first version sees eights."""
    apply(mesh, "eight.joblib")
    yield mesh
    mesh.ok("delete", "isvc", "digits")
    until(lambda: not mesh.ask("models")["models"], "its models are gone")


def document(shell: Shell, path: str, canary: int | None = None) -> str:
    share = "" if canary is None else f"    canaryTrafficPercent: {canary}\n"
    return shell.service("digits", path).replace("  predictor:\n", f"  predictor:\n{share}")


def apply(shell: Shell, path: str, canary: int | None = None) -> None:
    shell.ok("apply", "-f", "-", "--wait", "120", typed=document(shell, path, canary))


def answers(shell: Shell, calls: int = 40) -> Counter[str]:
    """What the service says; every call has to succeed."""
    found: Counter[str] = Counter()
    for _ in range(calls):
        answer = plain.post(f"http://127.0.0.1:{shell.rest}/v2/models/digits/infer", content=BODY.read_bytes(), timeout=60)
        assert answer.is_success, answer.text
        found.update(answer.json()["outputs"][0]["contents"]["int64Contents"])
    return found


def shares(shell: Shell) -> dict[int, tuple[int, str]]:
    """Share and role by version."""
    return {one["number"]: (one["percent"], one["role"]) for one in shell.json("rollout", "status", "digits")["versions"]}


def refused(shell: Shell, *arguments: str, typed: str | None = None) -> str:
    done = shell.mesh(*arguments, typed=typed)
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_a_canary_shares_the_calls_and_is_promoted_and_undone(digits: Shell) -> None:
    apply(digits, "three.joblib", 50)
    assert set(answers(digits)) == {"3", "8"}, "one of them alone has 40 calls once in 2^39 times"
    assert shares(digits) == {1: (50, "stable"), 2: (50, "canary")}
    assert "canary version 2 has 50 % of the calls" in digits.ok("get", "isvc", "digits", "-o", "wide")
    status = digits.json("get", "isvc", "digits")["status"]["components"]["predictor"]["traffic"]
    assert [(one["latestRevision"], one["percent"]) for one in status] == [(False, 50), (True, 50)]
    assert digits.ok("rollout", "promote", "digits", "--wait", "120") == "inferenceservice/digits: version 2 is to have all calls\n"
    assert answers(digits, 10) == {"3": 10}
    assert shares(digits) == {1: (0, ""), 2: (100, "stable")}
    digits.ok("rollout", "undo", "digits", "--wait", "120")
    assert answers(digits, 10) == {"8": 10}
    digits.ok("rollout", "undo", "digits", "--to", "2", "--wait", "120")
    assert answers(digits, 10) == {"3": 10}
    table = digits.ok("rollout", "history", "digits").splitlines()
    assert [line.split()[:2] for line in table] == [["VERSION", "USE"], ["1", "-"], ["2", "stable"]]
    assert "eight.joblib" in table[1]


def test_a_canary_can_be_a_former_version_and_be_aborted(digits: Shell) -> None:
    apply(digits, "three.joblib")
    digits.ok("rollout", "canary", "digits", "50", "--version", "1", "--wait", "120")
    assert set(answers(digits)) == {"3", "8"}
    digits.ok("rollout", "canary", "digits", "0", "--wait", "120")
    assert answers(digits, 10) == {"3": 10}
    digits.ok("rollout", "abort", "digits", "--wait", "120")
    assert (answers(digits, 10), shares(digits)) == ({"3": 10}, {1: (0, ""), 2: (100, "stable")})


def test_a_canary_that_cannot_load_changes_nothing_for_callers_and_says_why(digits: Shell) -> None:
    told = refused(digits, "apply", "-f", "-", "--wait", "120", typed=document(digits, "nowhere.joblib", 50))
    assert "digits: canary version 2 cannot load, so the stable version has all calls: " in told
    assert "nowhere.joblib" in told
    assert answers(digits, 20) == {"8": 20}
    (service,) = digits.ask("services", name="digits")
    assert (service["ready"], service["state"]) == (True, "Loaded")
    for listing in (("get", "isvc", "digits", "-o", "wide"), ("describe", "isvc", "digits"), ("rollout", "status", "digits")):
        assert "nowhere.joblib" in digits.ok(*listing), listing
    assert "version 2 cannot load: " in refused(digits, "rollout", "promote", "digits", "--wait", "120")
    assert answers(digits, 20) == {"8": 20}
    digits.ok("rollout", "undo", "digits", "--wait", "120")
    assert (answers(digits, 10), shares(digits)) == ({"8": 10}, {1: (100, "stable"), 2: (0, "")})


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (("promote", "digits"), "digits has no canary to promote"),
        (("abort", "digits"), "digits has no canary to abort"),
        (("undo", "digits"), "digits keeps no version before version 1; it keeps 1"),
        (("undo", "digits", "--to", "7"), "digits keeps no version 7; it keeps 1"),
        (("canary", "digits", "10"), "version 1 of digits is the stable one, which has what a canary leaves"),
        (("status", "nothing"), "there is no InferenceService 'nothing'; there are digits"),
    ],
)
def test_what_cannot_be_is_said(digits: Shell, order: tuple[str, ...], said: str) -> None:
    assert said in refused(digits, "rollout", *order)


def as_before(shell: Shell) -> bool:
    with suppress(Failed, Unavailable):
        told = shell.ask("rollouts/digits")
        roles = [(one["percent"], one["role"]) for one in told["versions"]]
        return bool(told["reached"]) and roles == [(50, "stable"), (50, "canary")]
    return False


def test_a_canary_and_what_was_before_it_outlive_the_router_and_the_mesh(digits: Shell) -> None:
    apply(digits, "three.joblib", 50)
    pid = digits.process("router")["pid"]
    os.kill(pid, signal.SIGKILL)

    until(lambda: digits.process("router")["pid"] not in (None, pid), "the router starts again", within=LONG)
    until(lambda: as_before(digits), "the canary is there again", within=LONG)
    assert set(answers(digits)) == {"3", "8"}
    models = digits.folder / "models"
    digits.hang_up()
    digits.ok("down")
    digits.up("--pvc", f"my-models-pvc={models}")
    until(lambda: as_before(digits), "the canary is there after a new start", within=LONG)
    assert set(answers(digits)) == {"3", "8"}
    digits.ok("rollout", "abort", "digits", "--wait", "120")
    assert answers(digits, 10) == {"8": 10}
    assert [one["path"] for one in json.loads(digits.ok("rollout", "history", "digits", "-o", "json"))] == ["eight.joblib", "three.joblib"]


POLICY = """
apiVersion: mesh.kserve.io/v1alpha1
kind: TrafficPolicy
metadata: {name: testers}
spec:
  service: digits
  rules:
  - match: [{headers: {x-group: testers}}]
    to: [{version: VERSION}]
"""


def seen_by_testers(shell: Shell) -> list[str]:
    url = f"http://127.0.0.1:{shell.rest}/v2/models/digits/infer"
    answer = plain.post(url, content=BODY.read_bytes(), headers={"Grpc-Metadata-X-Group": "testers"}, timeout=60)
    return list(answer.json()["outputs"][0]["contents"]["int64Contents"])


def test_a_policy_of_a_document_sends_some_callers_elsewhere_as_long_as_it_is_there(digits: Shell) -> None:
    told = digits.ok("apply", "-f", "-", typed=POLICY.replace("VERSION", "2"))
    assert "rules[0].to[0].version: service digits keeps no version 2; it keeps 1" in told
    assert "refused" in digits.ok("get", "trafficpolicies")
    apply(digits, "three.joblib")
    until(lambda: "in force" in digits.ok("get", "trafficpolicy", "testers"), "its version is there now")
    digits.ok("apply", "-f", "-", typed=POLICY.replace("VERSION", "1"))
    until(lambda: seen_by_testers(digits) == ["8"], "their version serves")
    assert answers(digits, 10) == {"3": 10}
    for listing in (("rollout", "status", "digits"), ("describe", "trafficpolicy", "testers")):
        assert '1: {"headers": {"x-group": {"exact": "testers"}}} -> 100 % version 1' in digits.ok(*listing), listing
    digits.ok("delete", "trafficpolicy", "testers")
    until(lambda: seen_by_testers(digits) == ["3"], "there is no policy")
