"""The data plane's configuration as a file: read at start, and again whenever it changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import RpcError, StatusCode

from tests.support.client import Client, answer, example, refused, to
from tests.support.mesh import Mesh, a_mesh
from tests.support.runtime_state import Behaviour
from tests.support.waiting import until

PREDICT = "mmesh.ExamplePredictor/predict"
ALIASES = {"rpcConfigs": {PREDICT: {"idExtractionPath": [1], "vModelId": True}}}
HEADERS: dict[str, object] = {"rpcConfigs": {PREDICT: {}, "mmesh.ExamplePredictor/multiPredict": {}}}


class Folder:
    """A mounted volume as Kubernetes makes it: `config` is a link through `..data`, which is swapped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = 0
        self.file = path / "config"

    def write(self, text: str) -> None:
        self._version += 1
        version = self._path / f"..{self._version}"
        version.mkdir()
        (version / "config").write_text(text)
        link = self._path / "..data_tmp"
        link.symlink_to(version.name)
        link.replace(self._path / "..data")
        if not self.file.is_symlink():
            self.file.symlink_to("..data/config")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("config"))
    folder.write(json.dumps(ALIASES))
    return folder


@pytest.fixture(scope="module")
def mesh(folder: Folder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    script = Behaviour(method_infos={PREDICT: [1]}, allow_any=True)
    with a_mesh(tmp_path_factory.mktemp("dataplane"), script, {"MM_DATAPLANE_CONFIG_PATH": str(folder.file)}) as mesh:
        yield mesh


def unlisted(client: Client, model: str) -> StatusCode:
    """How a call of a method ends that only `HEADERS` lists."""
    try:
        client.predictor.multiPredict(example.MultiPredictRequest(), metadata=to(model), timeout=20)
    except RpcError as error:
        code: StatusCode = error.code()
        return code
    return StatusCode.OK


@pytest.fixture(autouse=True)
def aliases(folder: Folder, mesh: Mesh) -> None:
    """Every test begins with the first configuration."""
    mesh.client.register("any")
    folder.write(json.dumps(ALIASES))
    until(lambda: unlisted(mesh.client, "any") == StatusCode.UNIMPLEMENTED, "the first configuration")


def test_an_alias_in_the_message_becomes_the_concrete_id(client: Client, model: str) -> None:
    client.register(model)
    client.set_alias(f"{model}-alias", model)
    got = client.predict("", "a", name=f"{model}-alias")
    assert [item.category for item in got.results] == [answer(model, "a"), model]


def test_a_name_that_is_no_alias_is_tried_as_a_model(client: Client, model: str) -> None:
    client.register(model)
    assert client.said("", name=model) == answer(model)
    with refused(StatusCode.NOT_FOUND):
        client.predict("", name=f"{model}-unknown")


def test_a_method_that_is_not_listed_is_not_implemented(client: Client, model: str) -> None:
    client.register(model)
    with refused(StatusCode.UNIMPLEMENTED):
        client.predictor.multiPredict(example.MultiPredictRequest(), metadata=to(model), timeout=20)
    with refused(StatusCode.UNIMPLEMENTED):
        list(client.predictor.predictMany(example.PredictRequest(), metadata=to(model), timeout=20))


def test_a_changed_file_counts_without_a_restart(client: Client, folder: Folder, model: str) -> None:
    client.register(model)
    folder.write(json.dumps(HEADERS))
    until(lambda: unlisted(client, model) == StatusCode.OK, "the new configuration")
    assert client.said(model) == answer(model)


@pytest.mark.parametrize("text", ["{", '{"rpcConfig": {}}', "[]", ""], ids=["cut", "property", "list", "empty"])
def test_a_broken_file_changes_nothing_and_is_told(mesh: Mesh, folder: Folder, text: str) -> None:
    begin = len(mesh.router.process.output())
    folder.write(text)
    until(lambda: "dataplane config" in mesh.router.process.output()[begin:], "a word about the broken file")
    assert unlisted(mesh.client, "any") == StatusCode.UNIMPLEMENTED
    folder.write(json.dumps(HEADERS))
    until(lambda: unlisted(mesh.client, "any") == StatusCode.OK, "the repaired configuration")
