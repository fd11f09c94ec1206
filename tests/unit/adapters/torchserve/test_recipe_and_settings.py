"""How a local mesh starts TorchServe, what its adapter is told, and what is said where something is missing or wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh.core.errors import Failed
from mesh.local.servers import find
from mesh.local.servers.base import Place
from mesh.local.servers.torchserve import SERVER, find_java
from mesh.manifests.runtimes import PodPlan
from runtime_adapters.settings import SettingsError
from runtime_adapters.torchserve import layout
from runtime_adapters.torchserve.settings import TorchServeSettings

PORTS = {"data": 1, "grpc": 2, "management": 3, "http": 4, "management_http": 5, "metrics": 6}


def java(folder: Path, says: str, code: int = 0) -> Path:
    """A `java` that says this of its version."""
    folder.mkdir(parents=True)
    program = folder / "java"
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    program.chmod(0o755)
    return program


def place(tmp_path: Path, **inherited: str) -> Place:
    (tmp_path / "env" / "lib/python3.11/site-packages/ts/frontend").mkdir(parents=True)
    given = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", **inherited}
    return Place("pod-0/torchserve", tmp_path / "env", tmp_path / "server", tmp_path / "models", tmp_path / "log", PORTS, given)


def plan(**server_env: str) -> PodPlan:
    return PodPlan("torchserve-0.x", "torchserve", (), 2, 1, 3, server_env=server_env)


class TestTheRecipe:
    def test_is_found_by_its_server_type(self) -> None:
        assert find("torchserve").environment == "torchserve"

    def test_forgets_the_configuration_of_an_earlier_life(self, tmp_path: Path) -> None:
        java(tmp_path / "bin", 'openjdk version "21.0.1" 2023-10-17')
        old = tmp_path / "models" / SERVER.layout / layout.PROPERTIES
        old.parent.mkdir(parents=True)
        old.touch()
        SERVER.prepare(place(tmp_path), plan())
        assert not old.exists()
        assert {entry.name for entry in (tmp_path / "server").iterdir()} == {"logs", "tmp"}

    def test_has_this_pods_ports_and_folders_and_keeps_what_the_container_may_say(self, tmp_path: Path) -> None:
        program = java(tmp_path / "bin", 'openjdk version "17.0.9" 2023-10-17')
        here = place(tmp_path)
        command = SERVER.command(here, plan(TS_DEFAULT_WORKERS_PER_MODEL="2", TS_INFERENCE_ADDRESS="http://0.0.0.0:8080"))
        assert str(program) in command.argv
        assert f"{tmp_path / 'env'}/bin/python" in command.argv
        found = command.environment
        assert found["TS_CONFIG_FILE"] == str(tmp_path / "models" / SERVER.layout / layout.PROPERTIES)
        assert found["TS_MANAGEMENT_ADDRESS"] == "http://127.0.0.1:5"
        assert found["TS_METRICS_ADDRESS"] == "http://127.0.0.1:6"
        assert found["TS_DEFAULT_WORKERS_PER_MODEL"] == "2"
        assert "TS_INFERENCE_ADDRESS" not in found
        adapter = SERVER.adapter(here, plan())
        assert {adapter[name] for name in ("RUNTIME_PORT", "TORCHSERVE_GRPC_PORT", "TORCHSERVE_HTTP_PORT")} == {"2", "3", "4"}
        assert SERVER.data_endpoint(here) == "port:1"

    def test_without_torchserve_says_how_to_make_it(self, tmp_path: Path) -> None:
        java(tmp_path / "bin", 'openjdk version "17.0.9" 2023-10-17')
        here = place(tmp_path)
        (here.environment / "lib/python3.11/site-packages/ts/frontend").rmdir()
        with pytest.raises(Failed, match=r"TorchServe is not installed in .*: make it again with `mesh environment make torchserve`"):
            SERVER.command(here, plan())


class TestJava:
    @pytest.mark.parametrize("says", ['openjdk version "17" 2021-09-14', 'java version "21.0.2"', 'openjdk version "25-ea" 2025'])
    def test_of_the_path_is_taken(self, tmp_path: Path, says: str) -> None:
        program = java(tmp_path / "bin", says)
        assert find_java({"PATH": f"{program.parent}:/usr/bin:/bin"}) == str(program)

    def test_of_java_home_comes_first(self, tmp_path: Path) -> None:
        java(tmp_path / "path", 'openjdk version "21"')
        program = java(tmp_path / "home" / "bin", 'openjdk version "17"')
        assert find_java({"PATH": f"{tmp_path / 'path'}:/usr/bin:/bin", "JAVA_HOME": str(tmp_path / "home")}) == str(program)

    @pytest.mark.parametrize(("says", "code"), [('openjdk version "11.0.2" 2019', 0), ('java version "1.8.0_402"', 0), ("?", 0), ("", 1)])
    def test_that_is_too_old_or_does_not_run_says_which_and_what_to_install(self, tmp_path: Path, says: str, code: int) -> None:
        program = java(tmp_path / "bin", says, code)
        with pytest.raises(Failed, match=rf"needs Java 17 or later, and {program} says .*: install Java 17 or later"):
            find_java({"PATH": f"{program.parent}:/usr/bin:/bin"})

    def test_that_is_not_there_says_where_it_was_looked_for(self, tmp_path: Path) -> None:
        with pytest.raises(Failed, match=r"there is no `java` on the PATH: install Java 17"):
            find_java({"PATH": str(tmp_path)})
        with pytest.raises(Failed, match=rf"JAVA_HOME is {tmp_path}, but {tmp_path}/bin/java cannot be run"):
            find_java({"PATH": os.environ["PATH"], "JAVA_HOME": str(tmp_path)})


class TestTheSettings:
    def test_are_those_of_modelmesh_unless_told_otherwise(self) -> None:
        settings = TorchServeSettings.load({})
        assert (settings.listen, settings.http_port, settings.batch_size, settings.batch_delay) == ("127.0.0.1:7070", 8083, 0, 0)
        assert TorchServeSettings.load({"RUNTIME_DATA_ENDPOINT": "unix:/run/ts.sock"}).listen == "unix:/run/ts.sock"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("RUNTIME_DATA_ENDPOINT", "7070"),
            ("RUNTIME_DATA_ENDPOINT", "unix:relative"),
            ("TORCHSERVE_GRPC_PORT", "70000"),
            ("REQUEST_BATCH_SIZE", "-1"),
            ("MAX_BATCH_DELAY_SECS", str(2**31)),
            ("REQUEST_BATCH_SIZE", ""),
        ],
    )
    def test_that_make_no_sense_are_named(self, name: str, value: str) -> None:
        with pytest.raises(SettingsError, match=f"{name}='{value}': "):
            TorchServeSettings.load({name: value})
