"""What a person does on a laptop, with the real MLServer: up, apply, get, infer, describe, delete, down."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.local.rig import BODY, EXAMPLES, Shell, said_by
from tests.support.http import plain
from tests.support.waiting import until

pytestmark = [pytest.mark.mlserver, pytest.mark.timeout(300)]

LONG = 180
"""Seconds for what starts processes again, on a slow machine too."""
MODEL_ID = "sklearn-mnist__isvc-3c10c62d34"


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_walkthroughs_service_is_ready_under_its_url(shared: Shell) -> None:
    assert shared.ok("get", "isvc", "sklearn-mnist") == (
        "NAME            URL                                               READY\n"
        "sklearn-mnist   grpc://modelmesh-serving.modelmesh-serving:8033   True\n"
    )
    wide = shared.ok("get", "isvc", "sklearn-mnist", "-o", "wide")
    assert f"http://127.0.0.1:{shared.rest}/v2/models/sklearn-mnist/infer" in wide
    assert MODEL_ID in wide


def test_it_answers_over_rest_and_grpc_as_the_walkthrough_says(shared: Shell) -> None:
    expected = json.loads((BODY.parent / "sklearn-mnist.answer.json").read_text())
    answer = json.loads(shared.ok("infer", "sklearn-mnist", "-f", str(BODY)))
    assert answer["modelName"] == expected["modelName"] == MODEL_ID
    assert {**answer["outputs"][0], **expected["outputs"][0]} == answer["outputs"][0]
    assert shared.digit("--grpc") == ["8"]


def test_every_listing_is_there_for_programs(shared: Shell) -> None:
    service = shared.json("get", "isvc", "sklearn-mnist")
    assert service["status"]["modelStatus"]["states"]["activeModelState"] == "Loaded"
    assert service["status"]["url"] == "grpc://modelmesh-serving.modelmesh-serving:8033"
    assert [one["metadata"]["name"] for one in shared.json("get", "isvc")["items"]] == ["sklearn-mnist"]
    assert [one["id"] for one in shared.json("get", "models")["items"]] == [MODEL_ID]
    assert shared.json("get", "models", MODEL_ID)["type"] == "mt:sklearn"
    assert shared.json("get", "pods")["items"][0]["router"]["models"] == 1
    assert shared.json("get", "runtimes", "mlserver-1.x")["kind"] == "ClusterServingRuntime"
    assert "kind: InferenceService" in shared.ok("get", "isvc", "sklearn-mnist", "-o", "yaml")


def test_xgboost_and_lightgbm_are_served_by_the_same_pod(shared: Shell) -> None:
    services = EXAMPLES / "services"
    try:
        shared.ok("apply", "-f", str(services), "--wait", "60")
        for name in ("mushroom-xgboost", "mushroom-lightgbm"):
            body = services / "bodies" / f"{name}.infer.json"
            answers = [json.loads(shared.ok("infer", name, "-f", str(body), *options))["outputs"][0] for options in ([], ["--grpc"])]
            assert answers[0] == answers[1]
            assert 0 < answers[0]["data"][0] < 1
    finally:
        shared.ok("delete", "-f", str(services))
    assert [one["metadata"]["name"] for one in shared.json("get", "isvc")["items"]] == ["sklearn-mnist"]
    until(lambda: [one["id"] for one in shared.json("get", "models")["items"]] == [MODEL_ID], "their models are gone")


def test_a_failed_load_names_its_cause_and_the_next_try_and_heals_when_applied_again(shared: Shell) -> None:
    document = shared.service("late", "late.joblib")
    late = shared.folder / "models" / "late.joblib"
    try:
        failed = shared.mesh("apply", "-f", "-", "--wait", "60", typed=document)
        assert failed.returncode == 1
        assert "late.joblib" in failed.stderr
        described = shared.ok("describe", "isvc", "late")
        assert "State:        FailedToLoad" in described
        assert "Tried again:  " in described
        assert " (in " in described
        assert "False" in shared.ok("get", "isvc", "late")
        late.write_bytes((EXAMPLES / "models" / "mnist-svm.joblib").read_bytes())
        shared.ok("apply", "-f", "-", "--wait", "60", typed=document)
        assert json.loads(shared.ok("infer", "late", "-f", str(BODY)))["outputs"][0]["contents"]["int64Contents"] == ["8"]
    finally:
        shared.ok("delete", "isvc", "late")
    gone = shared.mesh("infer", "late", "-f", str(BODY))
    assert (gone.returncode, "HTTP 404" in gone.stderr) == (1, True)


def bounds(shell: Shell) -> Any:
    """Of the walkthrough's service, as its router keeps them."""
    return plain.get(f"{shell.ask('status')['pods'][0]['probe']}/mesh/v1/aliases/sklearn-mnist", timeout=10).json()["bounds"]


def test_bounds_on_copies_that_were_set_by_hand_stay_until_a_document_says_otherwise(shared: Shell) -> None:
    walkthrough = EXAMPLES / "walkthrough"
    wanted = {"minCopies": 1, "maxCopies": 3, "pinned": True}
    try:
        said = shared.ok("scale", "sklearn-mnist", "--min", "1", "--max", "3", "--pin")
        assert said == "inferenceservice/sklearn-mnist scaled (bounds on copies: min 1, max 3, pinned)\n"
        until(lambda: bounds(shared) == wanted, "the router knows")
        assert "1 (min 1, max 3, pinned)" in shared.ok("get", "isvc", "-o", "wide")
        assert "inferenceservice/sklearn-mnist unchanged" in shared.ok("apply", "-f", str(walkthrough), "--wait", "60")
        assert bounds(shared) == wanted
        wrong = shared.mesh("scale", "sklearn-mnist", "--min", "4")
        assert (wrong.returncode, "the minimum of 4 copies is greater than the maximum of 3" in wrong.stderr) == (1, True), wrong.stderr
        document = (walkthrough / "sklearn-mnist.yaml").read_text()
        document = document.replace("  annotations:\n", "  annotations:\n    mesh.kserve.io/max-copies: '2'\n")
        shared.ok("apply", "-f", "-", "--wait", "60", typed=document)
        until(lambda: bounds(shared) == {**wanted, "maxCopies": 2}, "what the document says wins, the rest stays")
        assert [one["id"] for one in shared.ask("models")["models"]] == [MODEL_ID], "it is the same model"
    finally:
        shared.ok("scale", "sklearn-mnist", "--min", "0", "--max", "0", "--no-pin")
        until(lambda: bounds(shared) == {}, "the router knows")


def test_a_batch_with_one_wrong_document_applies_none(shared: Shell) -> None:
    right = shared.service("right", "mnist-svm.joblib")
    wrong = shared.service("wrong", "mnist-svm.joblib").replace("namespace: modelmesh-serving", "namespace: elsewhere")
    refused = shared.mesh("apply", "-f", "-", typed=f"{right}---\n{wrong}")
    assert (refused.returncode, "is for the namespace 'elsewhere'" in refused.stderr) == (1, True)
    assert "there is no InferenceService 'right'" in shared.mesh("get", "isvc", "right").stderr


def test_a_second_mesh_is_refused_and_names_the_first(shared: Shell, tmp_path: Path) -> None:
    pid = shared.json("status")["pid"]
    same_folder = shared.mesh("up", "--data", str(shared.data))
    assert (same_folder.returncode, f"pid {pid}, data folder {shared.data}" in same_folder.stderr) == (1, True)
    where = ("--data", str(tmp_path / "other"), "--grpc-port", str(shared.grpc), "--rest-port", str(shared.rest))
    for options in ((), ("--detach",)):
        same_ports = shared.mesh("up", *where, *options)
        assert (same_ports.returncode, f"pid {pid}" in same_ports.stderr) == (1, True), same_ports
    assert shared.digit() == ["8"]


@pytest.mark.parametrize("name", ["mlserver", "router", "adapter"])
def test_a_killed_process_comes_back_and_the_services_with_it(shared: Shell, name: str) -> None:
    before = shared.process(name)
    kill(before["pid"])
    until(lambda: shared.process(name)["restarts"] > before["restarts"] and shared.process(name)["pid"], f"{name} is started again")
    until(lambda: said_by(f"http://127.0.0.1:{shared.rest}"), f"answers after {name} was killed", within=LONG)
    assert shared.digit() == ["8"]
    assert shared.process(name)["lastExit"] == "was ended by SIGKILL"
    assert "True" in shared.ok("get", "isvc", "sklearn-mnist")


def test_a_runtime_that_cannot_be_run_is_refused_and_one_of_another_size_restarts_the_pod(shared: Shell) -> None:
    before = shared.process("mlserver")["pid"]
    built_in = shared.json("get", "runtimes", "mlserver-1.x")
    built_in["spec"]["containers"][0]["resources"]["requests"]["memory"] = "1Mi"
    refused = shared.mesh("apply", "-f", "-", typed=json.dumps(built_in))
    assert (refused.returncode, "leaves no room for models" in refused.stderr) == (1, True)
    assert shared.process("mlserver")["pid"] == before
    built_in["spec"]["containers"][0]["resources"]["requests"]["memory"] = "256Mi"
    try:
        shared.ok("apply", "-f", "-", typed=json.dumps(built_in))
        until(lambda: shared.process("mlserver")["pid"] not in (before, None), "the pod starts again", within=LONG)
        until(lambda: shared.ask("status")["state"] == "ready", "it is ready", within=LONG)
        assert shared.json("get", "pods")["items"][0]["router"]["capacity_bytes"] == (256 - 128) << 20
        assert shared.digit() == ["8"]
    finally:
        smaller = shared.process("mlserver")["pid"]
        shared.ok("delete", "clusterruntime", "mlserver-1.x")
    until(lambda: shared.process("mlserver")["pid"] not in (smaller, None), "the pod starts again as it was", within=LONG)
    until(lambda: shared.ask("status")["state"] == "ready", "it is ready for the next story", within=LONG)


def test_down_and_up_keeps_the_documents_and_leaves_no_process(shell: Shell) -> None:
    shell.up()
    shell.ok("apply", "-f", str(EXAMPLES / "walkthrough" / "my-models-pvc.yaml"))
    (shell.data / "pvc" / "my-models-pvc" / "mnist-svm.joblib").write_bytes((EXAMPLES / "models" / "mnist-svm.joblib").read_bytes())
    shell.ok("apply", "-f", str(EXAMPLES / "walkthrough"), "--wait", "60")
    pids = [one["pid"] for one in shell.json("status")["processes"]]
    shell.ok("down")
    assert not [pid for pid in pids if alive(pid)]
    assert not (shell.folder / "state" / "mesh" / "current.json").exists()
    shell.up()
    assert shell.digit() == ["8"]


def test_a_killed_supervisor_leaves_no_process_and_the_next_one_takes_over(shared: Shell) -> None:
    status = shared.json("status")
    kill(status["pid"])
    try:
        until(lambda: not [one for one in status["processes"] if alive(one["pid"])], "all ended")
        assert shared.mesh("status").returncode == 1
    finally:
        shared.up("--pvc", f"my-models-pvc={shared.folder / 'models'}")
    assert shared.json("status")["state"] == "ready"
    assert shared.digit() == ["8"]


def test_a_port_of_another_program_is_refused_with_its_process(shell: Shell) -> None:
    code = (
        "import socket,sys; s=socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); "
        f"s.bind(('127.0.0.1', {shell.grpc})); s.listen(); print('on', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "on\n"
        refused = shell.mesh("up", "--data", str(shell.data), "--grpc-port", str(shell.grpc), "--rest-port", str(shell.rest))
        other.kill()
    assert (refused.returncode, f"port {shell.grpc} on 127.0.0.1 is taken by process {other.pid}" in refused.stderr) == (1, True)


def test_a_secret_is_where_a_storage_key_comes_from(shared: Shell) -> None:
    entry = json.dumps({"type": "local", "path": str(shared.folder / "models")})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage-config"}, "stringData": {"here": entry}}
    service = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "keyed"},
        "spec": {"predictor": {"sklearn": {"storage": {"key": "here", "path": "mnist-svm.joblib"}}}},
    }
    try:
        shared.ok("apply", "-f", "-", "--wait", "60", typed=json.dumps({"kind": "List", "items": [secret, service]}))
        assert json.loads(shared.ok("infer", "keyed", "-f", str(BODY)))["outputs"][0]["contents"]["int64Contents"] == ["8"]
        keyed = [one["id"] for one in shared.json("get", "models", "--contains", "keyed__")["items"]]
        assert [one.partition("__")[0] for one in keyed] == ["keyed"]
    finally:
        shared.ok("delete", "isvc", "keyed")
        shared.ok("delete", "secret", "storage-config")
    assert list((shared.data / "storage-config").iterdir()) == []


def test_in_the_foreground_it_tells_what_happens_until_ctrl_c(shell: Shell) -> None:
    where = ("--data", str(shell.data), "--grpc-port", str(shell.grpc), "--rest-port", str(shell.rest))
    with shell.start("up", *where) as mesh:
        assert mesh.stdout
        lines = iter(mesh.stdout.readline, "")
        told = ""
        for line in lines:
            told += line
            if "Ctrl-C ends it" in line:
                break
        assert "mlserver  started" in told
        assert f"127.0.0.1:{shell.grpc}" in told
        pids = [one["pid"] for one in shell.json("status")["processes"]]
        mesh.send_signal(signal.SIGINT)
        assert mesh.wait(60) == 0
    assert not [pid for pid in pids if alive(pid)]
