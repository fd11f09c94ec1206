"""Names and files are the users'. Whatever they are, every adapter keeps to its folder, ends soon, and says what is wrong."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime_adapters import schema
from runtime_adapters.__main__ import ADAPTERS
from runtime_adapters.adapter import Adapter, LocalModel
from runtime_adapters.errors import InvalidRequest, Missing
from runtime_adapters.settings import Settings
from runtime_adapters.storage import keys
from runtime_adapters.torchserve.layout import MANIFEST

pytestmark = pytest.mark.parametrize("server", sorted(ADAPTERS))
TYPES = {"mlserver": "sklearn", "ovms": "onnx", "torchserve": "pytorch-mar", "triton": "onnx"}
KUBERNETES = ["a", "0", "with.dots-and--dashes", "9-a.b", "x" * 63, ".".join(["x" * 61] * 3), "example-isvc__isvc-6b2eb0b8bf"]
"""Names as services may have: of letters and digits, `-` and `.`, in parts of up to 63 bytes; and a model's as the mesh makes it of one."""
TRAVERSING = ["../up", "../../../etc", "/etc/passwd", "..", ".", "a/../../b", "a/b", "..\\up", "%2e%2e%2f"]
NATIVE = {"mlserver": ("model-settings.json", "{}"), "triton": ("config.pbtxt", 'name: "theirs"')}
"""What makes a model's directory one that its author laid out for this server; the others have no such thing."""
DEEP = {"mlserver": "[" * 100_000, "triton": "input {" * 50_000}


@pytest.fixture
async def adapter(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Adapter]:
    """The adapter of a server that it never reaches, with nothing but its own folder below `root`."""
    settings = {"CONTAINER_MEM_REQ_BYTES": "1", "ROOT_MODEL_DIR": str(tmp_path / "root"), "MODEL_CONFIG_FILE": str(tmp_path / "list.json")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    adapter = ADAPTERS[server](Settings.load(settings))
    adapter.folder.mkdir(parents=True, exist_ok=True)
    yield adapter
    await adapter.close()


def model(server: str, folder: Path, model_id: str = "model-id") -> LocalModel:
    """A small model that this server would take."""
    path = folder / ("model.mar" if server == "torchserve" else "model.onnx")
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(MANIFEST, '{"model": {}}')
    return LocalModel(model_id, TYPES[server], path, None)


def below(folder: Path) -> set[str]:
    """All that lies in a folder; links are not followed."""
    return {os.path.relpath(os.path.join(at, name), folder) for at, inside, names in os.walk(folder) for name in (*inside, *names)}


def test_every_name_of_kubernetes_is_one_entry_of_the_adapters_folder(adapter: Adapter, server: str, tmp_path: Path) -> None:
    for name in KUBERNETES:
        adapter.prepare(model(server, tmp_path / "source", name))
    assert len(list(adapter.folder.iterdir())) == len(KUBERNETES)
    for name in KUBERNETES:
        adapter.discard(name)
    assert list(adapter.folder.iterdir()) == []


@pytest.mark.parametrize("name", TRAVERSING)
def test_a_name_that_is_a_path_leads_nowhere(adapter: Adapter, server: str, tmp_path: Path, name: str) -> None:
    source = model(server, tmp_path / "source", name)
    before = below(tmp_path)
    if server == "triton":
        # It names a model by its folder, so another name would be another model.
        with pytest.raises(InvalidRequest, match="Triton takes a model's name from a folder"):
            adapter.prepare(source)
        assert below(tmp_path) == before
    else:
        adapter.prepare(source)
        made = {tmp_path / entry for entry in below(tmp_path) - before}
        assert made
        assert all(adapter.folder in entry.parents for entry in made)
    adapter.discard(name)
    assert below(tmp_path) == before


def test_circles_of_links_end_and_are_removed_without_what_they_point_at(adapter: Adapter, server: str, tmp_path: Path) -> None:
    source = model(server, tmp_path / "source")
    for name, target in (("self", "self"), ("here", "."), ("1", "2"), ("2", "1"), ("deep", "here/here/here")):
        (tmp_path / "source" / name).symlink_to(target)
    if server in NATIVE:
        name, text = NATIVE[server]
        (tmp_path / "source" / name).write_text(text)
    before = below(tmp_path / "source")
    if server == "torchserve":
        with pytest.raises(InvalidRequest, match="Model path is a directory"):
            adapter.prepare(source._replace(path=tmp_path / "source"))
    else:
        adapter.prepare(source._replace(path=tmp_path / "source"))
        assert below(adapter.folder)
    adapter.discard("model-id")
    assert below(adapter.folder) == set()
    assert below(tmp_path / "source") == before


@pytest.mark.parametrize("target", ["..", "/", "/proc/self"])
def test_links_that_lead_out_of_a_model_are_not_followed(adapter: Adapter, server: str, tmp_path: Path, target: str) -> None:
    source = model(server, tmp_path / "source")
    (tmp_path / "source" / "7").symlink_to(target)
    if server in ("mlserver", "torchserve"):
        # MLServer itself would follow it, and search all that is there, whenever it loads anything.
        said = "has a link '7' to a folder outside of it" if server == "mlserver" else "Model path is a directory"
        with pytest.raises(InvalidRequest, match=said):
            adapter.prepare(source._replace(path=tmp_path / "source"))
    else:
        adapter.prepare(source._replace(path=tmp_path / "source"))
        # It is no version of the model's: the folder counts as one without any.
        (link,) = (path for path in adapter.folder.rglob("*") if path.is_symlink())
        assert link.relative_to(adapter.folder).parts[:2] == ("model-id", "1")
        assert link.readlink() == tmp_path / "source"
    adapter.discard("model-id")
    assert below(adapter.folder) == set()


def test_a_model_that_is_a_circle_of_links_is_not_there(adapter: Adapter, server: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    if server == "mlserver":
        adapter.prepare(
            LocalModel("model-id", TYPES[server], tmp_path / "loop", None)
        )  # it is the server that finds nothing behind the link
    else:
        with pytest.raises(Missing, match="loop"):
            adapter.prepare(LocalModel("model-id", TYPES[server], tmp_path / "loop", None))
    adapter.discard("model-id")
    assert below(adapter.folder) == set()


@pytest.mark.parametrize("native", [True, False])
def test_a_huge_directory_is_linked_one_level_deep_at_most(adapter: Adapter, server: str, tmp_path: Path, native: bool) -> None:
    source = tmp_path / "source"
    for number in range(20):
        (source / f"folder-{number}").mkdir(parents=True)
        for inner in range(100):
            (source / f"folder-{number}" / f"{inner}").touch()
    if native and server in NATIVE:
        name, text = NATIVE[server]
        (source / name).write_text(text)
    if server == "torchserve":
        with pytest.raises(InvalidRequest, match="Model path is a directory"):
            adapter.prepare(LocalModel("model-id", TYPES[server], source, None))
    else:
        adapter.prepare(LocalModel("model-id", TYPES[server], source, None))
    assert len(below(adapter.folder)) <= 25
    adapter.discard("model-id")
    assert below(adapter.folder) == set()
    assert len(below(source)) >= 2020


def test_documents_that_are_nested_without_end_are_refused_like_any_other(adapter: Adapter, server: str, tmp_path: Path) -> None:
    deep = "[" * 100_000
    (tmp_path / "schema.json").write_text(deep)
    for read in (lambda: keys.parse(deep), lambda: schema.read(tmp_path / "schema.json")):
        with pytest.raises(InvalidRequest, match="is not JSON"):
            read()
    if server in NATIVE:
        name, _ = NATIVE[server]
        source = model(server, tmp_path / "source")
        (tmp_path / "source" / name).write_text(DEEP[server])
        with pytest.raises(InvalidRequest, match=f"Failed to load Model due to adapter error: {name} of model model-id"):
            adapter.prepare(source._replace(path=tmp_path / "source"))
        adapter.discard("model-id")
    assert below(adapter.folder) == set()


@pytest.mark.parametrize("leads", ["../../../../etc/passwd", "/etc/passwd", "a/../../../b"])
def test_what_a_models_own_files_name_lies_in_the_model(adapter: Adapter, server: str, tmp_path: Path, leads: str) -> None:
    texts = {"mlserver": json.dumps({"parameters": {"uri": leads}}), "triton": f'default_model_filename: "{leads}"'}
    if server not in texts:
        return
    source = model(server, tmp_path / "source")
    (tmp_path / "source" / NATIVE[server][0]).write_text(texts[server])
    if server == "triton":
        with pytest.raises(InvalidRequest, match="which leads out of the model; name a file in its version folder"):
            adapter.prepare(source._replace(path=tmp_path / "source"))
        return
    adapter.prepare(source._replace(path=tmp_path / "source"))
    (settings,) = adapter.folder.rglob("model-settings.json")
    assert Path(json.loads(settings.read_text())["parameters"]["uri"]).is_relative_to(settings.parent)
