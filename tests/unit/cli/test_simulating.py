"""`mesh simulate` and `mesh trace`: figures as a table, a drawing and JSON; wrong words named before anything is simulated."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mesh.cli.app import commands
from mesh.simulation import trace as traces


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_STATE_HOME", "XDG_DATA_HOME", "MESH_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("MESH_DIR", raising=False)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small trace that the command made."""
    file = tmp_path / "made.csv"
    result = mesh("trace", "make", str(file), "--models", "12", "--seconds", "10", "--rate", "8", "--size", "60Mi")
    assert result.exit_code == 0, result.stderr
    assert "calls: " in result.stderr
    return file


def mesh(*arguments: str) -> Result:
    return CliRunner().invoke(commands(), list(arguments))


def test_a_table_with_policies_side_by_side_and_their_course_over_time(made: Path, tmp_path: Path) -> None:
    drawing = tmp_path / "course.svg"
    result = mesh(
        "simulate", str(made), "--pods", "2", "--capacity", "512Mi", "--policy", "mesh", "--policy", "random", "--plot", str(drawing)
    )
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["MESH", "RANDOM"]
    calls = len(traces.read(made).accesses)
    assert lines[1].split() == ["calls", str(calls), str(calls)]
    assert [line.split()[0] for line in lines[2:5]] == ["hit", "first", "of"]
    assert "mesh over time" in lines
    assert "random over time" in lines
    assert not drawing.exists()
    for policy in ("mesh", "random"):
        assert (tmp_path / f"course-{policy}.svg").read_text().startswith("<svg ")


def test_json_has_all_figures_and_is_the_same_again(made: Path) -> None:
    arguments = ("simulate", str(made), "--pods", "1", "--capacity", "512MiB", "--seed", "5", "-o", "json")
    first, again = mesh(*arguments), mesh(*arguments)
    assert first.exit_code == 0, first.stderr
    assert first.stdout == again.stdout
    told = json.loads(first.stdout)
    assert told["setup"]["capacity"] == 512 << 20
    assert told["calls"] == sum(moment["calls"] for moment in told["overTime"])


def test_wide_lists_the_course_and_a_setting_reaches_the_routers(made: Path) -> None:
    result = mesh("simulate", str(made), "--capacity", "1Gi", "--pods", "1", "--set", "MESH_MAX_CALLS=1", "-o", "wide")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith("mesh     ")
    failed = next(line for line in result.stdout.splitlines() if line.startswith("calls without an answer"))
    assert failed.endswith(" overloaded"), failed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "best"], "--policy best: there is no such policy; there are mesh, random, hashed"),
        (["--capacity", "much"], "--capacity much: it is no size; it reads e.g. 2Gi, 512MiB, 1.5GB or a number of bytes"),
        (["--capacity", "5Ki"], "--capacity 5Ki: a pod has at least 1 MiB for models"),
        (["--capacity", "9999999Ti"], "--capacity 9999999Ti: it is at least 1 KiB, and less than an exbibyte"),
        (["--set", "MESH_MAX_CALLS"], "--set MESH_MAX_CALLS: it reads --set NAME=VALUE"),
        (["--set", "NOTHING=1"], "--set NOTHING=1: there is no setting NOTHING; `mesh settings` lists them"),
        (["--set", "MESH_MAX_CALLS=x"], "MESH_MAX_CALLS"),
        (["--plot", "course.png"], "--plot course.png: the drawing is an SVG"),
        (["--pods", "0"], "--pods"),
        (["--deadline", "0"], "--deadline"),
    ],
)
def test_wrong_words_are_named(made: Path, arguments: list[str], said: str) -> None:
    result = mesh("simulate", str(made), *arguments)
    assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


def test_a_wrong_trace_and_a_place_that_takes_no_file_are_named(made: Path, tmp_path: Path) -> None:
    (tmp_path / "wrong.csv").write_text("time_s,model,size_bytes,load_ms\n0,a,big,1\n")
    result = mesh("simulate", str(tmp_path / "wrong.csv"))
    assert (result.exit_code, "wrong.csv, line 2, column size_bytes: 'big' is no number of bytes" in result.stderr) == (2, True)
    assert mesh("simulate", str(tmp_path / "none.csv")).exit_code == 1
    result = mesh("trace", "make", str(tmp_path / "none" / "t.csv"))
    assert (result.exit_code, "cannot be written: No such file or directory" in result.stderr) == (1, True)
    result = mesh("trace", "make", str(tmp_path / "t.csv"), "--rate", "1e6", "--seconds", "1e6")
    assert (result.exit_code, "these are 1000000000000 calls" in result.stderr) == (2, True)
    result = mesh("simulate", str(made), "--capacity", "1Gi", "--plot", str(tmp_path / "none" / "p.svg"))
    assert (result.exit_code, "p.svg cannot be written" in result.stderr) == (1, True)


def test_recording_nobody_is_told_soon(tmp_path: Path) -> None:
    result = mesh("trace", "record", str(tmp_path / "t.csv"))
    assert (result.exit_code, "`mesh up` starts one" in result.stderr) == (1, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = mesh("trace", "record", str(tmp_path / "t.csv"), "--pod", url)
    assert (result.exit_code, f"no pod answers ({url})" in result.stderr) == (1, True), result.stderr
    for wrong in (str(tmp_path), os.path.join(tmp_path, "none", "t.csv")):
        result = mesh("trace", "record", wrong, "--pod", url)
        assert (result.exit_code, f"{wrong} cannot be written" in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "t.csv").exists()
