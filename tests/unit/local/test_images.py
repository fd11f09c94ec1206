"""A folder that stands for an image: what is read of it, which image it is for, and what is wrong with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mesh.core.errors import Malformed
from mesh.local import images
from mesh.local.images import Images

REFERENCE = "registry.example.com:5000/team/server"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "server"
    made.mkdir()
    (made / "model.py").write_text("class Model: ...\n")
    return made


def entrypoint(folder: Path, mode: int = 0o755) -> Path:
    file = folder / "entrypoint"
    file.write_text("#!/bin/sh\nexec true\n")
    file.chmod(mode)
    return file


def test_a_folder_without_files_of_ours_is_code_for_the_python_that_runs_the_mesh(folder: Path) -> None:
    found = images.read(REFERENCE, folder)
    assert (found.requirements, found.environment, found.entrypoint) == ("", "", None)
    needed = found.needs("")
    assert (needed.path, needed.made) == (Path(sys.prefix), True)


def test_what_its_files_say_is_what_it_is_run_with(folder: Path) -> None:
    file = entrypoint(folder)
    (folder / "environment").write_text("mlserver\n")
    found = images.read(REFERENCE, folder)
    assert found.entrypoint == file
    assert found.needs("triton").name == "mlserver"
    assert images.read(REFERENCE, folder).needs("").listed.startswith("# MLServer")


def test_requirements_stand_alone_or_add_to_the_list_that_is_named(folder: Path) -> None:
    (folder / "requirements.txt").write_text("mlserver-mlflow==1.7.1\n")
    alone = images.read(REFERENCE, folder).needs("mlserver")
    assert alone.listed == "mlserver-mlflow==1.7.1"
    assert not alone.made
    (folder / "environment").write_text("mlserver")
    together = images.read(REFERENCE, folder).needs("")
    assert together.listed.endswith("\nmlserver-mlflow==1.7.1")
    assert "mlserver-sklearn==" in together.listed
    assert together.path != alone.path


def test_a_virtual_environment_is_named_by_its_path_from_the_folder(folder: Path) -> None:
    python = folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    (folder / "environment").write_text("./venv")
    needed = images.read(REFERENCE, folder).needs("mlserver")
    assert (needed.path, needed.made) == (folder / "venv", True)


def test_another_content_is_another_image_but_what_python_leaves_behind_is_none(folder: Path) -> None:
    before = images.read(REFERENCE, folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.pyc").write_text("compiled")
    assert images.read(REFERENCE, folder) == before
    (folder / "model.py").write_text("class Model: pass\n")
    assert images.read(REFERENCE, folder) != before


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("environment", "nothing", "'nothing' is no list of `mesh environment list`"),
        ("environment", "./no-such", "is no virtual environment: it has no bin/python"),
        ("environment", "mlserver\ntriton", "it has one line"),
    ],
)
def test_an_environment_that_does_not_exist_is_told_with_the_file_that_names_it(folder: Path, name: str, text: str, words: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(Malformed, match="environment") as refusal:
        images.read(REFERENCE, folder).needs("")
    assert words in refusal.value.message
    assert str(folder / name) in refusal.value.message


def test_a_folder_that_cannot_stand_for_an_image_says_why(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(Malformed, match=f"image {REFERENCE}={tmp_path}/no: there is no such folder"):
        images.read(REFERENCE, tmp_path / "no")
    entrypoint(folder, 0o644)
    with pytest.raises(Malformed, match="cannot be executed; `chmod \\+x` it"):
        images.read(REFERENCE, folder)
    (folder / "entrypoint").unlink()
    (folder / "requirements.txt").write_bytes(b"\xff")
    with pytest.raises(Malformed, match="it cannot be read"):
        images.read(REFERENCE, folder)


@pytest.mark.parametrize("text", ["", "ref", "=dir", "ref="])
def test_an_option_reads_reference_and_folder(text: str) -> None:
    with pytest.raises(Malformed, match="write REF=DIR"):
        images.option(text)


def test_the_last_equals_sign_parts_an_option_and_a_relative_folder_is_meant_from_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert images.option("a=b@sha256:1=server") == ("a=b@sha256:1", folder)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        (f"{REFERENCE}:1.0", REFERENCE),
        (REFERENCE, REFERENCE),
        (f"{REFERENCE}@sha256:abc", REFERENCE),
        (f"{REFERENCE}:1.0@sha256:abc", REFERENCE),
        ("server:1", "server"),
    ],
)
def test_the_colon_of_a_registrys_port_is_no_tag(reference: str, name: str) -> None:
    assert images.repository(reference) == name


def test_the_four_servers_need_no_folder_whatever_their_tag() -> None:
    assert images.is_known("seldonio/mlserver:1.3.2")
    assert images.is_known("docker.io/pytorch/torchserve:0.9")
    assert images.is_known("")
    assert not images.is_known("example.com/seldonio/mlserver")


def test_an_exact_reference_goes_before_one_without_tag_and_none_stands_for_others(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    known = Images(tmp_path / "images.json", {REFERENCE: folder, f"{REFERENCE}:2": other})
    found = {tag: known.find(f"{REFERENCE}:{tag}") for tag in ("1", "2")}
    assert {tag: one and one.folder for tag, one in found.items()} == {"1": folder, "2": other}
    assert known.find("registry.example.com/other") is None


def test_what_is_set_is_kept_and_what_the_command_line_says_goes_before_it(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "images.json"
    Images(file, {}).put(REFERENCE, folder)
    assert Images(file, {}).folders() == {REFERENCE: folder}
    assert Images(file, {REFERENCE: tmp_path}).folders() == {REFERENCE: tmp_path}
    later = Images(file, {REFERENCE: tmp_path})
    later.put(REFERENCE, folder)
    assert later.folders() == {REFERENCE: folder}
    later.remove(REFERENCE)
    later.remove("never set")
    assert Images(file, {}).folders() == {}


def test_what_is_kept_and_spoilt_is_told_and_nothing_is_set_that_is_no_image(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "images.json"
    known = Images(file, {})
    with pytest.raises(Malformed, match="there is no such folder"):
        known.put(REFERENCE, tmp_path / "no")
    assert not file.exists()
    file.write_text("[1]")
    with pytest.raises(Malformed, match="remove it, and set the images again"):
        Images(file, {})


def test_a_folder_of_too_many_files_was_not_meant(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_MOST_FILES", 3)
    for number in range(3):
        (folder / str(number)).touch()
    with pytest.raises(Malformed, match="is it the folder that was meant"):
        images.read(REFERENCE, folder)
    os.unlink(folder / "0")
    assert images.read(REFERENCE, folder).digest
