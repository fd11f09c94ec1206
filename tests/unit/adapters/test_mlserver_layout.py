"""The folder MLServer loads from, case by case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_adapters.adapter import LocalModel
from runtime_adapters.errors import InvalidRequest
from runtime_adapters.mlserver import layout
from runtime_adapters.mlserver.implementations import IMPLEMENTATIONS, huggingface_task, implementation, mllib_format
from runtime_adapters.schema import Schema, Tensor, read

INPUT = Tensor("INPUT", "FP32", (1, 784))
OUTPUT = Tensor("OUTPUT", "INT64", (1,))


def files(folder: Path, *names: str, settings: object = None) -> Path:
    """A model of these files; a name that ends with / is a directory."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(name)
    if settings is not None:
        (folder / layout.SETTINGS).write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return folder


def built(tmp_path: Path, path: Path, kind: str = "", schema: Schema | None = None) -> tuple[dict[str, Any], dict[str, Path]]:
    """The settings, and what each link points at."""
    target = tmp_path / "adapted" / "model-id"
    layout.build(target, LocalModel("model-id", kind, path, schema))
    links = {entry.name: entry.readlink() for entry in target.iterdir() if entry.is_symlink()}
    assert {entry.name for entry in target.iterdir()} == {layout.SETTINGS, *links}
    return json.loads((target / layout.SETTINGS).read_text()), links


class TestAGeneratedLayout:
    @pytest.mark.parametrize("kind", sorted(IMPLEMENTATIONS))
    def test_of_a_single_file(self, tmp_path: Path, kind: str) -> None:
        source = files(tmp_path / "source", "some-file")
        settings, links = built(tmp_path, source / "some-file", kind)
        assert links == {"some-file": source / "some-file"}
        assert settings == {
            "name": "model-id",
            "implementation": IMPLEMENTATIONS[kind],
            "parameters": {"uri": str(tmp_path / "adapted/model-id/some-file")},
        }

    @pytest.mark.parametrize("inside", [["somefile"], ["a/b/c", "a/d", "e"], []])
    def test_of_a_directory(self, tmp_path: Path, inside: list[str]) -> None:
        source = files(tmp_path / "somedir", *inside)
        settings, links = built(tmp_path, source, "sklearn")
        assert links == {"somedir": source}
        assert settings["parameters"] == {"uri": str(tmp_path / "adapted/model-id/somedir")}

    @pytest.mark.parametrize("kind", ["", "my-own", "pytorch"])
    def test_of_an_unknown_type_leaves_the_class_to_the_server(self, tmp_path: Path, kind: str) -> None:
        settings, _ = built(tmp_path, files(tmp_path / "source", "f") / "f", kind)
        assert "implementation" not in settings

    def test_takes_inputs_and_outputs_from_a_schema(self, tmp_path: Path) -> None:
        path = files(tmp_path / "source", "model.json") / "model.json"
        settings, _ = built(tmp_path, path, "xgboost", Schema((INPUT,), (OUTPUT,)))
        assert settings["inputs"] == [{"name": "INPUT", "datatype": "FP32", "shape": [1, 784]}]
        assert settings["outputs"] == [{"name": "OUTPUT", "datatype": "INT64", "shape": [1]}]

    def test_of_spark_names_the_format_that_was_saved(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "data/part-0")
        (source / "metadata").mkdir()
        (source / "metadata/part-00000").write_text('{"class":"org.apache.spark.mllib.classification.SVMModel","version":"1.0"}\n')
        settings, _ = built(tmp_path, source, "mllib")
        assert settings["parameters"]["format"] == "SVM"
        assert settings["implementation"] == "mlserver_mllib.MLlibModel"

    @pytest.mark.parametrize(
        ("kind", "inside"), [("mlflow", ["MLmodel", "python_env.yaml", "data/model.pkl"]), ("catboost", ["model.cbm"])]
    )
    def test_of_a_saved_directory_is_the_directory(self, tmp_path: Path, kind: str, inside: list[str]) -> None:
        source = files(tmp_path / "saved", *inside)
        settings, links = built(tmp_path, source, kind)
        assert links == {"saved": source}
        assert (
            settings["implementation"] == {"mlflow": "mlserver_mlflow.MLflowRuntime", "catboost": "mlserver_catboost.CatboostModel"}[kind]
        )
        assert settings["parameters"] == {"uri": str(tmp_path / "adapted/model-id/saved")}

    @pytest.mark.parametrize(
        ("architecture", "task"),
        [
            ("BloomForCausalLM", "text-generation"),
            ("DistilBertForSequenceClassification", "text-classification"),
            ("GPT2LMHeadModel", "text-generation"),
        ],
    )
    def test_of_a_transformer_names_its_task(self, tmp_path: Path, architecture: str, task: str) -> None:
        source = files(tmp_path / "saved", "model.safetensors", "tokenizer.json")
        (source / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": "any"}))
        settings, links = built(tmp_path, source, "huggingface")
        assert settings["implementation"] == "mlserver_huggingface.HuggingFaceRuntime"
        assert settings["parameters"] == {"uri": str(tmp_path / "adapted/model-id/saved"), "extra": {"task": task}}
        assert links == {"saved": source}

    @pytest.mark.parametrize("name", ["half?.joblib", "model#1.joblib", "two\nlines.joblib"])
    def test_of_a_name_that_is_more_than_a_path_in_a_url(self, tmp_path: Path, name: str) -> None:
        source = files(tmp_path / "source", name)
        settings, links = built(tmp_path, source / name, "sklearn")
        (link,) = links
        assert not set("?#\n") & set(link)
        assert link.endswith(".joblib")
        assert links[link] == source / name
        assert settings["parameters"]["uri"] == str(tmp_path / "adapted/model-id" / link)

    def test_takes_text_for_text(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "f")
        settings, _ = built(tmp_path, source / "f", schema=Schema((Tensor("words", "STRING", (-1,)), Tensor("blob", "BYTES", (1,))), None))
        assert settings["inputs"] == [
            {"name": "words", "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "str"}},
            {"name": "blob", "datatype": "BYTES", "shape": [1]},
        ]

    def test_replaces_an_older_one(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", "old", "new")
        built(tmp_path, source / "old")
        _, links = built(tmp_path, source / "new")
        assert set(links) == {"new"}
        assert (source / "old").exists()


class TestANativeLayout:
    def test_links_everything_and_takes_the_meshs_name(self, tmp_path: Path) -> None:
        own = {"name": "theirs", "implementation": "some.Class"}
        source = files(tmp_path / "source", "somefile", "somedir/data", settings=own)
        settings, links = built(tmp_path, source, "sklearn")
        assert settings == {"name": "model-id", "implementation": "some.Class"}
        assert links == {"somefile": source / "somefile", "somedir": source / "somedir"}
        assert json.loads((source / layout.SETTINGS).read_text()) == own

    @pytest.mark.parametrize("own", ["", "{}", "  \n"])
    def test_of_empty_settings_gets_a_name(self, tmp_path: Path, own: str) -> None:
        settings, links = built(tmp_path, files(tmp_path / "source", "data/", "metadata/", settings=own), "mllib")
        assert settings == {"name": "model-id"}
        assert set(links) == {"data", "metadata"}

    @pytest.mark.parametrize(
        ("uri", "expected"),
        [
            ("./mnist-svm-00000000", "mnist-svm-00000000"),
            ("data/model.pkl", "data/model.pkl"),
            ("/etc/passwd", "etc/passwd"),
            ("../../other-model/secret", "other-model/secret"),
        ],
    )
    def test_keeps_its_uri_inside(self, tmp_path: Path, uri: str, expected: str) -> None:
        own = {"parameters": {"uri": uri, "version": "v0.1.0"}}
        settings, _ = built(tmp_path, files(tmp_path / "source", "aaaaa.json", settings=own))
        assert settings["parameters"] == {"uri": str(tmp_path / "adapted/model-id" / expected), "version": "v0.1.0"}

    def test_keeps_what_a_schema_does_not_mention(self, tmp_path: Path) -> None:
        own = {"inputs": [{"name": "THEIRS"}], "outputs": [{"name": "THEIRS"}]}
        source = files(tmp_path / "source", settings=own)
        settings, _ = built(tmp_path, source, schema=Schema(None, (Tensor("NEW_OUTPUT", "FP32", (1, 1)),)))
        assert settings["inputs"] == [{"name": "THEIRS"}]
        assert settings["outputs"] == [{"name": "NEW_OUTPUT", "datatype": "FP32", "shape": [1, 1]}]

    def test_keeps_content_types_under_a_schema(self, tmp_path: Path) -> None:
        own = {"inputs": [{"name": "INPUT", "datatype": "FP64", "shape": [-1], "parameters": {"content_type": "np"}}, 5], "outputs": "?"}
        settings, _ = built(tmp_path, files(tmp_path / "source", settings=own), schema=Schema((INPUT,), (OUTPUT,)))
        assert settings["inputs"] == [{"name": "INPUT", "datatype": "FP32", "shape": [1, 784], "parameters": {"content_type": "np"}}]
        assert settings["outputs"] == [{"name": "OUTPUT", "datatype": "INT64", "shape": [1]}]

    def test_keeps_whatever_else_a_class_is_told(self, tmp_path: Path) -> None:
        own = {
            "implementation": "own.Model",
            "max_batch_size": 8,
            "parameters": {
                "content_type": "pd",
                "format": "x",
                "inference_pool_gid": "g",
                "extra": {"nested": {"uri": "../kept"}},
                "new": None,
            },
        }
        settings, _ = built(tmp_path, files(tmp_path / "source", "own.py", settings=own))
        assert settings == own | {"name": "model-id"}

    @pytest.mark.parametrize("name", layout.ENVIRONMENTS)
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("env.tar.gz", "{}/env.tar.gz"),
            ("./envs/own", "{}/envs/own"),
            ("../other-model/env", "{}/other-model/env"),
            ("/opt/envs/shared", "/opt/envs/shared"),
            ("$CONDA_PREFIX/envs/x", "$CONDA_PREFIX/envs/x"),
        ],
    )
    def test_names_an_environment_of_its_own_or_of_the_server(self, tmp_path: Path, name: str, given: str, expected: str) -> None:
        own = {"parameters": {name: given}}
        settings, _ = built(tmp_path, files(tmp_path / "source", settings=own))
        assert settings["parameters"] == {name: expected.format(tmp_path / "adapted/model-id")}

    @pytest.mark.parametrize(
        ("own", "said"),
        [
            ("{", "is not JSON"),
            ('{"parameters": {"environment_path": []}}', "`parameters.environment_path` .* must be a string, not list"),
            ("[]", "must hold an object, not list"),
            ('{"parameters": "uri"}', "`parameters` .* must be an object, not str"),
            ('{"parameters": {"uri": 5}}', "`parameters.uri` .* must be a string, not int"),
        ],
    )
    def test_that_makes_no_sense_is_refused_and_nothing_is_made(self, tmp_path: Path, own: str, said: str) -> None:
        source = files(tmp_path / "source", settings=own)
        with pytest.raises(InvalidRequest, match=said) as failure:
            built(tmp_path, source)
        assert "model-id" in failure.value.message
        assert not (tmp_path / "adapted/model-id").exists()

    @pytest.mark.parametrize("at_the_top", [None, {"name": "own"}])
    def test_has_no_settings_deeper_down(self, tmp_path: Path, at_the_top: object) -> None:
        """MLServer would serve them as a model of their own, perhaps in the place of another."""
        files(tmp_path / "source/some/inner", settings={"name": "victim"})
        files(tmp_path / "source", settings=at_the_top)
        (tmp_path / "source/circle").symlink_to(tmp_path / "source")
        with pytest.raises(InvalidRequest, match=r"model model-id has a model-settings.json in 'some/inner'"):
            built(tmp_path, tmp_path / "source", "sklearn")
        assert not (tmp_path / "adapted/model-id").exists()

    def test_may_have_circles_of_links(self, tmp_path: Path) -> None:
        source = files(tmp_path / "source", settings={})
        (source / "circle").symlink_to(source)
        _, links = built(tmp_path, source)
        assert set(links) == {"circle"}


@given(st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.dictionaries(st.text(), st.text())), st.text())
def test_any_uri_stays_inside(own: dict[str, Any], uri: str) -> None:
    document = json.dumps({**own, "parameters": {"uri": uri}}).encode()
    settings = layout.native_settings(document, Path("/root/model-id"), LocalModel("model-id", "", Path("/source"), None))
    assert settings["name"] == "model-id"
    assert ".." not in Path(settings["parameters"]["uri"]).parts
    assert Path(settings["parameters"]["uri"]).is_relative_to("/root/model-id")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"class": 5}', '{"class": "org.Other"}', "{}"])
def test_a_spark_format_that_cannot_be_told_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/part-00000").write_text(text)
    assert mllib_format(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"architectures": []}', '{"architectures": [5]}', '{"architectures": ["T5ForConditionalGeneration"]}']
)
def test_a_task_that_cannot_be_told_is_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert huggingface_task(tmp_path) is None
    settings, _ = built(tmp_path, tmp_path, "huggingface")
    assert set(settings["parameters"]) == {"uri"}


def test_a_type_may_be_written_with_underscores() -> None:
    assert implementation("alibi_detect") == implementation("alibi-detect") is not None


class TestASchemaFile:
    def test_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "s.json").write_text('{"inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [1, 784]}]}')
        assert read(tmp_path / "s.json") == Schema((INPUT,), None)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "is not JSON"),
            ("[]", "must hold an object"),
            ('{"inputs": {}}', "must be a list"),
            ('{"inputs": [5]}', r"inputs of schema file s.json\[0\] must be an object"),
            ('{"inputs": [{}]}', "needs a name"),
            ('{"outputs": [{"name": "x", "datatype": "float", "shape": []}]}', "has datatype 'float'"),
            ('{"outputs": [{"name": "x", "datatype": "FP32", "shape": [1.5]}]}', "needs a shape"),
            ('{"outputs": [{"name": "x", "datatype": "FP32", "shape": [true]}]}', "needs a shape"),
        ],
    )
    def test_that_makes_no_sense_says_where(self, tmp_path: Path, text: str, said: str) -> None:
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(InvalidRequest, match=said):
            read(tmp_path / "s.json")
