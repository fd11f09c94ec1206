"""The folder Triton loads from, case by case: what becomes a link, under which name and version, and where it points."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import InvalidRequest, Missing
from runtime_adapters.schema import Schema, Tensor
from runtime_adapters.triton import config, layout
from runtime_adapters.triton.adapter import TritonAdapter


def files(folder: Path, *names: str) -> Path:
    """Files that hold their own names; one that ends with / is a directory."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(name)
    return folder


def links(target: Path) -> dict[str, Path]:
    """What each link in a layout points at, by its place; links are not followed."""
    return {str(path.relative_to(target)): path.readlink() for path in target.rglob("*") if path.is_symlink()}


def built(tmp_path: Path, path: Path, kind: str = "", schema: Schema | None = None) -> dict[str, Path]:
    target = tmp_path / "adapted" / "model-id"
    layout.build(target, LocalModel("model-id", kind, path, schema))
    return links(target)


UNKNOWN = "my-own-type"
TABLE = [
    # model type, path of the model, its files, link, what it points at
    ("layoutFile", UNKNOWN, "model.data", ["model.data"], "1/model.data", "model.data"),
    ("layoutDirectoryWithSingleFile", UNKNOWN, "modeldir", ["modeldir/file"], "1", "modeldir"),
    ("layoutDirectoryWithMultiFile", UNKNOWN, "modeldir", ["modeldir/a", "modeldir/b"], "1", "modeldir"),
    ("layoutDirectoryWithSingleDirectory", UNKNOWN, "modeldir", ["modeldir/data/a"], "1", "modeldir"),
    ("layoutDirectoryComplex", UNKNOWN, "modeldir", ["modeldir/data/a", "modeldir/b", "modeldir/c/d"], "1", "modeldir"),
    ("layoutBackwardsCompatibilityComplex", UNKNOWN, "", ["data/model.1", "data/model.2", "file", "meta.json"], "1", ""),
    ("layoutVersionSingleFile", UNKNOWN, "model", ["model/1/data", "model/3/data"], "3", "model/3"),
    ("layoutVersionSingleDir", UNKNOWN, "model", ["model/7/dir/x", "model/9/dir/x"], "9", "model/9"),
    ("layoutVersionMultiFile", UNKNOWN, "model", ["model/1/a", "model/1/b", "model/2/a", "model/2/b"], "2", "model/2"),
    ("layoutVersionMultiFile_2", UNKNOWN, "model/2", ["model/1/a", "model/2/a", "model/2/b"], "1", "model/2"),
    ("tensorflowEmpty", "tensorflow", "model", ["model/"], "1/model.savedmodel", "model"),
    (
        "tensorflowSavedModel",
        "tensorflow",
        "m",
        ["m/1/model.savedmodel/saved_model.pb"],
        "1/model.savedmodel",
        "m/1/model.savedmodel",
    ),
    ("tensorflowGraphDef", "tensorflow", "m", ["m/1/model.graphdef"], "1/model.graphdef", "m/1/model.graphdef"),
    ("tensorflowGraphDefForFile", "tensorflow", "m", ["m/saved_model.pb"], "1/model.graphdef", "m/saved_model.pb"),
    ("tensorflowSavedModelForDir", "tensorflow", "m", ["m/saved_model.pb", "m/variables/v"], "1/model.savedmodel", "m"),
    ("tensorflowAllowSubdir_1", "tensorflow", "m", ["m/saved_model/saved_model.pb"], "1/model.savedmodel", "m/saved_model"),
    ("tensorflowAllowSubdir_2", "tensorflow", "m", ["m/model.savedmodel/saved_model.pb"], "1/model.savedmodel", "m/model.savedmodel"),
    ("tensorflowVersionDirWithFile", "tensorflow", "m", ["m/1/saved_model.pb"], "1/model.graphdef", "m/1/saved_model.pb"),
    ("tensorflowVersionDirWithDir", "tensorflow", "m", ["m/2/saved_model.pb", "m/2/variables/v"], "2/model.savedmodel", "m/2"),
    ("tensorflowSubdirInVersionDir", "tensorflow", "m", ["m/1/saved_model/saved_model.pb"], "1/model.savedmodel", "m/1/saved_model"),
    ("AssumeModelDataIfNotAllVersionNumbers", "tensorflow", "m", ["m/1/a", "m/NAN/a"], "1/model.savedmodel", "m"),
    (
        "SelectHighVersionSubdir_1",
        "tensorflow",
        "m",
        [f"m/{version}/model.savedmodel/saved_model.pb" for version in (1, 2, 5)],
        "5/model.savedmodel",
        "m/5/model.savedmodel",
    ),
    (
        "SelectHighVersionSubdir_2",
        "tensorflow",
        "m",
        ["m/2/saved_model.pb", "m/14/saved_model_14.pb", "m/14/variables/v"],
        "14/model.savedmodel",
        "m/14",
    ),
    (
        "SelectHighVersionSubdir_3",
        "tensorflow",
        "m",
        ["m/2/saved_model.pb", "m/14/saved_model_14.pb"],
        "14/model.graphdef",
        "m/14/saved_model_14.pb",
    ),
    ("kerasSavedModel", "keras", "m", ["m/saved_model.pb", "m/variables/v"], "1/model.savedmodel", "m"),
    ("tensorrtWithVersion", "tensorrt", "m", ["m/1/model.plan"], "1/model.plan", "m/1/model.plan"),
    ("tensorrtRename", "tensorrt", "m", ["m/2/model_2.plan"], "2/model.plan", "m/2/model_2.plan"),
    ("tensorrtSimple", "tensorrt", "m", ["m/model.plan"], "1/model.plan", "m/model.plan"),
    ("tensorrtSubdir", "tensorrt", "m", ["m/myModel/model.plan"], "1", "m/myModel"),
    ("tensorrtSubdirMultifile", "tensorrt", "m", ["m/myModel/model.plan", "m/myModel/extra"], "1", "m/myModel"),
    ("tensorrtSimpleMultifile", "tensorrt", "m", ["m/model.plan", "m/extra"], "1", "m"),
    ("tensorrtUnexpected", "tensorrt", "m", ["m/a/model.plan", "m/b/model.plan", "m/c"], "1", "m"),
    ("pytorchWithVersion", "pytorch", "m", ["m/1/model.pt"], "1/model.pt", "m/1/model.pt"),
    ("pytorchSimpleRename", "pytorch", "m", ["m/model.plan"], "1/model.pt", "m/model.plan"),
    ("onnxWithVersionFile", "onnx", "m", ["m/1/model.onnx"], "1/model.onnx", "m/1/model.onnx"),
    ("onnxWithVersionDir", "onnx", "m", ["m/1/model.onnx/part"], "1/model.onnx", "m/1/model.onnx"),
    ("onnxWithVersionDirMultifile", "onnx", "m", ["m/1/model.onnx/a", "m/1/model.onnx/b"], "1/model.onnx", "m/1/model.onnx"),
    ("onnxSimpleRename", "onnx", "m", ["m/model.x"], "1/model.onnx", "m/model.x"),
    ("onnxMultifile", "onnx", "m", ["m/model.x", "m/variables"], "1/model.onnx", "m"),
    ("onnxSimpleSubdir", "onnx", "m", ["m/myModel/model.onnx"], "1/model.onnx", "m/myModel"),
    ("onnxSimpleSubdirMultifile", "onnx", "m", ["m/myModel/model.onnx", "m/myModel/more"], "1/model.onnx", "m/myModel"),
]


@pytest.mark.parametrize(("kind", "path", "inside", "place", "source"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_a_generated_layout(tmp_path: Path, kind: str, path: str, inside: list[str], place: str, source: str) -> None:
    root = files(tmp_path / "source", *inside)
    assert built(tmp_path, root / path, kind) == {place: root / source}
    assert not (tmp_path / "adapted/model-id" / config.NAME).exists()


class TestASchema:
    EMPTY = Schema(None, None)

    @pytest.mark.parametrize("inside", ["m/model.x", "m/1/model.x"])
    def test_that_is_empty_names_the_backend_only(self, tmp_path: Path, inside: str) -> None:
        root = files(tmp_path / "source", inside)
        assert built(tmp_path, root / "m", "onnx", self.EMPTY) == {"1/model.onnx": root / inside}
        assert (tmp_path / "adapted/model-id" / config.NAME).read_text() == 'backend: "onnxruntime"\n'

    def test_beside_the_files_is_none_of_them(self, tmp_path: Path) -> None:
        root = files(tmp_path / "source", "m/_schema.json", "m/saved_model/saved_model.pb")
        assert built(tmp_path, root / "m", "tensorflow", self.EMPTY) == {"1/model.savedmodel": root / "m/saved_model"}
        assert (tmp_path / "adapted/model-id" / config.NAME).read_text() == 'backend: "tensorflow"\n'

    def test_becomes_the_configuration(self, tmp_path: Path) -> None:
        root = files(tmp_path / "source", "m/1/model.pt")
        schema = Schema((Tensor("INPUT", "FP32", (3, 32, 32)),), (Tensor("OUTPUT", "INT64", (1,)),))
        built(tmp_path, root / "m", "pytorch", schema)
        assert config.rewrite((tmp_path / "adapted/model-id" / config.NAME).read_bytes(), "model-id", schema) is None
        text = (tmp_path / "adapted/model-id" / config.NAME).read_text()
        # In the order of the fields' numbers, in which `backend` is a late one.
        assert [line.strip() for line in text.splitlines()] == [
            *("input {", 'name: "INPUT"', "data_type: TYPE_FP32", "dims: 3", "dims: 32", "dims: 32", "}"),
            *("output {", 'name: "OUTPUT"', "data_type: TYPE_INT64", "dims: 1", "}"),
            'backend: "pytorch"',
        ]


class TestANativeRepository:
    def test_is_untouched_but_for_the_name(self, tmp_path: Path) -> None:
        root = files(tmp_path / "source", "1/model.savedmodel/saved_model.pb", "2/x", "labels.txt")
        (root / config.NAME).write_text('name: "theirs" # a comment\nmax_batch_size: 3\n')
        found = built(tmp_path, root, "tensorflow")
        assert found == {"1": root / "1", "2": root / "2", "labels.txt": root / "labels.txt"}
        assert (tmp_path / "adapted/model-id" / config.NAME).read_text() == "max_batch_size: 3\n"
        assert (root / config.NAME).read_text() == 'name: "theirs" # a comment\nmax_batch_size: 3\n'

    @pytest.mark.parametrize("text", ["", "# nothing\nmax_batch_size: 3\n"])
    def test_without_a_name_is_untouched(self, tmp_path: Path, text: str) -> None:
        root = files(tmp_path / "source", "1/model.plan", "saved_model.pb")
        (root / config.NAME).write_text(text)
        assert built(tmp_path, root, "tensorrt") == {name: root / name for name in ("1", "saved_model.pb", config.NAME)}

    def test_that_cannot_be_read_leaves_nothing(self, tmp_path: Path) -> None:
        root = files(tmp_path / "source", "1/model.plan")
        (root / config.NAME).write_text("name: {")
        with pytest.raises(InvalidRequest, match=r"config.pbtxt of model model-id cannot be read"):
            built(tmp_path, root, "tensorrt")
        assert not (tmp_path / "adapted/model-id").exists()


class TestFilesThatMakeNoSense:
    @pytest.mark.parametrize(("path", "name"), [("model.h5", "model.h5"), ("m", "m/model.h5"), ("m", "m/2/model.keras")])
    def test_a_keras_file_says_what_to_do(self, tmp_path: Path, path: str, name: str) -> None:
        root = files(tmp_path / "source", name)
        with pytest.raises(InvalidRequest, match=r"needs TensorFlow, which this adapter does not bring: convert it beforehand"):
            built(tmp_path, root / path, "keras")
        assert not (tmp_path / "adapted/model-id").exists()

    def test_files_that_are_not_there(self, tmp_path: Path) -> None:
        files(tmp_path / "source").joinpath("dangling").symlink_to(tmp_path / "nowhere")
        for name in ("absent", "dangling"):
            with pytest.raises(Missing, match=f"the files of model model-id are not there: {name}"):
                built(tmp_path, tmp_path / "source" / name, "onnx")

    def test_circles_of_links_are_not_followed(self, tmp_path: Path) -> None:
        root = files(tmp_path / "source", "m/1/model.onnx")
        (root / "m" / "2").symlink_to(root / "m")
        (root / "m" / "loop").symlink_to("loop")
        assert built(tmp_path, root / "m", "onnx") == {"1/model.onnx": root / "m/1/model.onnx"}
        (root / "m" / config.NAME).write_text("")
        assert set(built(tmp_path, root / "m", "onnx")) == {"1", "2", "loop", config.NAME}

    def test_a_configuration_that_is_no_file_makes_no_repository(self, tmp_path: Path) -> None:
        root = files(tmp_path / "source", f"m/{config.NAME}/x", "m/model.onnx")
        assert built(tmp_path, root / "m", "onnx") == {"1/model.onnx": root / "m"}

    @pytest.mark.parametrize("native", [True, False])
    def test_thousands_of_files_are_linked_one_level_deep(self, tmp_path: Path, native: bool) -> None:
        root = files(tmp_path / "source", *(f"part-{number}" for number in range(2_000)))
        if native:
            (root / config.NAME).write_text('name: "theirs"')
        found = built(tmp_path, root, UNKNOWN)
        assert len(found) == (2_000 if native else 1)

    def test_replaces_an_older_layout_and_never_what_it_points_at(self, tmp_path: Path) -> None:
        root = files(tmp_path / "source", "old/a", "old/b", "new/a")
        built(tmp_path, root / "old", UNKNOWN)
        assert built(tmp_path, root / "new", UNKNOWN) == {"1": root / "new"}
        assert (root / "old/a").exists()


class TestAnId:
    @given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-.", min_size=1, max_size=200).filter(lambda text: text[0].isalnum()))
    async def test_of_kubernetes_is_a_folder_of_that_name(self, model_id: str) -> None:
        adapter = TritonAdapter(Path("/nowhere"), 1, 1.0)
        with pytest.raises(Missing, match="Failed to load Model due to adapter error: the files"):
            adapter.prepare(LocalModel(model_id, "onnx", Path("/absent"), None))
        await adapter.close()

    @given(st.text(min_size=1).filter(lambda text: not text.isascii() or any(one in text for one in "/ %\\:") or text[0] in "._"))
    async def test_that_is_no_plain_folder_name_is_refused(self, model_id: str) -> None:
        adapter = TritonAdapter(Path("/nowhere"), 1, 1.0)
        with pytest.raises(InvalidRequest, match="Triton takes a model's name from a folder"):
            adapter.prepare(LocalModel(model_id, "onnx", Path("/absent"), None))
        await adapter.close()
