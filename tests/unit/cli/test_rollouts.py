"""`mesh rollout` as people and programs read it; whoever waits is told why it does not come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mesh.cli import policies, rollout
from mesh.cli.app import commands
from mesh.cli.client import Control
from mesh.core.errors import Unknown


def version(number: int, percent: int, role: str, word: str = "resident", why: str | None = None) -> dict[str, Any]:
    told = {"status_word": word, "status": {"since_ms": None, "retry_at_ms": None, "why": why}}
    return {"number": number, "model": f"a__isvc-{number}", "percent": percent, "role": role, **told, "copies": 1 - bool(why), "at": 0}


def told(*versions: dict[str, Any], **more: Any) -> dict[str, Any]:
    base = {"name": "a", "kind": "InferenceService", "model": "a__isvc-2", "canaryPercent": 10, "policy": {}, "blocked": "", "history": []}
    return {**base, "versions": list(versions), "reached": True, "trouble": "", **more}


RUNNING = told(version(1, 90, "stable"), version(2, 10, "canary"))
FAILING = told(
    version(1, 90, "stable"),
    version(2, 10, "canary", "failing", "no such file"),
    reached=False,
    trouble="canary version 2 cannot load: no such file",
)


class Mesh:
    """What the control socket answers, one after the other; the last one for good."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.answers = list(answers)
        self.posted: list[Any] = []

    def get(self, path: str, **_: Any) -> Any:
        assert path == "rollouts/a"
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def post(self, path: str, body: Any) -> Any:
        assert path == "rollouts/a"
        self.posted.append(body)
        share = body.get("percent")
        return {"name": "a", "kind": "InferenceService", "change": "configured", "model": "a__isvc-2", "version": 2, "percent": share}


def mesh(monkeypatch: pytest.MonkeyPatch, there: Mesh, *arguments: str) -> Result:
    monkeypatch.setattr(Control, "find", lambda _: there)
    return CliRunner().invoke(commands("rollout"), ["rollout", *arguments])


def test_versions_are_a_table_and_reasons_have_lines_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [{"name": "testers", "match": [{"headers": {"x": {"exact": "y"}}}], "to": [{"version": 2, "weight": 100}]}]
    policy = {"rules": rules, "default": {"to": [{"version": "stable", "weight": 60}, {"version": 2, "weight": 40}], "sticky": "x-user"}}
    assert mesh(monkeypatch, Mesh({**FAILING, "policy": policy}), "status", "a").stdout == (
        "VERSION   CALLS   ROLE     STATE      COPIES   SINCE   MODEL\n"
        "1         90 %    stable   resident   1        -       a__isvc-1\n"
        "2         10 %    canary   failing    0        -       a__isvc-2\n"
        "Version 2 is failing: no such file\n"
        "Rules, of which the first that fits decides:\n"
        '  testers: {"headers": {"x": {"exact": "y"}}} -> 100 % version 2\n'
        "Default: 60 % stable, 40 % version 2, by the header x-user\n"
        "The canary's share goes before the policy's default.\n"
    )


def test_what_is_under_way_and_what_was_refused_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    loading = told(version(1, 90, "stable"), version(2, 10, "canary", "on demand"), reached=False)
    assert "Under way: version 2: not resident, will load on demand\n" in mesh(monkeypatch, Mesh(loading), "status", "a").stdout
    assert "Under way: not written to the registry yet\n" in mesh(monkeypatch, Mesh(told(reached=False)), "status", "a").stdout
    refused = told(version(1, 100, "stable"), reached=False, trouble="another owner's")
    assert mesh(monkeypatch, Mesh(refused), "status", "a").stdout.endswith("another owner's\n")


def test_a_history_tells_what_versions_are_of(monkeypatch: pytest.MonkeyPatch) -> None:
    one: dict[str, Any] = {
        "version": None,
        "model": "m",
        "format": "sklearn",
        "runtime": "",
        "storageKey": "",
        "storageParameters": {},
        "path": "x",
        "at": 0,
    }
    two = {**one, "version": 2, "runtime": "mine", "storageKey": "minio", "storageParameters": {"bucket": "b"}, "role": "stable"}
    there = Mesh({**RUNNING, "history": [{**one, "role": ""}, two]})
    assert mesh(monkeypatch, there, "history", "a").stdout == (
        "VERSION   USE      FORMAT           STORAGE           PATH   APPLIED   MODEL\n"
        "-         -        sklearn          default           x      -         m\n"
        "2         stable   sklearn (mine)   minio, bucket=b   x      -         m\n"
    )
    assert [one["version"] for one in json.loads(mesh(monkeypatch, there, "history", "a", "-o", "json").stdout)] == [None, 2]
    assert mesh(monkeypatch, there, "history", "a", "-o", "name").stdout == "inferenceservice/a\n"


@pytest.mark.parametrize(
    ("arguments", "posted", "said"),
    [
        (["canary", "a", "10"], {"action": "canary", "percent": 10, "version": None}, "version 2 is to have 10 % of the calls"),
        (["canary", "a", "5", "--version", "1"], {"action": "canary", "percent": 5, "version": 1}, "version 2 is to have 5 % of the calls"),
        (["promote", "a"], {"action": "promote"}, "version 2 is to have all calls"),
        (["abort", "a"], {"action": "abort"}, "version 2 is to have all calls"),
        (["undo", "a", "--to", "2"], {"action": "undo", "to": 2}, "version 2 is to have all calls"),
    ],
)
def test_what_is_asked_for_is_posted_and_answered(monkeypatch: pytest.MonkeyPatch, arguments: list[str], posted: Any, said: str) -> None:
    there = Mesh(RUNNING)
    assert mesh(monkeypatch, there, *arguments, "--wait", "5").stdout == f"inferenceservice/a: {said}\n"
    assert there.posted == [posted]


def test_who_waits_ends_when_it_is_there_or_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "_POLL", 0.0)
    loading = told(version(2, 10, "canary", "on demand"), reached=False)
    assert mesh(monkeypatch, Mesh(loading, loading, RUNNING), "canary", "a", "10", "--wait", "60").exit_code == 0
    failed = mesh(monkeypatch, Mesh(loading, FAILING), "canary", "a", "10", "--wait", "60")
    assert (failed.exit_code, failed.stderr) == (1, "error: a: canary version 2 cannot load: no such file\n")
    late = mesh(monkeypatch, Mesh(loading), "canary", "a", "10", "--wait", "0")
    assert (late.exit_code, late.stderr) == (1, "error: a is not there after 0 s: version 2: not resident, will load on demand\n")


def test_the_shell_completes_names_of_services_and_nothing_without_a_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    class Some:
        def get(self, path: str) -> list[dict[str, str]]:
            assert path == "services"
            return [{"name": name} for name in ("digits", "dogs", "mushrooms")]

    monkeypatch.setattr(Control, "find", lambda _: Some())
    assert rollout.names("d") == ["digits", "dogs"]

    def none(_: object) -> Control:
        raise Unknown("no mesh runs")

    monkeypatch.setattr(Control, "find", none)
    assert rollout.names("d") == []


def test_a_policy_is_one_line_of_a_table() -> None:
    policy = {"rules": [{}, {}], "default": {"to": [{"version": 3, "weight": 100}]}}
    told = {"name": "p", "service": "a", "policy": policy, "state": "refused", "message": "no version 3"}
    assert policies.row(told) == ["p", "a", "2", "100 % version 3", "refused", "no version 3"]
    assert policies.row({**told, "policy": {}, "message": ""})[2:4] == ["0", "100 % stable"]
