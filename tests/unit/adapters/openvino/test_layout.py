"""The folder OpenVINO Model Server loads from, case by case; and the version that is served of a model with several."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import Missing
from runtime_adapters.layouts import newest_version
from runtime_adapters.openvino import layout
from runtime_adapters.openvino.adapter import FOLDER, OpenVinoAdapter
from runtime_adapters.openvino.settings import OpenVinoSettings
from runtime_adapters.settings import Settings
from runtime_adapters.storage import tree


def files(folder: Path, *names: str) -> Path:
    """A folder of these files; a name that ends with / is a directory."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(name)
    return folder


def built(tmp_path: Path, path: Path, kind: str = "") -> dict[str, Path]:
    """The links of the layout, and what each points at."""
    target = tmp_path / "adapted" / "model-id"
    layout.build(target, LocalModel("model-id", kind, path, None))
    entries = {str(entry.relative_to(target)): entry for entry in target.rglob("*")}
    links = {name: entry.readlink() for name, entry in entries.items() if entry.is_symlink()}
    assert all(name in links or any(link.startswith(f"{name}/") for link in links) for name in entries), "nothing else lies there"
    return links


class TestTheTableOfModelMesh:
    @pytest.mark.parametrize("name", ["model.onnx", "mymodel.data"], ids=["onnxSimple", "onnxRename"])
    def test_an_onnx_file(self, tmp_path: Path, name: str) -> None:
        source = files(tmp_path / "source", name)
        assert built(tmp_path, source / name, "onnx") == {"1/model.onnx": source / name}

    def test_a_file_of_another_type_keeps_its_name(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "net.tflite")
        assert built(tmp_path, source / "net.tflite", "openvino_ir") == {"1/net.tflite": source / "net.tflite"}

    def test_openvino_simple(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "mnist.bin", "mnist.xml", "mnist.mapping")
        assert built(tmp_path, source, "openvino_ir") == {"1": source}

    @pytest.mark.parametrize(
        ("inside", "kind", "chosen"),
        [
            (["2/model.onnx", "6/model.onnx"], "onnx", "6"),
            (["2/m.bin", "2/m.xml", "5/m.bin", "5/m.xml"], "openvino_ir", "5"),
            (["9/m.xml", "10/m.xml", "README.md"], "openvino_ir", "10"),
        ],
        ids=["onnxNativeLayout", "openvinoNativeLayout", "by number, not by letters"],
    )
    def test_a_native_layout(self, tmp_path: Path, inside: list[str], kind: str, chosen: str) -> None:
        source = files(tmp_path / "source", *inside)
        assert built(tmp_path, source, kind) == {chosen: source / chosen}

    def test_path_to_file(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "deep/down/model.onnx")
        assert built(tmp_path, source / "deep/down/model.onnx", "onnx") == {"1/model.onnx": source / "deep/down/model.onnx"}

    def test_path_to_dir(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "deep/down/m.xml", "deep/down/m.bin")
        assert built(tmp_path, source / "deep/down", "openvino_ir") == {"1": source / "deep/down"}

    def test_version_dir(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "2/m.xml", "2/m.bin")
        assert built(tmp_path, source / "2", "openvino_ir") == {"1": source / "2"}


class TestVersionDirectories:
    @pytest.mark.parametrize("other", ["assets", "v2", "1.0", "1_0", "٣", ".git", "9" * 30, ""])
    def test_a_directory_of_another_name_says_that_there_are_none(self, tmp_path: Path, other: str) -> None:
        source = files(tmp_path / "source", "1/m.xml", f"{other or '0'}/x")
        expected = None if other else (1, source / "1")
        assert newest_version(source) == expected

    @pytest.mark.parametrize("inside", [[], ["m.xml", "7"], ["0/m.xml"], ["-3/m.xml", "0/m.xml"]])
    def test_none_is_chosen_that_is_not_positive_and_no_directory(self, tmp_path: Path, inside: list[str]) -> None:
        assert newest_version(files(tmp_path / "source", *inside)) is None

    def test_a_number_may_be_written_with_zeros_and_is_linked_without(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "007/m.xml", "3/m.xml")
        assert built(tmp_path, source) == {"7": source / "007"}
        (source / "7").mkdir()
        assert built(tmp_path, source) == {"7": source / "7"}

    def test_links_are_not_followed_out_of_the_model_and_loops_end(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "1/m.xml")
        (source / "5").symlink_to(files(tmp_path / "elsewhere", "secret"))
        (source / "6").symlink_to(source / "6")
        (source / "7").symlink_to("..")
        (source / "latest").symlink_to("1")
        assert newest_version(source) == (1, source / "1")

    def test_a_huge_directory_is_linked_as_one(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", *(f"{number}/" for number in range(1, 3000)), *(f"file-{number}" for number in range(3000)))
        assert built(tmp_path, source) == {"2999": source / "2999"}

    @given(st.sets(st.integers(-5, 2**63 - 1), min_size=1, max_size=8))
    def test_it_is_the_largest(self, tmp_path_factory: pytest.TempPathFactory, numbers: set[int]) -> None:
        source = files(tmp_path_factory.mktemp("versions"), *(f"{number}/" for number in numbers))
        largest = max(numbers)
        assert newest_version(source) == ((largest, source / str(largest)) if largest > 0 else None)


class TestALayout:
    def test_replaces_an_older_one_and_follows_none_of_its_links(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "old/m.xml", "new/m.xml")
        built(tmp_path, source / "old")
        (tmp_path / "adapted" / "model-id" / "loop").symlink_to(".")
        assert built(tmp_path, source / "new") == {"1": source / "new"}
        assert (source / "old" / "m.xml").exists()
        tree.remove(tmp_path / "adapted" / "model-id")
        assert (source / "new" / "m.xml").exists()

    @pytest.mark.parametrize("kind", ["missing", "dangling", "loop"])
    def test_of_nothing_is_refused_and_leaves_nothing(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "model"
        if kind != "missing":
            path.symlink_to(path if kind == "loop" else tmp_path / "nowhere")
        with pytest.raises(Missing, match="has no file or directory 'model'"):
            built(tmp_path, path)
        assert not (tmp_path / "adapted").exists()


ID = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300)


class TestTheFolderOfAModel:
    """Names are the users': every one has a folder of its own, directly below the adapter's."""

    @staticmethod
    def adapter(root: Path) -> OpenVinoAdapter:
        environment = {"CONTAINER_MEM_REQ_BYTES": "1", "ROOT_MODEL_DIR": str(root)}
        return OpenVinoAdapter(Settings.load(environment), OpenVinoSettings.load(environment))

    @pytest.mark.parametrize(
        "name",
        ["a.b-c", "with.dots-and-dashes", "A_B~C", "a/b", "../../escape", "/etc/passwd", "..", ".", "1", " ", "ä", "x" * 253, "x" * 2000],
    )
    async def test_stays_inside_whatever_the_name(self, tmp_path: Path, name: str) -> None:
        adapter = self.adapter(tmp_path / "models")
        source = files(tmp_path / "source", "m.xml")
        adapter.prepare(LocalModel(name, "openvino_ir", source, None))
        (folder,) = (tmp_path / "models" / FOLDER).iterdir()
        assert {entry.name for entry in folder.iterdir()} == {"1"}
        adapter.discard(name)
        assert not list((tmp_path / "models" / FOLDER).iterdir())
        assert (source / "m.xml").exists()
        await adapter.close()

    @given(ID, ID)
    def test_is_its_own(self, one: str, other: str) -> None:
        from runtime_adapters.paths import folder_name

        assert (folder_name(one) == folder_name(other)) is (one == other)
