"""The file that lists the models survives whatever happens; durations are read as Go writes them; statuses of any form are understood."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime_adapters.openvino import statuses
from runtime_adapters.openvino.config import ConfigFile
from runtime_adapters.openvino.settings import OpenVinoSettings, duration
from runtime_adapters.settings import SettingsError


class TestTheFile:
    @given(models=st.dictionaries(st.text(), st.text(), max_size=5))
    def test_gives_back_what_was_written(self, tmp_path_factory: pytest.TempPathFactory, models: dict[str, str]) -> None:
        file = ConfigFile(tmp_path_factory.mktemp("config") / "config.json")
        file.write(models)
        assert ConfigFile(file.path).restore() == models

    def test_has_the_form_that_the_server_reads(self, tmp_path: Path) -> None:
        ConfigFile(tmp_path / "config.json").write({"m": "/models/_ovms_models/m"})
        expected = {"model_config_list": [{"config": {"name": "m", "base_path": "/models/_ovms_models/m"}}]}
        assert json.loads((tmp_path / "config.json").read_text()) == expected
        assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o644

    def test_is_made_empty_where_there_is_none(self, tmp_path: Path) -> None:
        assert ConfigFile(tmp_path / "new" / "config.json").restore() == {}
        assert json.loads((tmp_path / "new" / "config.json").read_text()) == {"model_config_list": []}

    @pytest.mark.parametrize(
        "text",
        [
            *("", "{", "[]", "3", "{}", "[" * 100_000, "\x80", '{"model_config_list": 3}', '{"model_config_list": [{}]}'),
            '{"model_config_list": [{"config": {"name": 3, "base_path": "/a"}}]}',
        ],
    )
    def test_that_is_damaged_is_kept_beside_a_new_one(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "config.json"
        path.write_text(text, encoding="latin-1")
        assert ConfigFile(path).restore() == {}
        assert json.loads(path.read_text()) == {"model_config_list": []}
        assert (tmp_path / "config.json.damaged").read_text(encoding="latin-1") == text

    def test_what_else_the_entries_hold_is_no_obstacle(self, tmp_path: Path) -> None:
        entry = {"config": {"name": "m", "base_path": "/m", "nireq": 4}}
        (tmp_path / "config.json").write_text(json.dumps({"model_config_list": [entry], "pipeline_config_list": []}))
        assert ConfigFile(tmp_path / "config.json").restore() == {"m": "/m"}

    def test_is_never_half_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file = ConfigFile(tmp_path / "config.json")
        file.write({"old": "/old"})

        def crash(self: Path, target: Path) -> None:
            raise OSError("the machine is gone")

        monkeypatch.setattr(Path, "replace", crash)
        with pytest.raises(OSError, match="gone"):
            file.write({"new": "/new"})
        monkeypatch.undo()
        assert file.restore() == {"old": "/old"}


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("100ms", 0.1), ("3s", 3), ("1m30s", 90), ("1.5h", 5400), ("250us", 0.00025), ("1µs", 1e-6), ("0", 0), (".5s", 0.5), ("+2s", 2)],
    )
    def test_as_go_writes_them(self, text: str, seconds: float) -> None:
        assert duration(text) == pytest.approx(seconds)

    @pytest.mark.parametrize("text", ["", "3", "3 s", "s", "-1s", "1d", "1s2", "0x1s", "٣s", "1e3s"])
    def test_what_is_none_is_refused_by_its_variables_name(self, text: str) -> None:
        with pytest.raises(SettingsError, match="BATCH_WAIT_TIME_MIN="):
            OpenVinoSettings.load({"BATCH_WAIT_TIME_MIN": text})


class TestSettings:
    def test_defaults_are_those_of_modelmesh(self) -> None:
        settings = OpenVinoSettings.load({})
        assert (settings.quiet, settings.longest, settings.reload_timeout) == (0.1, 3.0, 30.0)
        assert (settings.config_file, settings.data_address) == (None, "127.0.0.1:8001")

    @pytest.mark.parametrize(
        ("variables", "message"),
        [
            ({"BATCH_WAIT_TIME_MIN": "5s"}, "BATCH_WAIT_TIME_MAX"),
            ({"OVMS_RELOAD_TIMEOUT": "0"}, "OVMS_RELOAD_TIMEOUT"),
            ({"RUNTIME_DATA_ENDPOINT": "localhost:1"}, "RUNTIME_DATA_ENDPOINT"),
        ],
    )
    def test_what_makes_no_sense_is_named(self, variables: dict[str, str], message: str) -> None:
        with pytest.raises(SettingsError, match=message):
            OpenVinoSettings.load(variables)


class TestStatuses:
    def test_are_read(self) -> None:
        status = {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": "OK"}}
        found = statuses.parse({"m": {"model_version_status": [status]}, "empty": {"model_version_status": []}})
        assert found == {"m": (statuses.Version("2", "AVAILABLE", "OK", "OK"),), "empty": ()}
        assert statuses.serves(found["m"])
        assert not statuses.held(found["empty"])

    @pytest.mark.parametrize("document", [None, [], 3, {"m": 3}, {"m": {}}, {"m": {"model_version_status": [{}]}}])
    def test_anything_else_is_told_apart(self, document: Any) -> None:
        with pytest.raises(ValueError, match="not a list of models' states"):
            statuses.parse(document)

    def test_one_version_that_serves_is_enough(self) -> None:
        versions = (statuses.Version("1", "END", "OK", ""), statuses.Version("2", "AVAILABLE", "OK", ""))
        assert statuses.serves(versions)
        assert statuses.held(versions)
