"""The walkthrough's model from every storage, through the whole mesh; and what a user reads when it does not come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.local.rig import BODY, EXAMPLES, Shell
from tests.integration.storage.servers import Bucket, WebServer

MODEL = (EXAMPLES / "models" / "mnist-svm.joblib").read_bytes()


class Anywhere(NamedTuple):
    """A mesh with storages of each kind, real or emulated, that all hold the model."""

    shell: Shell

    def apply(self, name: str, key: str, path: str, parameters: dict[str, str]) -> str:
        """What `apply --wait` says of a service with this storage; empty if it became ready."""
        storage = {"key": key, "path": path, "parameters": parameters}
        document = {
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": name, "annotations": {"serving.kserve.io/deploymentMode": "ModelMesh"}},
            "spec": {"predictor": {"model": {"modelFormat": {"name": "sklearn"}, "storage": storage}}},
        }
        done = self.shell.mesh("apply", "-f", "-", "--wait", "90", typed=json.dumps(document))
        return done.stderr if done.returncode else ""

    def files_of(self, name: str) -> list[Path]:
        """What lies in the model folder of models of this service."""
        return [path for path in (self.shell.data / "models").rglob("*") if f"{name}__isvc" in str(path)]


@pytest.fixture(scope="module")
def anywhere(mlserver: Path, stores: Mapping[str, Bucket], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anywhere]:
    folder = tmp_path_factory.mktemp("anywhere")
    shell = Shell.fresh(folder)
    (folder / "keys").mkdir()
    with ExitStack() as stack:
        web = WebServer()
        stack.callback(web.close)
        web.files["/sklearn/mnist-svm.joblib"] = MODEL
        entries: dict[str, dict[str, str]] = {"web": {"type": "http", "url": web.url}}
        for key, kind in (("localMinIO", "s3"), ("localGCS", "gcs"), ("localAzure", "azure")):
            stores[kind].put({"sklearn/mnist-svm.joblib": MODEL})
            entries[key] = stores[kind].entry
        entries["wrongSecret"] = {**entries["localMinIO"], "secret_access_key": "not the secret"}
        for key, entry in entries.items():
            (folder / "keys" / key).write_text(json.dumps(entry))
        try:
            shell.up("--storage-config", str(folder / "keys"))
            yield Anywhere(shell)
        finally:
            shell.ok("down")


@pytest.mark.parametrize("key", ["localMinIO", "localGCS", "localAzure", "web"])
def test_the_model_answers_whatever_it_was_loaded_from(anywhere: Anywhere, key: str) -> None:
    name = f"from-{key.lower()}"
    assert anywhere.apply(name, key, "sklearn/mnist-svm.joblib", {}) == ""
    answer = json.loads(anywhere.shell.ok("infer", name, "-f", str(BODY)))
    assert answer["outputs"][0]["contents"]["int64Contents"] == ["8"]


@pytest.mark.parametrize(
    ("name", "key", "path", "parameters", "cause"),
    [
        ("wrong-key", "noSuchKey", "sklearn/mnist-svm.joblib", {}, "Did not find storage config for key noSuchKey"),
        ("wrong-bucket", "localMinIO", "sklearn/mnist-svm.joblib", {"bucket": "no-such-bucket"}, "no-such-bucket"),
        ("wrong-path", "localMinIO", "sklearn/no-such-file", {}, "sklearn/no-such-file"),
        ("wrong-secret", "wrongSecret", "sklearn/mnist-svm.joblib", {}, "PERMISSION_DENIED"),
        ("truncated", "web", "short/5000/model.joblib", {}, "broke off"),
        ("not-found", "web", "no/such/page", {}, "404"),
    ],
)
def test_what_went_wrong_stands_in_describe_and_in_the_status_and_leaves_no_file(
    anywhere: Anywhere, name: str, key: str, path: str, parameters: dict[str, str], cause: str
) -> None:
    assert cause in anywhere.apply(name, key, path, parameters)
    assert cause in anywhere.shell.ok("describe", "isvc", name)
    refused = anywhere.shell.mesh("infer", name, "--grpc", "-f", str(BODY))
    assert refused.returncode == 1
    assert cause in refused.stderr
    assert anywhere.files_of(name) == []
    anywhere.shell.ok("delete", "isvc", name)
