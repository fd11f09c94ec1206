"""Model classes that users write, in a real MLServer: beside the model or of the whole server, with their parameters and environments."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mesh.protocols import inference_pb2 as v2
from tests.integration.mlserver_adapter.rig import TIMEOUT, Rig

pytestmark = pytest.mark.mlserver

CLASSES = Path(__file__).parent / "classes"


@pytest.fixture(scope="module")
def rig(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """An MLServer with one class for all models that name none, and with worker processes, without which no model gets an
    environment of its own."""
    code = tmp_path_factory.mktemp("code")
    for module in ("counted.py", "kept.py"):
        shutil.copy(CLASSES / module, code)
    server = {
        "PYTHONPATH": str(code),
        "MLSERVER_MODEL_IMPLEMENTATION": "counted.Counted",
        "MLSERVER_MODEL_EXTRA": '{"said": "by the server"}',
        "MLSERVER_PARALLEL_WORKERS": "1",
    }
    rig = Rig(environment, tmp_path_factory.mktemp("rig"), server)
    try:
        rig.mlserver.start()
        rig.until_ready()
        yield rig
    finally:
        rig.close()


def model(rig: Rig, name: str, module: str, settings: dict[str, Any]) -> Path:
    """A model in the claim: a class beside its settings."""
    folder = rig.claim("models") / name
    folder.mkdir()
    shutil.copy(CLASSES / f"{module}.py", folder)
    (folder / "model-settings.json").write_text(json.dumps({"implementation": f"{module}.{module.capitalize()}", **settings}))
    return folder


def asked(rig: Rig, name: str, words: Sequence[str] = ("a",)) -> list[str]:
    """What a model answers to words."""
    tensor = v2.ModelInferRequest.InferInputTensor(name="words", datatype="BYTES", shape=[len(words)])
    tensor.contents.bytes_contents.extend(word.encode() for word in words)
    answer = rig.data.ModelInfer(v2.ModelInferRequest(model_name=name, inputs=[tensor]), timeout=TIMEOUT)
    return [value.decode() for value in answer.outputs[0].contents.bytes_contents]


def with_ending(ending: str) -> dict[str, Any]:
    inputs = [{"name": "words", "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "str"}}]
    return {"inputs": inputs, "parameters": {"extra": {"ending": ending}, "content_type": "str"}}


def test_a_class_beside_its_settings_keeps_its_extra_and_content_types(rig: Rig) -> None:
    model(rig, "loud", "words", with_ending("!"))
    rig.load("loud-model", "loud", "anything")
    assert asked(rig, "loud-model", ["so", "ätsch"]) == ["so!!", "ätsch!!"]
    metadata = rig.data.ModelMetadata(v2.ModelMetadataRequest(name="loud-model"), timeout=TIMEOUT)
    assert [item.name for item in metadata.inputs] == ["words"]
    rig.unload("loud-model")
    assert rig.files() == set()


def test_modules_of_one_name_share_their_globals_but_not_what_an_object_holds(rig: Rig) -> None:
    """Why authors are told to name modules differently: MLServer runs the second one in the module of the first."""
    for name, ending in (("first", "1"), ("second", "2")):
        model(rig, name, "words", with_ending(ending))
        rig.load(name, name)
    assert asked(rig, "first") == ["a12"]
    assert asked(rig, "second") == ["a22"]
    for name in ("first", "second"):
        rig.unload(name)


def test_packages_of_one_name_are_the_first_ones_code(rig: Rig) -> None:
    for name, text in (("earlier", "first"), ("later", "second")):
        folder = model(rig, name, "words", with_ending("!") | {"implementation": "pack.inner.Inner"})
        (folder / "pack").mkdir()
        (folder / "pack/__init__.py").touch()
        code = (CLASSES / "words.py").read_text().replace("class Words", "class Inner").replace("{word}", text)
        (folder / "pack/inner.py").write_text(code)
        rig.load(name, name)
    assert asked(rig, "later") == ["first!!"]
    for name in ("earlier", "later"):
        rig.unload(name)


def test_the_class_of_a_server_serves_what_names_none_and_its_module_begins_again_at_each_load(rig: Rig) -> None:
    for name in ("one", "two"):
        (rig.claim("models") / f"{name}.any").write_text(f"file of {name}")
        rig.load(name, f"{name}.any", "peft-model")
    assert asked(rig, "two") == ["file of two", "by the server", "two", "one,two"]
    for name in ("one", "two"):
        rig.unload(name)
    assert rig.files() == set()


@pytest.mark.parametrize("parameter", ["environment_tarball", "environment_path"])
def test_a_model_brings_its_own_environment(rig: Rig, environment: Path, tmp_path: Path, parameter: str) -> None:
    """A package that the server has not, in an environment whose path is relative to the model."""
    own = tmp_path / "environment"
    packages = own / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "greeting.py").write_text(f"TEXT = 'from the {parameter}'\n")
    (own / "bin").mkdir()
    (own / "bin" / "python").symlink_to(environment / "bin" / "python")
    name = parameter.replace("_", "-")
    folder = model(rig, name, "equipped", {"parameters": {parameter: "./own"}})
    if parameter == "environment_tarball":
        with tarfile.open(folder / "own", "w:gz") as archive:
            archive.add(own, ".")
    else:
        shutil.copytree(own, folder / "own", symlinks=True)
    rig.load(name, name)
    assert asked(rig, name) == [f"from the {parameter}"]
    rig.unload(name)
