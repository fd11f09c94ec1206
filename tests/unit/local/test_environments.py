"""Environments are made once, in place, under a lock; what is half made is made again."""

import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from mesh.core.errors import Failed, Unknown
from mesh.local import environments
from mesh.local.environments import MARKER, Step, _Reading


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that need nothing from outside."""
    monkeypatch.setenv("MESH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "_lists", lambda: {"empty": "# nothing\n", "broken": "this is == no requirement\n"})


def test_the_lists_of_the_project_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert "mlserver" in [one.name for one in environments.known()]


def test_an_interrupted_making_is_done_again_and_two_at_once_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    half = environments.find("empty").path
    half.mkdir(parents=True)
    (half / "rest").touch()
    steps: list[str] = []
    threads = [threading.Thread(target=lambda: environments.ensure("empty", progress=lambda s: steps.append(s.text))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert steps.count("removing what an interrupted attempt left") == 1
    assert steps.count("making a virtual environment") == 1
    assert not (half / "rest").exists()
    assert (half / MARKER).exists()
    assert environments.ensure("empty", progress=lambda s: pytest.fail(s.text)) == half
    monkeypatch.setattr(environments, "_lists", lambda: {"empty": "# another list\n"})
    assert environments.find("empty").path != half


def test_a_failure_shows_pips_words_and_what_to_do_and_leaves_no_marker() -> None:
    with pytest.raises(Failed) as caught:
        environments.ensure("broken")
    assert "this is == no requirement" in caught.value.message
    assert "mesh environment make broken" in caught.value.message
    assert not environments.find("broken").made


def test_where_there_is_no_list_of_that_name_no_command_is_told_that_would_know_none() -> None:
    with pytest.raises(Failed, match="then do the same again") as caught:
        environments.ensure_made(environments.of_list("image-mine", "this is == no requirement"))
    assert "mesh environment make" not in caught.value.message


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(Unknown, match="there is no environment 'x'; known are broken, empty"):
        environments.ensure("x")


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(Failed, match=r"cannot be made in .*/cache/environments"):
        environments.ensure("empty")


def test_progress_is_read_off_pips_lines() -> None:
    steps: list[Step] = []
    read = _Reading(steps.append)
    for line in (
        "Collecting mlserver==1.7.1 (from -r list.txt (line 2))",
        "  Downloading mlserver-1.7.1-py3-none-any.whl.metadata (1 kB)",
        "Looking in links: somewhere",
        "Installing collected packages: a, b, c",
    ):
        read(line)
    assert steps == [
        Step("collecting mlserver==1.7.1", 1),
        Step("downloading mlserver-1.7.1-py3-none-any.whl.metadata", 1),
        Step("installing 3 packages", 3, 3),
    ]


def test_what_is_installed_without_its_dependencies_and_linked_for_libraries_that_nothing_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    _wheel(
        tmp_path,
        "needy",
        {"needy/lib/libreal.so": "a library", "needy/lib/libpresent.so.1": "its own"},
        "Requires-Dist: nowhere-to-be-found",
    )
    listed = f"""# without dependencies: needy @ {(tmp_path / "needy-1.0-py3-none-any.whl").as_uri()}
# without dependencies: other==1.0; platform_system == "Nowhere"
# never called: needy/lib/libreal.so as libabsent.so.13 libpresent.so.1
# never called: missing/lib/libother.so as libnothing.so.1
"""
    monkeypatch.setattr(environments, "_lists", lambda: {"bare": listed})
    folder = environments.ensure("bare") / site
    assert (folder / "needy/lib/libabsent.so.13").read_text() == "a library"
    assert (folder / "needy/lib/libpresent.so.1").read_text() == "its own"
    assert not (folder / "missing").exists()
    flags = subprocess.run(
        [folder.parents[2] / "bin" / "python", "-c", "import sys; print(sys.getdlopenflags())"], capture_output=True, text=True, check=True
    )
    assert int(flags.stdout) == os.RTLD_LAZY


def _wheel(folder: Path, name: str, files: dict[str, str], *metadata: str) -> None:
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *metadata, ""]))
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
