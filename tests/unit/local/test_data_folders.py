"""One mesh has a data folder at a time, and every command finds it."""

import json
import os
import socket
from pathlib import Path

import pytest

from mesh.core.errors import Conflict, Unknown
from mesh.local import ports, state
from mesh.local.state import Context, DataFolder


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def context(folder: DataFolder, pid: int = 0) -> Context:
    return Context(pid or os.getpid(), str(folder.root), str(folder.socket), 18033, 18008)


def test_a_second_mesh_is_refused_and_told_who_has_the_folder(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path / "data")
    with folder.acquire(context(folder, 4242)), pytest.raises(Conflict, match=r"pid 4242, data folder .*/data, ports 18033 and 18008"):
        folder.acquire(context(folder))
    folder.acquire(context(folder)).close()


def test_commands_find_the_running_mesh_and_not_the_one_that_died(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path / "data")
    with folder.acquire(context(folder)):
        assert state.publish(context(folder))
        assert state.find(None) == state.find(tmp_path / "data") == context(folder)
    with pytest.raises(Unknown, match="no mesh runs on this machine; `mesh up` starts one"):
        state.find(None)
    with pytest.raises(Unknown, match="no mesh runs with the data folder"):
        state.find(tmp_path / "data")


def test_the_first_mesh_stays_the_current_one_until_it_ends(tmp_path: Path) -> None:
    one, other = DataFolder.at(tmp_path / "one"), DataFolder.at(tmp_path / "other")
    with one.acquire(context(one)), other.acquire(context(other)):
        assert state.publish(context(one))
        assert not state.publish(context(other))
        state.withdraw(context(other))
        assert state.find(None) == context(one)
        state.withdraw(context(one))
        assert state.publish(context(other))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_a_damaged_context_file_means_no_mesh(text: str) -> None:
    state.write_atomically(state.context_file(), text)
    assert state.current() is None


def test_a_write_that_fails_leaves_the_old_text_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    state.write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        state.write_atomically(path, "new \ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_socket_in_a_very_long_folder_is_reached(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120) / "control.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(state.socket_address(path))
        listener.listen(1)
        client.connect(state.socket_address(path))
    assert path.exists()


def test_chosen_ports_are_distinct_and_free_and_a_taken_one_names_its_holder() -> None:
    chosen = ports.choose(20)
    assert len(set(chosen)) == 20
    with socket.socket() as listener:
        listener.bind((ports.HOST, 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        assert not ports.is_free(port)
        assert ports.holder(port) == os.getpid()
    assert ports.is_free(port)
    assert ports.holder(port) is None


def test_the_context_is_plain_json(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path)
    with folder.acquire(context(folder)):
        state.publish(context(folder))
        assert json.loads(state.context_file().read_text())["data"] == str(tmp_path)
