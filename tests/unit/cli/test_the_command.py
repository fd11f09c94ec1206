"""The command says what is wrong in plain words and ends with 0, 1 or 2."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mesh.cli import output
from mesh.cli.app import commands
from mesh.settings import describe
from tests.support import ports


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "MESH_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("MESH_DIR", raising=False)


def mesh(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(commands(), list(arguments), input=typed)


def test_without_a_mesh_every_command_says_how_to_start_one(tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text("{}")
    for arguments in (
        ["status"],
        ["get", "isvc"],
        ["describe", "isvc", "a"],
        ["delete", "isvc", "a"],
        ["infer", "a", "-f", str(body)],
        ["rollout", "status", "a"],
        ["rollout", "undo", "a", "--to", "1", "--wait", "5"],
        ["get", "trafficpolicies"],
        ["describe", "trafficpolicy", "a"],
        ["image", "list"],
        ["image", "remove", "a"],
    ):
        result = mesh(*arguments)
        assert (result.exit_code, "`mesh up` starts one" in result.stderr) == (1, True), arguments
    assert mesh("down").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "things"], "there is no kind 'things' to get; there are isvc, models, runtimes, pods"),
        (["describe", "thing", "a"], "there is no kind 'thing' to describe"),
        (["delete", "isvc"], "it reads `mesh delete isvc NAME"),
        (["up", "--pvc", "claim"], "it reads --pvc NAME=DIR"),
        (["up", "--pvc", "../x=/tmp"], "it reads --pvc NAME=DIR"),
        (["environment", "make", "none"], "there is no environment 'none'"),
        (["up", "--grpc-port", "70000"], "--grpc-port"),
        (["up", "--pods", "0"], "--pods 0: a mesh has at least one pod"),
        (["up", "--pods", "x"], "--pods x: it reads --pods N or --pods MIN..MAX, e.g. --pods 3 or --pods 1..4"),
        (["up", "--pods", "101"], "--pods 101: 100 pods at most"),
        (["up", "--pods", "3..1"], "--pods 3..1: the first number is the smaller one; did you mean 1..3?"),
        (["up", "--pods", "0..2"], "--pods 0..2: a mesh has at least one pod"),
        (["up", "--pods", "2.."], "--pods 2..: it reads --pods N or --pods MIN..MAX"),
        (["up", "--pods", "1..x"], "--pods 1..x: it reads --pods N or --pods MIN..MAX"),
        (["up", "--store", "http://localhost:2379"], "--store http://localhost:2379: "),
        (["up", "--store", "etcd://"], "it names no endpoint"),
        (["up", "--store", "localhost:2379"], "it reads --store etcd://HOST:PORT"),
        (["up", "--store", "zookeeper:localhost:2181"], "ZooKeeper is not supported; move the registry to etcd"),
        (["up", "--store", "etcd:nowhere.json"], "there is no file nowhere.json"),
        (["get", "pods", "--pod", "pod-0"], "--pod is for models"),
        (["get", "isvc", "--state", "ready"], "--state is for models, pods and runtimes"),
        (["up", "--runtime", "mlserver=0"], "--runtime mlserver=0: a mesh has at least one pod"),
        (["up", "--runtime", "mlserver,"], "it reads --runtime NAME[=N|=MIN..MAX]"),
        (["up", "--runtime", "mlserver,mlserver"], "mlserver stands there twice"),
        (["up", "--runtime", "nothing"], "--runtime nothing: there is no such runtime; there are mlserver-1.x, ovms-1.x"),
        (["up", "--image", "ref"], "write REF=DIR"),
        (["up", "--image", "ref=/no/such"], "image ref=/no/such: there is no such folder"),
        (["up", "--image", "=/tmp"], "write REF=DIR"),
        (["image", "set", "ref"], "write REF=DIR"),
        (["image", "set", "ref="], "write REF=DIR"),
        (["image", "set", "=/tmp"], "write REF=DIR"),
        (["get", "models", "--state", "lost"], "there is no such state of a model; there are NOT_FOUND"),
        (["scale", "a"], "it reads `mesh scale NAME` with at least one of --min"),
        (["scale", "a", "--min", "-1"], "--min"),
        (["scale", "a", "--max", "many"], "--max"),
        (["rollout", "canary", "a", "101"], "less than or equal to 100"),
        (["rollout", "canary", "a", "ten"], "valid integer"),
        (["rollout", "canary", "a", "10", "--version", "0"], "--version"),
        (["rollout", "undo", "a", "--to", "x"], "--to"),
        (["rollout", "forward", "a"], "No such command"),
        (["frobnicate"], "No such command"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], said: str) -> None:
    result = mesh(*arguments)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_a_wrong_document_is_refused_with_file_line_and_column_before_any_mesh_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "isvc.yaml"
    file.write_text("apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata:\n  name: [a]\n")
    result = mesh("apply", "-f", str(file))
    assert result.exit_code == 1
    assert f"{file}:4:9: metadata.name: must be a text, not the list" in result.stderr
    assert "Traceback" not in result.stderr
    assert "standard input:2:4: not valid YAML" in mesh("apply", "-f", "-", typed="a: b\n  c: [\n").stderr
    assert "none.yaml: there is no such file" in mesh("apply", "-f", str(tmp_path / "none.yaml")).stderr


def test_a_body_that_is_no_json_is_refused(tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text("{")
    assert "is not JSON" in mesh("infer", "a", "-f", str(body)).stderr


def test_settings_are_listed_for_people_and_for_programs() -> None:
    assert json.loads(mesh("settings", "-o", "json").stdout) == describe()
    assert "MM_SVC_GRPC_PORT" in mesh("settings").stdout


def test_tables_look_like_kubectls(capsys: pytest.CaptureFixture[str]) -> None:
    url = "grpc://modelmesh-serving.modelmesh-serving:8033"
    output.table([["sklearn-mnist", url, "True"]], ["NAME", "URL", "READY"])
    shown = capsys.readouterr().out
    assert shown == (
        "NAME            URL                                               READY\n"
        "sklearn-mnist   grpc://modelmesh-serving.modelmesh-serving:8033   True\n"
    )


def test_sizes_and_moments_read_like_a_persons() -> None:
    assert [output.size(value) for value in (0, 1023, 1536, 939524096, None)] == ["0 B", "1023 B", "1.5 KiB", "896 MiB", "-"]
    now = datetime(2026, 1, 1, 12, 0, 0)
    millis = int(now.timestamp() * 1000)
    moments = [output.moment(millis + shift * 1000, lambda: now) for shift in (-5, 10, -7200, -86400 * 3)]
    assert moments == ["11:59:55 (5 s ago)", "12:00:10 (in 10 s)", "10:00:00 (2 h ago)", "2025-12-29 12:00:00 (3 d ago)"]
    assert output.moment(None) == output.moment(0) == "-"


def test_a_store_that_does_not_answer_is_told_before_anything_is_made_or_started(tmp_path: Path) -> None:
    (port,) = ports.free(1)
    result = mesh("up", "--pods", "2", "--store", f"etcd://127.0.0.1:{port}", "--data", str(tmp_path / "data"))
    assert result.exit_code == 1
    assert f"--store etcd://127.0.0.1:{port}: Problem connecting to etcd: etcd at 127.0.0.1:{port}" in result.stderr
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "MESH_CACHE").exists()


def test_an_etcd_that_cannot_be_made_keeps_several_pods_from_starting_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "MESH_CACHE").write_text("a file where a folder should be")
    result = mesh("up", "--pods", "2", "--data", str(tmp_path / "data"))
    assert result.exit_code == 1
    assert "the environment etcd cannot be made in" in result.stderr
    assert str(tmp_path / "MESH_CACHE") in result.stderr
