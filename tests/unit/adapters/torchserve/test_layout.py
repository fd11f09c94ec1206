"""TorchServe's model store, case by case: which file of which model lies there under which name, and what is refused."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import InvalidRequest, Missing
from runtime_adapters.schema import Schema, Tensor
from runtime_adapters.settings import Settings
from runtime_adapters.torchserve import layout
from runtime_adapters.torchserve.adapter import FOLDER, TorchServeAdapter
from runtime_adapters.torchserve.settings import TorchServeSettings

SCHEMA = Schema((Tensor("image", "FP32", (-1, 3, 32, 32)),), None)
BAD_ARCHIVE = "is not a model archive: make a .mar file of it with torch-model-archiver"
UNREADABLE = "the configuration in the archive of model model-id cannot be read: "


def archive(path: Path, *, config: str | None = None, manifest: str | None = None, more: Iterable[str] = ()) -> Path:
    """A model archive as torch-model-archiver makes them, with `more` empty files."""
    model = {"modelName": "theirs", "handler": "h.py", "modelVersion": "1.0"}
    if config is not None:
        model["configFile"] = "model-config.yaml"
    described = {"createdOn": "1/1/2026", "model": model}
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(layout.MANIFEST, json.dumps(described) if manifest is None else manifest)
        if config is not None:
            file.writestr("model-config.yaml", config)
        for name in more:
            file.writestr(name, b"")
    return path


def built(store: Path, path: Path, model_id: str = "model-id", schema: Schema | None = None) -> dict[str, Path]:
    """The links in the store, and what each points at."""
    store.mkdir(exist_ok=True)
    layout.build(store, LocalModel(model_id, "pytorch-mar", path, schema))
    return {entry.name: entry.readlink() for entry in store.iterdir() if entry.is_symlink()}


class TestAnArchive:
    @pytest.mark.parametrize("name", ["model.mar", "theirs", "weights.pt", "a b.mar"])
    def test_is_linked_under_the_name_of_the_model(self, tmp_path: Path, name: str) -> None:
        source = archive(tmp_path / "source" / name)
        assert built(tmp_path / "store", source) == {"model-id.mar": source}

    def test_that_is_given_by_a_relative_path_is_linked_by_an_absolute_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = archive(tmp_path / "source" / "model.mar")
        monkeypatch.chdir(source.parent)
        assert built(tmp_path / "store", Path("model.mar")) == {"model-id.mar": source}

    def test_replaces_an_older_one_and_never_what_it_points_at(self, tmp_path: Path) -> None:
        old, new = archive(tmp_path / "old.mar"), archive(tmp_path / "new.mar")
        built(tmp_path / "store", old, schema=SCHEMA)
        assert built(tmp_path / "store", new) == {"model-id.mar": new}
        assert layout.facts(tmp_path / "store", "model-id").schema is None, "the schema of the older one is not the newer one's"
        layout.remove(tmp_path / "store", "model-id")
        layout.remove(tmp_path / "store", "model-id")
        assert list((tmp_path / "store").iterdir()) == []
        assert old.exists()
        assert new.exists()

    def test_keeps_its_schema_beside_it_for_an_adapter_that_restarts(self, tmp_path: Path) -> None:
        built(tmp_path / "store", archive(tmp_path / "model.mar"), schema=SCHEMA)
        assert layout.facts(tmp_path / "store", "model-id") == (SCHEMA, layout.ROWS)
        layout.remove(tmp_path / "store", "model-id")
        assert list((tmp_path / "store").iterdir()) == []

    @pytest.mark.parametrize(
        ("config", "way"),
        [(None, "rows"), ("", "rows"), ("minWorkers: 1\n", "rows"), ("v2: rows\n", "rows"), ("v2: request\n", "request"), ("[]", "rows")],
    )
    def test_says_how_its_handler_takes_v2_requests(self, tmp_path: Path, config: str | None, way: str) -> None:
        built(tmp_path / "store", archive(tmp_path / "model.mar", config=config))
        assert layout.facts(tmp_path / "store", "model-id") == (None, way)

    def test_of_a_model_that_is_not_there_says_nothing(self, tmp_path: Path) -> None:
        assert layout.facts(tmp_path, "unknown") == (None, layout.ROWS)

    def test_with_ten_thousand_files_is_one_link(self, tmp_path: Path) -> None:
        source = archive(tmp_path / "model.mar", more=(f"extra/{number}" for number in range(10_000)))
        assert built(tmp_path / "store", source) == {"model-id.mar": source}


class TestWhatIsNoArchive:
    def test_a_directory_is_refused_in_the_words_of_modelmesh(self, tmp_path: Path) -> None:
        archive(tmp_path / "folder" / "model.mar")
        with pytest.raises(InvalidRequest, match="Model path is a directory, must be a MAR file"):
            built(tmp_path / "store", tmp_path / "folder")
        assert list((tmp_path / "store").iterdir()) == []

    def test_a_directory_with_a_huge_number_of_files_is_not_even_listed(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        for number in range(3000):
            (tmp_path / "folder" / f"{number}.mar").touch()
        with pytest.raises(InvalidRequest, match="Model path is a directory"):
            built(tmp_path / "store", tmp_path / "folder")

    @pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04 and nothing else"])
    def test_any_other_file_is_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "model.mar").write_bytes(content)
        with pytest.raises(InvalidRequest, match=f"'model.mar' of model model-id {BAD_ARCHIVE}"):
            built(tmp_path / "store", tmp_path / "model.mar")

    def test_a_zip_file_without_a_manifest_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "model.zip", "w") as file:
            file.writestr("handler.py", "")
        with pytest.raises(InvalidRequest, match=BAD_ARCHIVE):
            built(tmp_path / "store", tmp_path / "model.zip")

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "model.mar")
        with pytest.raises(InvalidRequest, match=BAD_ARCHIVE):
            built(tmp_path / "store", tmp_path / "model.mar")

    @pytest.mark.parametrize("kind", ["missing", "dangling", "loop"])
    def test_nothing_is_missing(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "model.mar"
        if kind != "missing":
            path.symlink_to(path if kind == "loop" else tmp_path / "nowhere")
        with pytest.raises(Missing, match=r"the archive of model model-id is not there: model\.mar"):
            built(tmp_path / "store", path)

    @pytest.mark.parametrize(
        "manifest", ["", "{", "[]", "5", "{}", '{"model": 5}', '{"model": {"configFile": "absent.yaml"}}', "[" * 60_000]
    )
    def test_a_manifest_that_makes_no_sense_is_refused(self, tmp_path: Path, manifest: str) -> None:
        with pytest.raises(InvalidRequest, match=UNREADABLE):
            built(tmp_path / "store", archive(tmp_path / "model.mar", manifest=manifest))

    @pytest.mark.parametrize(
        ("config", "said"),
        [
            ("v2: both\n", "`v2: both` in the configuration of model model-id's archive must be `rows` or `request`"),
            ("v2: [", UNREADABLE),
            ("- " * 10_000, UNREADABLE),
            (" " * (layout.MAX_DOCUMENT + 1), "model-config.yaml has 65537 bytes, more than the 65536 that are read"),
        ],
        ids=["unknown", "no YAML", "deep", "large"],
    )
    def test_a_configuration_that_makes_no_sense_is_refused(self, tmp_path: Path, config: str, said: str) -> None:
        with pytest.raises(InvalidRequest, match=said):
            built(tmp_path / "store", archive(tmp_path / "model.mar", config=config))

    def test_a_configuration_is_never_read_from_outside_of_the_archive(self, tmp_path: Path) -> None:
        (tmp_path / "secret.yaml").write_text("v2: request")
        for name in ("../secret.yaml", str(tmp_path / "secret.yaml")):
            manifest = json.dumps({"model": {"configFile": name}})
            with pytest.raises(InvalidRequest, match="There is no item named"):
                built(tmp_path / "store", archive(tmp_path / "model.mar", manifest=manifest))

    @given(st.data())
    def test_a_damaged_archive_is_taken_or_refused_and_nothing_else(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        folder = tmp_path_factory.mktemp("damaged")
        content = bytearray(archive(folder / "whole.mar", config="v2: request\n").read_bytes())
        for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
            content[at] = data.draw(st.integers(0, 255))
        (folder / "model.mar").write_bytes(content)
        with suppress(InvalidRequest):
            assert built(folder / "store", folder / "model.mar") == {"model-id.mar": folder / "model.mar"}


ID = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)


class TestTheNameOfAModel:
    """Names are the users': every one is one file of the store, which TorchServe finds by the name it is told."""

    @staticmethod
    def adapter(root: Path) -> TorchServeAdapter:
        variables = {"CONTAINER_MEM_REQ_BYTES": "1", "ROOT_MODEL_DIR": str(root)}
        return TorchServeAdapter(Settings.load(variables), TorchServeSettings.load(variables))

    @pytest.mark.parametrize("name", ["a.b-c", "0", "x" * 63, "with.dots-and--dashes", "pytorch-cifar__isvc-6b2eb0b8bf", "A_b"])
    def test_of_kubernetes_stands_as_it_is(self, name: str) -> None:
        assert layout.file_name(name) == f"{name}.mar"

    @pytest.mark.parametrize(
        ("name", "file"),
        [("a/b", "a%2Fb"), ("a\\b", "a%5Cb"), ("../up", "%2E.%2Fup"), ("..", "%2E."), ("50%", "50%25"), ("a b", "a%20b"), ("ä", "%C3%A4")],
    )
    def test_of_other_characters_is_escaped(self, name: str, file: str) -> None:
        assert layout.file_name(name) == f"{file}.mar"

    @given(ID, ID)
    def test_is_its_own_and_stays_in_the_store(self, one: str, other: str) -> None:
        assert (layout.file_name(one) == layout.file_name(other)) is (one == other)
        assert not set("/\\:\0") & set(layout.file_name(one))
        assert len(layout.file_name(one)) <= 255

    @pytest.mark.parametrize("name", ["a.b-c", "../../escape", "/etc/passwd", "..", ".", " ", "ä", "x" * 253, "x" * 2000, "back\\slash"])
    async def test_is_made_and_removed_in_the_store_whatever_it_is(self, tmp_path: Path, name: str) -> None:
        adapter = self.adapter(tmp_path / "models")
        adapter.folder.mkdir(parents=True)
        source = archive(tmp_path / "model.mar")
        adapter.prepare(LocalModel(name, "pytorch-mar", source, SCHEMA))
        assert adapter.folder == tmp_path / "models" / FOLDER / "store"
        made = list(adapter.folder.iterdir())
        assert len(made) == 2
        assert adapter.folder / layout.file_name(name) in made
        adapter.discard(name)
        assert list(adapter.folder.iterdir()) == []
        assert source.exists()
        await adapter.close()

    async def test_a_refusal_says_what_was_being_done(self, tmp_path: Path) -> None:
        adapter = self.adapter(tmp_path)
        adapter.folder.mkdir(parents=True)
        with pytest.raises(InvalidRequest, match=r"^Failed to load Model due to adapter error: Model path is a directory"):
            adapter.prepare(LocalModel("m", "pytorch-mar", tmp_path, None))
        await adapter.close()


def test_the_configuration_is_whole_or_not_there_and_survives_javas_reading(tmp_path: Path) -> None:
    store = tmp_path / "a b\\c ä 𝄞" / "store"
    layout.write_properties(tmp_path, store, 1, 2, 3)
    assert [entry.name for entry in tmp_path.iterdir()] == [layout.PROPERTIES]
    text = (tmp_path / layout.PROPERTIES).read_text(encoding="ascii")
    lines = dict(line.split("=", 1) for line in text.splitlines())
    assert lines["model_store"] == f"{tmp_path}/a\\u0020b\\\\c\\u0020\\u00e4\\u0020\\ud834\\udd1e/store"
    assert lines["inference_address"] == "http://127.0.0.1:3"
    assert (lines["grpc_management_port"], lines["grpc_inference_port"]) == ("1", "2")
    # As ModelMesh's adapter writes it, and TorchServe is configured by where it is used today.
    expected = {"enable_envvars_config": "true", "metric_time_interval": "10", "number_of_netty_threads": "8", "job_queue_size": "512"}
    assert expected.items() <= lines.items()
